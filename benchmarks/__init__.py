"""Speed and memory compared with other implementations, interleaved in one process."""

# `python -m benchmarks.NAME` and `zia bench NAME`, in the order of the README.
BENCHMARKS = {
    "parity": "how exact every form is on every kernel",
    "attention_core": "the attention alone, and one layer: time, bytes kept",
    "train_step": "a training step, against PEFT's methods and full fine-tuning",
    "decode": "tokens a second of batched cached generation",
    "encoders": "ViT against VPT-deep, RoBERTa against P-tuning v2",
    "data_path": "Alpaca's lengths: padded to 512, to the longest, or cut",
    "trunk_reuse": "epochs that start at the lowest adapted block",
    "trunk_precision": "CLIP's adapted blocks and those below, in bfloat16",
    "scale": "how a step's cost grows with batch, tokens, prompts, layers",
    "harness": "what planning, recording and reporting cost",
    "many_runs": "how the harness's costs grow with runs in a folder, and workers",
    "llama7b": "LLaMA-7B's shape on one GPU: utilisation, memory, minutes",
    "rehearse_7b": "one step at LLaMA-7B's shape, on a CPU with 24 GB",
}
