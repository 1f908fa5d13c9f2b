"""The methods of the experiments with images, and a language model made ready for each.

A name that ends in `-text` sees no image: the floor that shows what the image adds.
"""

from typing import TYPE_CHECKING, Any

from experiments.language.settings import ImageTextSettings
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from torch import nn

TEXT = "-text"
# What a method changes besides what is trained.
METHODS: dict[str, dict[str, Any]] = {
    "zero-init": {},
    "zero-init-text": {},
    "zero-init-queries": {"projection": "queries"},
    "random-init": {"softmax": "joint"},
    "random-init-text": {"softmax": "joint"},
    "lora": {"peak_lr": 3e-4},  # Alpaca-LoRA's default
    "lora-text": {"peak_lr": 3e-4},
    "frozen": {"epochs": 0.0, "warmup_epochs": 0.0},
}


def sees_images(method: str) -> bool:
    """Whether the method has a visual projection."""
    return not method.endswith(TEXT) and method != "frozen"


def prepare(
    model: "nn.Module", method: str, settings: ImageTextSettings, encoder_width: int | None
) -> "nn.Module":
    """Return the model with the method's trainable parameters; draws from torch's generator.

    Zero-init and random-init add the projected image to their prompts. LoRA has no prompts: it gets
    the same projection's vector as one token in front of the words.

    Args:
        encoder_width: channels of the encoder's features; None for methods without images.
    """
    from zia_core import VisualConfig, ZeroInitConfig, attach, attach_visual, baselines
    from zia_core.visual.projections import GlobalProjection

    s = settings
    visual = None
    if encoder_width is not None:
        visual = VisualConfig(
            encoder_width=encoder_width,
            projection=s.projection,
            depths=s.depths if s.projection == "global" else s.depths[-1:],
            bottleneck=s.bottleneck,
            activation=s.activation,
            query_width=s.query_width,
            blocks=s.blocks,
            heads=s.query_heads,
        )
    if method == "frozen":
        return baselines.frozen(model)
    if method.startswith("lora"):
        if visual is not None and visual.projection != "global":
            raise ZiaError("LoRA gets an image as one token: set projection=global")
        width = model.get_input_embeddings().weight.shape[1]  # type: ignore[operator]
        model = baselines.lora(model, s.lora_rank, s.lora_alpha, s.lora_dropout)
        if visual is not None:
            parameter = next(p for p in model.parameters() if p.requires_grad)
            projection = GlobalProjection(visual, width).to(parameter.device)
            model.add_module("visual_projection", projection)
        return model
    attach(
        model,
        ZeroInitConfig(
            prompt_length=s.prompt_length,
            num_layers=s.num_layers,
            softmax=s.softmax,
            gate_activation=s.gate_activation,
            gate_init=s.gate_init,
        ),
    )
    return model if visual is None else attach_visual(model, visual)


def projection_parameters(model: "nn.Module") -> int:
    """How many of the trained parameters are the projection's."""
    from zia_core import visual_projection

    projection = visual_projection(model)
    return 0 if projection is None else sum(p.numel() for p in projection.parameters())
