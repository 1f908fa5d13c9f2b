"""What a run of this experiment reads."""

import json
from pathlib import Path

from experiments.alpaca_llama import data, instructions, vicuna
from experiments.backbones import language_models
from experiments.harness.needs import DataSet, HubData, Needs, ReadRows
from experiments.harness.spec import RunSpec
from experiments.language.squad_files import squad_file
from experiments.mini_world.provided import PROFILE as MINI


def _write(rows: ReadRows, folder: Path) -> None:
    fields = ("instruction", "input", "output")
    records = [{field: row[field] for field in fields} for row in rows("train")]
    (folder / data.FILE).write_text(json.dumps(records, indent=4), encoding="utf-8")


ALPACA = DataSet(
    "Alpaca",
    (data.FILE,),
    "https://github.com/tatsu-lab/stanford_alpaca, alpaca_data.json",
    data.load_alpaca,
    HubData(data.HUB_NAME, data.HUB_REVISION, _write),
)
USER_ORIENTED = DataSet(
    "Self-Instruct's user-oriented instructions",
    (instructions.USER_ORIENTED_FILE,),
    instructions.USER_ORIENTED_SOURCE,
    instructions.load_user_oriented,
)
VICUNA = DataSet(
    "Vicuna's 80 questions", (vicuna.FILE,), vicuna.SOURCE, vicuna.load_questions
)  # fmt: skip


def needs(spec: RunSpec) -> Needs:
    """Weights, records, further instructions, and text for the loss on plain language."""
    weights = (language_models.get(spec.backbone),)
    if spec.profile == MINI:
        return Needs(weights)
    asked = [USER_ORIENTED] * spec.settings.user_oriented + [VICUNA] * spec.settings.vicuna
    return Needs(weights, (ALPACA, *asked, squad_file("1.1", "dev", optional=True)))
