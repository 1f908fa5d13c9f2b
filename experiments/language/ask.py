"""A trained adapter tried out on one image, beside its backbone, which sees none."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.alpaca_llama.features import prompt_ids
from experiments.backbones import language_models
from experiments.harness import stored
from experiments.harness.experiment import Answer
from experiments.harness.spec import RunSpec
from experiments.language.examples import Example, Examples
from experiments.language.generation import answers
from experiments.language.image_inputs import seen
from experiments.language.methods import prepare, sees_images
from experiments.language.settings import ImageTextSettings
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from torch import nn


def about_image(
    path: Path,
    image: Path,
    prompts: Sequence[str],
    device: str,
    settings_type: type,
    **decoding: Any,
) -> Iterator[Answer]:
    """Continue prompts about an image with and without the adapter of the finished run in `path`.

    ZiaError if the run's method sees no images, it has no adapter, or the file is none.
    """
    import torch

    from zia_core.adapters import backbone_identity
    from zia_core.trained_weights import load_trained

    spec = RunSpec.from_json(stored.load_sealed(path).config, settings_type)
    settings: ImageTextSettings = spec.settings
    if not sees_images(spec.method):
        raise ZiaError(
            f"the method {spec.method} of {path} sees no images: take a run whose method does"
        )
    stored.with_adapter(path)
    shown = seen(spec.method, settings, [image], device)
    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    model: nn.Module
    model, tokenizer, _ = language_models.load(language_models.get(spec.backbone), dtype, device)
    asked = [Example(str(i), ids, [], 0) for i, ids in enumerate(prompt_ids(tokenizer, prompts))]
    together = settings.answered_together
    before = list(answers(model, tokenizer, Examples(asked), together, **decoding))
    identity = backbone_identity(model)
    model = prepare(model, spec.method, settings, shown.width).eval()
    load_trained(model, path / stored.ADAPTER, identity)
    after = answers(model, tokenizer, Examples(asked, shown.features), together, **decoding)
    for prompt, plain, adapted in zip(prompts, before, after, strict=True):
        yield Answer(prompt, plain, adapted)
