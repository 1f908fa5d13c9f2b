"""The largest micro-batch of a language model's run, on torch's meta device."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from experiments.backbones import language_models, own, shapes, vision_models
from experiments.harness.needs import CONFIG, Source
from experiments.harness.spec import RunSpec
from experiments.io.files import read_json
from experiments.language.examples import Example, Examples, with_image_token
from experiments.language.losses import LanguageTask
from experiments.language.methods import prepare, sees_images
from experiments.language.settings import ImageTextSettings, LanguageSettings
from experiments.training.optimisation import in_four_bits, weights_dtype
from experiments.training.step_cost import MicroBatch, micro_batch

if TYPE_CHECKING:
    from torch import Tensor

CLIP_L14 = {"hidden_size": 1024, "image_size": 224, "patch_size": 14}


def language_micro_batch(
    spec: RunSpec, rows: int, tokens: int, labels: int, device: str = "meta"
) -> MicroBatch:
    """The micro-batch of as many rows of prompt and response.

    Args:
        spec: of the run.
        rows: examples.
        tokens: of each, the labels included.
        labels: response tokens of each.
        device: "meta"; another one to measure what is predicted.
    """
    import torch

    from zia_core.four_bit import quantise

    settings: LanguageSettings = spec.settings
    width = None
    if isinstance(settings, ImageTextSettings) and sees_images(spec.method):
        width = _encoder(settings.encoder)[0]
    backbone = shapes.language_model(
        language_models.get(spec.backbone), weights_dtype(settings), device
    )
    loaded = 0
    if in_four_bits(settings):
        loaded = sum(parameter.nbytes for parameter in backbone.parameters())
        backbone = quantise(backbone)
    with torch.device(device):
        model = prepare(backbone, spec.method, settings, width)
    examples = Examples(
        [Example(str(i), [0] * (tokens - labels), [0] * labels) for i in range(rows)]
    )
    task = LanguageTask(examples, examples, settings.eval_tokens, settings.loss_chunk)
    batch = task.batch(range(rows))
    if width is not None:
        batch |= _images(settings, width, batch["attention_mask"])
    found = micro_batch(model, settings, batch, task.loss, rows * tokens)
    return replace(found, loaded=loaded)


def _images(settings: Any, width: int, mask: "Tensor") -> dict[str, "Tensor"]:
    import torch

    rows = len(mask)
    if settings.projection == "global":
        features = torch.zeros(rows, len(settings.depths) * width)
    else:
        features = torch.zeros(rows, _encoder(settings.encoder)[1], width)
    has_image = torch.ones(rows, dtype=torch.bool)
    return {
        "features": features,
        "has_image": has_image,
        "image_attention_mask": with_image_token(has_image, mask),
    }


def _encoder(name: str) -> tuple[int, int]:
    """Channels and tokens of an image encoder; CLIP ViT-L/14's unless its config.json is here."""
    config = own.config_of(name) if own.is_own(name) else None
    if name in vision_models.BACKBONES or "architecture" in (config or {}):
        vit: Any = shapes.vit(vision_models.get(name))
        return vit.embed_dim, vit.patch_embed.num_patches + 1
    path = Source(name, name.rpartition("/")[2].partition("@")[0]).local / CONFIG
    sizes: Any = config or (read_json(path) if path.exists() else CLIP_L14)
    sizes = sizes.get("vision_config", sizes)
    width, image, patch = (int(sizes.get(size, known)) for size, known in CLIP_L14.items())
    return width, (image // patch) ** 2 + 1
