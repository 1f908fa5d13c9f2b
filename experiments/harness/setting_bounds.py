"""Bounds of settings, by names that experiments share.

Torch does not check: it raises in the middle of a run with 0 threads, and aborts the process with a
hundred million.
"""

from collections.abc import Mapping
from math import inf

from zia_core.errors import ZiaError

MAX_THREADS = 1024
COUNTS = [
    "batch_size",
    "micro_batch_size",
    "token_budget",
    "eval_tokens",
    "loss_chunk",
    "max_length",
    "new_tokens",
    "prompt_length",
    "num_layers",
    "adapted_blocks",
    "backbone_layers",
    "adapted_blocks",
    "lora_rank",
    "bottleneck",
    "resolution",
    "visual_prompts",
    "max_question",
    "n_best",
    "max_answer_tokens",
    "answered_together",
    "query_width",
    "blocks",
    "query_heads",
    "dim",
    "depth",
    "heads",
    "mlp_ratio",
    "positions",
    "row_tokens",
    "documents",
    "tokenizer_documents",
    "images",
]
SHARES = [
    *("lora_dropout", "prefix_dropout", "hidden_dropout", "visual_prompt_dropout", "dropout"),
    *("gray_probability", "mix_probability", "label_smoothing"),
]
BOUNDS: dict[str, tuple[float, float]] = {
    "threads": (1, MAX_THREADS),
    **dict.fromkeys(COUNTS, (1, 10**9)),
    **dict.fromkeys(SHARES, (0, 1)),
    **dict.fromkeys(("epochs", "warmup_epochs", "selection_epochs"), (0, 10**6)),
    **dict.fromkeys(
        ("evaluations", "answered", "stride", "development", "crop_padding", "held_out"), (0, 10**9)
    ),
    "overhead_tokens": (0, 10**9),
    **dict.fromkeys(("peak_lr", "min_lr", "projection_lr", "weight_decay", "clip_norm"), (0, inf)),
    **dict.fromkeys(("mixup_alpha", "cutmix_alpha"), (0, inf)),
    **dict.fromkeys(("beta1", "beta2"), (0, 0.999999)),
}


def check(settings: Mapping[str, object]) -> None:
    """Raise ZiaError for the first setting out of bounds; None is always within."""
    for name, value in settings.items():
        low, high = BOUNDS.get(name, (-inf, inf))
        if isinstance(value, int | float) and not low <= value <= high:
            wanted = f"at least {low}" if high == inf else f"between {low} and {high:,}"
            raise ZiaError(f"setting {name} must be {wanted}, not {value!r:.60}")
