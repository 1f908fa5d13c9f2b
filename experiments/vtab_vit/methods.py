"""The methods: what they train, and the learning rates to choose from."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from experiments.vtab_vit.settings import Settings
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from timm.models import VisionTransformer
    from torch import nn

# Three rates for each method, the middle one first, so that it wins a tie.
RATES: dict[str, tuple[float, float, float]] = {
    # VPT searches 1e-4 to 5e-3 for a batch of 256, with AdamW: 2.5e-5 to 1.25e-3 for one of 64.
    "full": (3e-4, 1e-4, 1e-3),
    # A single layer on normalised features; VPT's rates are for SGD. On val200 of `digits`, 0.1 was
    # better than 0.03, and that than 0.01 [ours].
    "linear": (3e-2, 1e-2, 1e-1),
    # BitFit recommends larger rates than for full fine-tuning; ten times those here.
    "bias": (3e-3, 1e-3, 1e-2),
    "adapter": (3e-3, 1e-3, 1e-2),  # NOAH's script has 5e-3
    # A network from scratch: AdamW's customary 1e-3 [ours].
    "sidetune": (1e-3, 3e-4, 3e-3),
    "vpt-shallow": (3e-3, 1e-3, 1e-2),  # NOAH's script has 1e-3 and 5e-3
    "vpt-deep": (3e-3, 1e-3, 1e-2),
    "lora": (3e-3, 1e-3, 1e-2),  # NOAH's script has 5e-3
    # The paper's 9e-3, not scaled to the batch: in one step AdamW moves a gate, which starts at
    # zero, by the rate at most.
    "zero-init": (9e-3, 3e-3, 3e-2),
    "random-init": (9e-3, 3e-3, 3e-2),
    "pixel-probe": (3e-4, 1e-4, 1e-3),  # thousands of inputs that are not normalised [ours]
    # VPT's Partial-k: fine-tune the adapted blocks, here at the rates of full fine-tuning.
    "partial": (3e-4, 1e-4, 1e-3),
}
METHODS = tuple(RATES)
WEIGHT_DECAY, STRONG_DECAY = 0.01, 0.1  # VPT's largest, and ten times that for the middle rate
# Methods that train the lowest layers or read the image itself, and those of them that stay above
# if only the topmost blocks are adapted.
WITHOUT_TRUNK = ("full", "bias", "sidetune", "pixel-probe")
PARTLY = ("partial", "bias", "adapter", "vpt-shallow", "vpt-deep", "lora")


def candidates(method: str) -> tuple[tuple[float, float], ...]:
    """The pairs of learning rate and weight decay of a method: four, like every other's."""
    rates = RATES[method]
    return (*((rate, WEIGHT_DECAY) for rate in rates), (rates[0], STRONG_DECAY))


def wide_candidates(method: str) -> tuple[tuple[float, float], ...]:
    """Five rates from a tenth to ten times the middle one, so that the best is not at the edge."""
    middle, lower, higher = RATES[method]
    rates = (middle, lower, higher, middle / 10, middle * 10)
    return tuple((rate, WEIGHT_DECAY) for rate in rates)


def has_trunk(method: str, settings: Settings) -> bool:
    """Whether the blocks below the lowest adapted one are the same at every step."""
    partly = settings.adapted_blocks is not None and method in PARTLY
    return partly or method not in WITHOUT_TRUNK


def prepare(
    model: "VisionTransformer", method: str, classes: int, settings: Settings, seed: int
) -> "nn.Module":
    """Give the backbone a new head and the method's trainable parameters.

    The head is timm's, uniform within 1 / sqrt(C). It has its own draw, so that every method starts
    from the same head; other parameters are drawn after it. ZiaError for `partial` without a number
    of adapted blocks.
    """
    import torch

    from experiments.vtab_vit.pixel_probe import PixelProbe
    from zia_core import ZeroInitConfig, attach, baselines
    from zia_core.rng import derived_seed

    torch.manual_seed(derived_seed(seed, "head"))
    if method == "pixel-probe":
        return PixelProbe(settings.resolution, classes).to(next(model.parameters()).device)
    model.reset_classifier(classes)
    torch.manual_seed(derived_seed(seed, "parameters"))
    if method == "random-init" or method.startswith("zero-init"):
        # The paper does not define rand-init; here it is one softmax over prompts and patches.
        config = ZeroInitConfig(
            prompt_length=settings.prompt_length,
            num_layers=settings.num_layers,
            softmax="joint" if method == "random-init" else "separate",
        )
        return baselines.train_head(attach(model, config))
    adapted = settings.adapted_blocks if method in PARTLY else None
    if method == "partial" and adapted is None:
        raise ZiaError("partial fine-tunes the topmost blocks: set adapted_blocks to their number")
    with nullcontext() if adapted is None else _only_topmost(model, adapted):
        return _baseline(model, method, settings)


def _baseline(model: "VisionTransformer", method: str, settings: Settings) -> "nn.Module":
    from zia_core import baselines

    if method == "adapter":
        return baselines.houlsby(model, settings.bottleneck)
    if method == "sidetune":
        return baselines.side_tuning(model)
    if method == "lora":
        return baselines.lora_encoder(model, settings.lora_rank, settings.lora_alpha)
    if method in ("vpt-shallow", "vpt-deep"):
        return baselines.vpt(
            model,
            settings.visual_prompts,
            deep=method == "vpt-deep",
            dropout=settings.visual_prompt_dropout,
        )
    simple = {
        "full": baselines.full,
        "partial": baselines.full,
        "linear": baselines.linear_probe,
        "bias": baselines.bitfit,
    }
    return simple[method](model)


@contextmanager
def _only_topmost(model: "VisionTransformer", number: int) -> Iterator[None]:
    """Inside, the model has only its topmost blocks; on exit, all, and what is below is frozen.

    Hooks and modules that a method adds stay where they are. ZiaError if there are fewer blocks.
    """
    from torch import nn

    every = list(model.blocks)
    if not 1 <= number <= len(every):
        raise ZiaError(f"adapted_blocks={number}, but the backbone has {len(every)} blocks")
    model.blocks = nn.Sequential(*every[-number:])
    try:
        yield
    finally:
        model.blocks = nn.Sequential(*every)
    above = [*every[-number:], model.norm, model.fc_norm, model.head]
    kept = {id(parameter) for module in above for parameter in module.parameters()}
    for parameter in model.parameters():
        if id(parameter) not in kept:
            parameter.requires_grad_(False)
