"""The recipe of the pocket LLaMA: from scratch on the library of the generated world."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from experiments.backbones.release import (
    FOLDER,
    WEIGHTS,
    read_backbone,
    write_backbone,
    write_card,
)
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.io.files import sha256_file
from experiments.mini_world.documents import Library
from experiments.mini_world.tokenizer import train_tokenizer
from experiments.pretrain.llama.recall import measure, skills
from experiments.pretrain.llama.rows import token_rows
from experiments.pretrain.llama.task import STAGES, Pretraining, Settings, build
from experiments.training.optimisation import train_settings

NAME, VERSION = "pretrain_llama", 1
PROFILE = "pretrain"
TASKS = tuple(STAGES)
BACKBONE = "pocket-llama"

RESULT_FIELDS: Mapping[str, Any] = {
    "parameters": int,
    "steps": int,
    "tokens": int,  # trained on, repeated ones included
    "train_seconds": float,
    "train_loss_first": float | None,
    "train_loss_last": float | None,
    "held_out": float,  # shares of right words of the released weights, see `recall`
    "questions": float,
    "quiz": float,
    "story": float,
    "letters": float,
    "conclusion": float,
    "weights_bytes": int,
    "weights_sha256": str,
}


def pretraining(stage: str, seed: int = 0, settings: Settings | None = None) -> RunSpec:
    """The run of a stage, which changes `settings` (default: the class's) to its own."""
    return RunSpec(
        experiment=NAME,
        version=VERSION,
        task=stage,
        method="full",
        backbone=BACKBONE,
        data="full",
        profile=PROFILE,
        seed=seed,
        settings=replace(settings or Settings(), **STAGES[stage].changes),
    )


def requires(spec: RunSpec) -> list[RunSpec]:
    """The run of the stage before, if there is one."""
    before = STAGES[spec.task].after
    if before is None:
        return []
    own = STAGES[spec.task].changes
    # What the stage changes is not known of the settings any more; the sizes are.
    kept = {n: v for n, v in asdict(spec.settings).items() if n not in own}
    return [pretraining(before, spec.seed, Settings(**kept))]


def recipe(spec: RunSpec) -> dict[str, Any]:
    """What the weights of a run were made with: the settings, and what each stage changed."""
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
    """Do a stage: train, release and measure the model, or do what is left of it.

    Writes the folder `backbone` into the run's folder besides what every run has.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from zia_core.engine import train
    from zia_core.rng import derived_seed

    settings: Settings = spec.settings
    stage = STAGES[spec.task]
    if settings.device == "cpu":
        torch.set_num_threads(settings.threads)
    library = Library(spec.seed + stage.library, stage.shares, conclude=stage.conclude)
    torch.manual_seed(derived_seed(spec.seed, "parameters"))
    model: Any
    if before := requires(spec):
        folder.result_of(before[0], RESULT_FIELDS)
        weights = folder.path.parent / before[0].folder_name / FOLDER
        tokenizer: Any = AutoTokenizer.from_pretrained(weights, trust_remote_code=False)
        model = read_backbone(AutoModelForCausalLM, weights)
    else:
        texts = map(library.document, range(settings.tokenizer_documents))
        tokenizer = train_tokenizer(texts, settings.positions)
        model = build(settings, tokenizer)
    model.to(settings.device)
    rows = token_rows(library, settings.documents, tokenizer, settings.row_tokens)
    task = Pretraining(rows, tokenizer)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    summary = train(model, task, train_settings(settings, spec.seed, len(task), 100), folder)

    released = folder.path / FOLDER
    write_backbone(model, tokenizer, released)
    final = read_backbone(AutoModelForCausalLM, released)
    with torch.no_grad():
        shares = {name: measure(final, tokenizer, asked) for name, asked in skills().items()}
    write_card(
        released,
        {
            "what": "a pocket LLaMA trained from scratch on a generated world; it knows nothing "
            "else",
            "recipe": recipe(spec),
            "quality": shares,
        },
    )
    folder.write_result(
        {
            "parameters": parameters,
            "steps": summary.steps,
            "tokens": summary.tokens,
            "train_seconds": summary.seconds,
            "train_loss_first": summary.first_loss,
            "train_loss_last": summary.last_loss,
            **shares,
            "weights_bytes": (released / WEIGHTS).stat().st_size,
            "weights_sha256": sha256_file(released / WEIGHTS),
        }
    )
