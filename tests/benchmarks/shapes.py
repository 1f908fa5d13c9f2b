"""Sizes at which every benchmark takes well under a second."""

LLAMA = {
    "width": 32,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "mlp": 48,
    "vocabulary": 64,
    "prompt_length": 3,
    "adapted_layers": 2,
}
ENCODERS = {
    "vit_width": 32,
    "vit_layers": 2,
    "vit_heads": 4,
    "image_size": 16,
    "patch_size": 8,
    "vit_prompts": 3,
    "roberta_width": 32,
    "roberta_layers": 2,
    "roberta_heads": 4,
    "vocabulary": 32,
    "tokens": 8,
    "roberta_prompts": 3,
}
TINY: dict[str, dict[str, object]] = {
    "attention_core": {"heads": 2, "tokens": 12, "head_dim": 8, "prompt_length": 3},
    "train_step": {**LLAMA, "tokens": 12},
    "decode": {**LLAMA, "batch": 2, "tokens": 6, "new_tokens": 4},
    "encoders": ENCODERS,
    "data_path": {**LLAMA, "layers": 1, "adapted_layers": 1, "batch": 8, "token_budget": 1024},
    "trunk_reuse": {
        "width": 32,
        "layers": 3,
        "heads": 4,
        "image_size": 16,
        "patch_size": 8,
        "images": 2,
        "prompt_length": 3,
        "adapted_layers": [1, 3],
    },
    "harness": {"steps": 5, "checkpoints": 1, "runs": 3},
    "llama7b": {**LLAMA, "dtype": "float32", "device": "cpu", "batch": 4, "matrix": 64},
}
