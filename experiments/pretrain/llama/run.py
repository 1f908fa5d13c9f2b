"""Pretrain the pocket LLaMA on the library of the generated world, in stages."""

from dataclasses import asdict, replace
from typing import Any

from experiments.backbones.release import FOLDER, read_backbone
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.mini_world.documents import Library
from experiments.mini_world.tokenizer import train_tokenizer
from experiments.pretrain.llama.recall import measure, skills
from experiments.pretrain.llama.rows import token_rows
from experiments.pretrain.llama.task import STAGES, Pretraining, Settings, build
from experiments.pretrain.recipe import BackboneRecipe, LanguageRelease, initialised, use_threads

RECIPE = BackboneRecipe(
    "pretrain_llama",
    1,
    "library",  # the first stage
    "pocket-llama",
    Settings,
    measured=("held_out", "questions", "quiz", "story", "letters", "conclusion"),  # see `recall`
    counts_tokens=True,
)


def pretraining(stage: str, seed: int = 0, settings: Settings | None = None) -> RunSpec:
    """The run of a stage, with the stage's changes to `settings` (default: the class's)."""
    return RECIPE.spec(seed, replace(settings or Settings(), **STAGES[stage].changes), stage)


def requires(spec: RunSpec) -> list[RunSpec]:
    """The run of the previous stage, if there is one."""
    before = STAGES[spec.task].after
    if before is None:
        return []
    own = STAGES[spec.task].changes
    # The previous stage's values of what this one changes are unknown; the sizes are known.
    kept = {n: v for n, v in asdict(spec.settings).items() if n not in own}
    return [pretraining(before, spec.seed, Settings(**kept))]


def recipe(spec: RunSpec) -> dict[str, Any]:
    """How the weights of a run were made, for the card: the settings, and each stage's changes."""
    runs = [spec]
    while before := requires(runs[0]):
        runs[:0] = before
    return {
        "seed": spec.seed,
        "version": spec.version,
        **asdict(runs[0].settings),
        "stages": {each.task: dict(STAGES[each.task].changes) for each in runs},
    }


def run(spec: RunSpec, folder: RunFolder) -> None:
    """Do a stage: train, release and measure the model, or finish an interrupted run."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings: Settings = spec.settings
    stage = STAGES[spec.task]
    use_threads(settings)
    library = Library(spec.seed + stage.library, stage.shares, conclude=stage.conclude)
    if before := requires(spec):
        folder.result_of(before[0], RECIPE.result_fields)
        weights = folder.path.parent / before[0].folder_name / FOLDER
        tokenizer: Any = AutoTokenizer.from_pretrained(weights, trust_remote_code=False)
        model = initialised(spec, lambda: read_backbone(AutoModelForCausalLM, weights))
    else:
        texts = map(library.document, range(settings.tokenizer_documents))
        tokenizer = train_tokenizer(texts, settings.positions)
        model = initialised(spec, lambda: build(settings, tokenizer))
    rows = token_rows(library, settings.documents, tokenizer, settings.row_tokens)
    RECIPE.train_and_release(
        spec,
        folder,
        task=Pretraining(rows, tokenizer),
        model=model,
        release=LanguageRelease(folder, tokenizer, AutoModelForCausalLM),
        measure=lambda model: {
            name: measure(model, tokenizer, asked) for name, asked in skills().items()
        },
        card=lambda shares: {
            "what": "a pocket LLaMA trained from scratch on a generated world; it knows nothing "
            "else",
            "recipe": recipe(spec),
            "quality": shares,
        },
    )
