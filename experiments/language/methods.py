"""Prepare a language model for a method; the methods of the experiments with images.

A method whose name ends in `-text` sees no images: it shows what the image adds.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from experiments.backbones import language_models, vision_models
from experiments.harness.needs import Source
from experiments.harness.spec import RunSpec
from experiments.images import encoders
from experiments.language.settings import ImageTextSettings, LanguageSettings
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from torch import nn

    from zia_core import VisualConfig

TEXT = "-text"
PROJECTION = (
    "visual_projection"  # the name of the projection's module, which `projection_lr` is for
)
# The settings that a method changes.
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


def weights(spec: RunSpec) -> tuple[Source, ...]:
    """The sources of a run's language model and, if the method sees images, of its encoder."""
    model = language_models.get(spec.backbone)
    if not sees_images(spec.method):
        return (model,)
    return model, encoders.source(spec.settings.encoder)


def with_clip(methods: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The methods, those that see images with CLIP ViT-B/16 (`make clip`) as their encoder.

    Its features are taken at six of 12 depths, as the paper's profile has six of ViT-L/14's 24.
    """
    eye = {"encoder": vision_models.CLIP.name, "depths": (2, 4, 6, 8, 10, 12)}
    return {method: own | (eye if sees_images(method) else {}) for method, own in methods.items()}


def prepare(
    model: "nn.Module", method: str, settings: LanguageSettings, encoder_width: int | None = None
) -> "nn.Module":
    """Return the model with the method's trainable parameters; draws from torch's generator.

    Zero-init and random-init add the projected image to their prompts. LoRA, which has none, gets
    the projected image as one token in front of the words.

    Args:
        model: a causal language model of transformers.
        method: of an experiment's table.
        settings: of the run; `ImageTextSettings` where there are images.
        encoder_width: channels of the image encoder; None for methods that see no images.
    """
    from zia_core import ZeroInitConfig, attach, attach_visual, baselines

    s = settings
    if method == "frozen":
        return baselines.frozen(model)
    if method == "full":
        return baselines.full(model)
    if method == "adaption-prompt":
        return baselines.adaption_prompt(model, s.prompt_length, s.num_layers)
    if method.startswith("lora"):
        model = baselines.lora(model, s.lora_rank, s.lora_alpha, s.lora_dropout)
        return model if encoder_width is None else _with_projection(model, s, encoder_width)
    config = ZeroInitConfig(
        prompt_length=s.prompt_length,
        num_layers=s.num_layers,
        softmax=s.softmax,
        gate_per=s.gate_per,
        gate_activation=s.gate_activation,
        gate_init=s.gate_init,
    )
    attach(model, config)
    return model if encoder_width is None else attach_visual(model, _visual(s, encoder_width))


def _with_projection(
    model: "nn.Module", settings: LanguageSettings, encoder_width: int
) -> "nn.Module":
    from zia_core.visual.projections import GlobalProjection

    visual = _visual(settings, encoder_width)
    if visual.projection != "global":
        raise ZiaError("LoRA gets an image as one token: set projection=global")
    width = model.get_input_embeddings().weight.shape[1]  # type: ignore[operator]
    trained = next(p for p in model.parameters() if p.requires_grad)
    model.add_module(PROJECTION, GlobalProjection(visual, width).to(trained.device))
    return model


def _visual(settings: LanguageSettings, encoder_width: int) -> "VisualConfig":
    from zia_core import VisualConfig

    assert isinstance(settings, ImageTextSettings)
    s = settings
    return VisualConfig(
        encoder_width=encoder_width,
        projection=s.projection,
        depths=s.depths if s.projection == "global" else s.depths[-1:],
        bottleneck=s.bottleneck,
        activation=s.activation,
        query_width=s.query_width,
        blocks=s.blocks,
        heads=s.query_heads,
    )


def projection_parameters(model: "nn.Module") -> int:
    """The number of trained parameters of the visual projection."""
    from zia_core import visual_projection

    projection = visual_projection(model)
    return 0 if projection is None else sum(p.numel() for p in projection.parameters())
