"""A little SQuAD: files in the official format, and questions made from them."""

import json
from pathlib import Path
from typing import Any

from experiments.squad_roberta.data import Answer, Question

DENVER = "The Denver Broncos beat the Panthers for €24, in Santa Clara, California."
PARIS = "Élise was born in Paris; her café opened in May 1990."


def qa(identity: str, text: str, start: int | None, **fields: Any) -> dict[str, Any]:
    """A question as it stands in the file; without a start it has no answer."""
    answers = [] if start is None else [{"text": text, "answer_start": start}]
    return {"id": identity, "question": f" Where is {identity}?", "answers": answers} | fields


def official(version: str, *paragraphs: tuple[str, list[dict[str, Any]]]) -> dict[str, Any]:
    rows = [{"context": context, "qas": qas} for context, qas in paragraphs]
    return {"version": version, "data": [{"title": "T", "paragraphs": rows}]}


V1 = official(
    "1.1",
    (DENVER, [qa("a", "Denver Broncos", 4), qa("b", "€24", DENVER.index("€"))]),
    (PARIS, [qa("c", "Élise", 0)]),
)
V2 = official(
    "v2.0",
    (DENVER, [qa("a", "Denver Broncos", 4, is_impossible=False)]),
    (PARIS, [qa("d", "", None, is_impossible=True, plausible_answers=[])]),
)


def question(identity: str, context: str, *answers: str) -> Question:
    """A question whose answers are looked up in its context."""
    spans = tuple(Answer(answer, context.index(answer)) for answer in answers)
    return Question(identity, f"Where is {identity}?", context, spans)


def write(folder: Path, name: str, value: Any) -> Path:
    path = folder / "squad" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    return path
