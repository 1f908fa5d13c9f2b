"""Answer prompts with the backbone alone and with the adapter of a finished run."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.backbones import language_models
from experiments.harness import stored
from experiments.harness.experiment import Answer
from experiments.harness.spec import RunSpec
from experiments.language import templates
from experiments.language.answers import answers
from experiments.language.examples import Example, Examples
from experiments.language.image_features import RunImages, run_images
from experiments.language.methods import prepare, sees_images
from experiments.language.settings import ImageTextSettings, LanguageSettings
from experiments.training.optimisation import in_four_bits, set_threads, weights_dtype
from zia_core.errors import ZiaError


def before_and_after(
    path: Path,
    prompts: Sequence[str],
    device: str,
    settings_type: type,
    batch_size: int,
    image: Path | None = None,
    template: str = templates.PAPER,
    **decoding: Any,
) -> Iterator[Answer]:
    """Answer each prompt without and with the adapter of the finished run in `path`.

    Args:
        path: folder of the run.
        prompts: their texts, for the template.
        device: of the models.
        settings_type: of the experiment.
        batch_size: prompts generated together.
        image: an image file that all prompts are about; the backbone alone does not see it.
        template: one of `templates.TEMPLATES`.
        decoding: as in `answers`.

    Raises:
        ZiaError: the run has no adapter, its template is not the tokenizer's, or there is an image
            and its method sees none.
    """
    from zia_core.identity import backbone_identity
    from zia_core.trained_weights import load_trained

    spec = RunSpec.from_json(stored.load_sealed(path).config, settings_type)
    settings: LanguageSettings = spec.settings
    if image is not None and not sees_images(spec.method):
        raise ZiaError(
            f"the method {spec.method} of {path} sees no images: take a run whose method does"
        )
    stored.with_adapter(path)
    set_threads(settings)
    images = RunImages()
    if image is not None:
        assert isinstance(settings, ImageTextSettings)
        images = run_images(spec.method, settings, [image], device)
    model, tokenizer, _ = language_models.load(
        language_models.get(spec.backbone),
        weights_dtype(settings),
        device,
        four_bit=in_four_bits(settings),
    )
    kind = templates.named(template, tokenizer)
    asked = [Example(str(i), ids, [], 0) for i, ids in enumerate(kind.prompt_ids(prompts))]
    decoding |= {"ends": kind.ends}
    before = list(answers(model, tokenizer, Examples(asked), batch_size, **decoding))
    identity = backbone_identity(model)
    adapted = prepare(model, spec.method, settings, images.width).eval()
    load_trained(adapted, path / stored.ADAPTER, identity)
    after = answers(adapted, tokenizer, Examples(asked, images.features), batch_size, **decoding)
    for prompt, plain, answer in zip(prompts, before, after, strict=True):
        yield Answer(prompt, plain, answer)
