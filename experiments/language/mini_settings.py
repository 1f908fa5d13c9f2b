"""What the runs of `mini` have in common: the pocket LLaMA with the pocket ViT [ours]."""

from typing import Any

LAYERS = 5  # of 6: the lowest stays as it is, as the lowest two of the paper's 32
MINI: dict[str, Any] = {
    "encoder": "pocket-vit",
    "depths": (1, 2, 3, 4, 5, 6),
    "encoder_device": "cpu",
    "bottleneck": 64,
    "query_width": 64,
    "query_heads": 4,
    "num_layers": LAYERS,
    "peak_lr": None,
    "projection_lr": 3e-3,
    "selection_seed": 100,  # of no run that is reported
    "batch_size": 8,
    "micro_batch_size": 8,  # a second forward costs more here than padding does
    "answered_together": 100,
    "epochs": 1.0,
    "warmup_epochs": 0.1,
    "evaluations": 1,
    "token_budget": None,
    "eval_tokens": 8192,
    "new_tokens": 24,
    "device": "cpu",
    "precision": "fp32",
}
# The peak rates that are chosen from, the same number for every method.
PROMPT_RATES, LORA_RATES = (0.1, 0.3, 1.0), (3e-3, 1e-2, 3e-2)
