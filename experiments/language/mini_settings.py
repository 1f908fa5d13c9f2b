"""Settings of `mini` for prompts with images: the pocket LLaMA and the pocket ViT [ours]."""

from typing import Any

from experiments.language.methods import METHODS
from experiments.training.selection import choose_from

MINI: dict[str, Any] = {
    "encoder": "pocket-vit",
    "depths": (1, 2, 3, 4, 5, 6),
    "encoder_device": "cpu",
    "bottleneck": 64,
    "query_width": 64,
    "query_heads": 4,
    "num_layers": 5,  # of 6: all but the lowest, as the paper adapts all but the lowest two of 32
    "projection_lr": 3e-3,
    "selection_seed": 100,  # never reported
    "batch_size": 8,
    "micro_batch_size": 8,  # here a second forward pass costs more than padding
    "answered_together": 100,
    "evaluations": 1,
    "token_budget": None,
    "eval_tokens": 8192,
    "new_tokens": 24,
    "device": "cpu",
    "precision": "fp32",
}
# Every trained method chooses from as many peak rates.
PROMPT_RATES, LORA_RATES = (0.03, 0.1, 0.3, 1.0), (1e-3, 3e-3, 1e-2, 3e-2)
MINI_METHODS: dict[str, dict[str, Any]] = {
    method: own | choose_from(LORA_RATES if method.startswith("lora") else PROMPT_RATES)
    for method, own in METHODS.items()
    if method != "frozen"
} | {"frozen": METHODS["frozen"]}
