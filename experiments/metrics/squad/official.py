"""Read the official JSON files of SQuAD v1.1 and v2.0.

{"version": "1.1" | "v2.0", "data": [{"title", "paragraphs": [{"context", "qas": [question]}]}]}
question: {"id", "question", "answers": [{"text", "answer_start"}]}, in v2.0 "is_impossible" too
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from experiments.data.files import parse_json, read_text, text_field
from zia_core.errors import ZiaError

Version = Literal["1.1", "2.0"]
VERSIONS: tuple[Version, ...] = ("1.1", "2.0")


class Entry(NamedTuple):
    """A question as in the file; only `id` is checked."""

    where: str  # for messages: file, place and id
    id: str
    paragraph: dict[str, Any]
    question: dict[str, Any]


def entries(path: Path, version: Version) -> Iterator[Entry]:
    """Yield the questions in the file's order.

    ZiaError, naming file and place, for a damaged or invalid file, another version, or a repeated
    id.
    """
    root = parse_json(read_text(path), str(path))
    if not isinstance(root, dict) or not isinstance(root.get("data"), list):
        raise ZiaError(
            f"{path} must be an object with a list 'data', as SQuAD's official files are"
        )
    said = str(root.get("version", "")).removeprefix("v")
    if said in VERSIONS and said != version:
        raise ZiaError(
            f"{path} is a file of SQuAD {said} (its 'version'), not {version}: "
            f"give it as version {said}, or another file"
        )
    places: dict[str, str] = {}
    for i, article in enumerate(root["data"]):
        for j, paragraph in enumerate(_list(article, "paragraphs", f"{path}, data[{i}]")):
            place = f"data[{i}].paragraphs[{j}]"
            for k, question in enumerate(_list(paragraph, "qas", f"{path}, {place}")):
                here = f"{place}.qas[{k}]"
                identity = text_field(question, "id", f"{path}, {here}")
                where = f"{path}, {here} (id {identity})"
                if identity in places:
                    raise ZiaError(
                        f"{where} has the id of {places[identity]}: each question needs its own"
                    )
                places[identity] = here
                yield Entry(where, identity, paragraph, question)
    if not places:
        raise ZiaError(f"{path} holds no question: fetch it again")


def answers_of(entry: Entry) -> list[dict[str, Any]]:
    """Return a question's `answers` after checking their texts; may be empty."""
    answers = _list(entry.question, "answers", entry.where)
    for number, answer in enumerate(answers):
        text_field(answer, "text", f"{entry.where}, answer {number}")
    return cast("list[dict[str, Any]]", answers)


def _list(record: object, field: str, where: str) -> list[Any]:
    value = record.get(field) if isinstance(record, dict) else None
    if not isinstance(value, list):
        raise ZiaError(f"{where} must be a JSON object with a list {field!r}")
    return value
