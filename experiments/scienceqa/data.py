"""ScienceQA in its official layout, in the folder `scienceqa` of `$ZIA_DATA`.

It has `problems.json` and `pid_splits.json`, plain or .gz, and `images/<split>/<pid>/image.png`. No
copy at the hub has this layout, so there is no other source.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from experiments.data.files import (
    DATA_VARIABLE,
    official_file,
    parse_json,
    read_text,
    text_field,
    where_looked,
)
from experiments.io.files import canonical_json
from experiments.io.safe_names import inside, is_file_name
from experiments.metrics.scienceqa.files import question_of, read_splits
from experiments.metrics.scienceqa.scorer import LETTERS, Question
from zia_core.errors import ZiaError

Split = Literal["train", "val", "test"]
SOURCE = "https://github.com/lupantech/ScienceQA"
SIZES = {"train": 12_726, "val": 4_241, "test": 4_241}  # of the complete data set


@dataclass(frozen=True)
class Problem:
    """One question with its options; `answer` is an index into them."""

    id: str
    question: str
    choices: tuple[str, ...]
    answer: int
    hint: str | None  # the textual context, may be empty; None: the file lacks it
    image: Path | None  # need not exist
    split: Split
    record: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """The SHA-256 of question, options and answer, in hex."""
        text = canonical_json([self.question, list(self.choices), self.answer])
        return hashlib.sha256(text.encode()).hexdigest()

    def scored(self) -> Question:
        """The fields that the official scorer needs; ZiaError if the file lacks one."""
        return question_of(dict(self.record), f"problem {self.id!r}")


def load_problems(name: str = "scienceqa") -> dict[str, Problem]:
    """Return all problems of the folder `name` of `$ZIA_DATA` by pid, in the file's order.

    ZiaError, which names the record: a file is missing or malformed, a pid is in no split, a
    question has no options, or an answer is not one of them.
    """
    path, splits = (_file(f"{name}/{file}") for file in ("problems.json", "pid_splits.json"))
    records = parse_json(read_text(path), str(path))
    if not isinstance(records, dict) or not records:
        raise ZiaError(
            f"{path} must be an object {{pid: problem}}, as ScienceQA's problems.json is"
        )
    listed = read_splits(splits)
    found = {}
    for pid, record in records.items():
        where = f"{path}, problem {pid!r}"
        if pid not in listed:
            raise ZiaError(f"{where} is in no split: add it to {splits}, or leave it out")
        if isinstance(record, dict) and record.get("split", listed[pid]) != listed[pid]:
            raise ZiaError(
                f"{where} says split {record['split']!r:.60}, and {splits} {listed[pid]!r}: "
                "repair one"
            )
        found[pid] = _problem(pid, record, listed[pid], path.parent, where)
    return found


def fingerprint(problems: list[Problem]) -> str:
    """A SHA-256 that identifies these problems in this order."""
    text = canonical_json([[p.id, p.digest, p.hint, p.image is not None] for p in problems])
    return hashlib.sha256(text.encode()).hexdigest()


def _problem(pid: str, record: Any, split: Any, folder: Path, where: str) -> Problem:
    question = text_field(record, "question", where)
    choices, answer, image = (record.get(name) for name in ("choices", "answer", "image"))
    if not isinstance(choices, list) or not 1 <= len(choices) <= len(LETTERS):
        raise ZiaError(
            f"{where}: 'choices' must be a list of 1 to {len(LETTERS)} options: repair it, or "
            "leave the problem out"
        )
    texts = tuple(_choices(choices, where))
    if type(answer) is not int or not 0 <= answer < len(texts):
        raise ZiaError(f"{where}: 'answer' must be an index into its {len(texts)} options")
    if not isinstance(image, str | None):
        raise ZiaError(f"{where}: 'image' must be a file name or null, not {image!r:.60}")
    if image and not is_file_name(image):
        raise ZiaError(f"{where}: 'image' must be a file name, not the path {image!r:.60}")
    file = inside(folder / "images" / split, f"{pid}/{image}", where) if image else None
    hint = text_field(record, "hint", where) if "hint" in record else None
    return Problem(pid, question, texts, answer, hint, file, split, record)


def _choices(choices: list[Any], where: str) -> Iterator[str]:
    for place, choice in enumerate(choices):
        text = text_field({"choice": choice}, "choice", f"{where}, option {place}")
        if not text.strip():
            raise ZiaError(f"{where}: option {place} is empty: repair it, or leave the problem out")
        yield text


def _file(name: str) -> Path:
    path = official_file(name)
    if path is None:
        raise ZiaError(
            f"no ScienceQA: {where_looked(name)}; put problems.json, pid_splits.json and images/ "
            f"of {SOURCE} into the folder {name.partition('/')[0]}/ of ${DATA_VARIABLE}"
        )
    return path
