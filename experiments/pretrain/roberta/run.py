"""Pretrain the pocket RoBERTa on its library of the generated world."""

from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.mini_world.documents import ENCODER, Library
from experiments.mini_world.tokenizer import train_tokenizer
from experiments.pretrain.recipe import (
    BackboneRecipe,
    LanguageRelease,
    described,
    initialised,
    use_threads,
)
from experiments.pretrain.roberta.recall import measure, skills
from experiments.pretrain.roberta.task import Pretraining, Settings, build

RECIPE = BackboneRecipe(
    "pretrain_roberta",
    1,
    "library",
    "pocket-roberta",
    Settings,
    measured=("held_out", "retold", "answered"),  # see `recall`
    counts_tokens=True,
)


def run(spec: RunSpec, folder: RunFolder) -> None:
    """Train, release and measure the model, or finish an interrupted run."""
    from transformers import AutoModelForMaskedLM

    settings: Settings = spec.settings
    use_threads(settings)
    library = Library(spec.seed, ENCODER)
    tokenizer = train_tokenizer(
        map(library.document, range(settings.tokenizer_documents)), settings.positions
    )
    RECIPE.train_and_release(
        spec,
        folder,
        task=Pretraining(tokenizer, settings, spec.seed),
        model=initialised(spec, lambda: build(settings, tokenizer)),
        release=LanguageRelease(folder, tokenizer, AutoModelForMaskedLM),
        measure=lambda model: {
            name: measure(model, tokenizer, masked) for name, masked in skills().items()
        },
        card=lambda shares: {
            "what": "a pocket RoBERTa trained from scratch on a generated world; it knows nothing "
            "else",
            "recipe": described(spec),
            "quality": shares,
        },
    )
