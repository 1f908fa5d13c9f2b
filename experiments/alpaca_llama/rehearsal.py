"""Alpaca's runs in a few steps, on a few generated records."""

import json
from dataclasses import replace
from pathlib import Path

from experiments.alpaca_llama import instructions, vicuna
from experiments.data.subsets import SAMPLE, SAMPLE_TRAINED
from experiments.harness.rehearsal import Rehearsal
from experiments.harness.spec import RunSpec
from experiments.mini_world import world
from experiments.training.rehearsed import two_steps

QUESTIONS = ("Which animals can swim?", "Name a colour.", "Where is the river?")


def shorten(spec: RunSpec) -> RunSpec:
    """Train on the first records, with the first candidate, and answer with two tokens each."""
    changes = two_steps(spec.settings, SAMPLE_TRAINED) | {"new_tokens": 2}
    if candidates := spec.settings.candidates:
        changes |= {"candidates": candidates[:1], "selection_epochs": changes["epochs"]}
    return replace(spec, data=SAMPLE, settings=replace(spec.settings, **changes))


def _user_oriented(folder: Path) -> None:
    instance = [{"input": "", "output": "I do not know."}]
    _write(
        folder,
        instructions.USER_ORIENTED_FILE,
        [
            {"id": f"user_oriented_task_{i}", "instruction": text, "instances": instance}
            for i, text in enumerate(QUESTIONS)
        ],
    )


def _alpaca(folder: Path) -> None:
    world.write_alpaca(folder)
    _user_oriented(folder)


def _vicuna(folder: Path) -> None:
    rows = [{"question_id": i, "text": text} for i, text in enumerate(QUESTIONS, start=1)]
    _write(folder, vicuna.FILE, rows)


def _write(folder: Path, file: str, rows: list[dict[str, object]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    (folder / Path(file).name).write_text(lines, encoding="utf-8")


REHEARSAL = Rehearsal(shorten, {"alpaca": _alpaca, "vicuna80": _vicuna})
