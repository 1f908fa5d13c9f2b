"""SQuAD v1.1 and v2.0: the official JSON in `$ZIA_DATA`, or the hub; and their validation split.

The dev sets serve as test sets (the official ones are hidden), so nothing may be chosen on them: a
hash of the text holds out 5 % of the training paragraphs for choices.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from experiments.data import hub
from experiments.data.files import official_file, text_field, where_looked
from experiments.io.files import canonical_json
from experiments.language.squad_files import HUB, HUB_SPLITS, Part
from experiments.metrics.squad.official import Entry, Version, answers_of, entries
from zia_core.errors import ZiaError

Split = Literal["train", "validation"]


class Answer(NamedTuple):
    """An answer and its first character in the context."""

    text: str
    start: int


@dataclass(frozen=True, slots=True)
class Question:
    """One question about a paragraph; an unanswerable one has no answers."""

    id: str
    text: str
    context: str
    answers: tuple[Answer, ...]

    @property
    def split(self) -> Split:
        """The part of the training data that the question's paragraph is in.

        No text is in both parts, and a paragraph is in the same part in v1.1 and v2.0.
        """
        percent = int(hashlib.sha256(self.context.encode()).hexdigest()[:16], 16) % 100
        return "validation" if percent < 5 else "train"

    @property
    def digest(self) -> str:
        """The SHA-256 of the question with its context and answers, in hex."""
        return hashlib.sha256(self.as_json.encode()).hexdigest()

    @property
    def as_json(self) -> str:
        """The question in one line of canonical JSON."""
        return canonical_json([self.id, self.text, self.context, self.answers])


def load_squad(version: Version, part: Part, file: str | None = None) -> list[Question]:
    """Return the questions in the file's order.

    From `$ZIA_DATA/squad/<part>-v<version>.json[.gz]`, or else from the hub; `file` names another
    file of that folder in the official format (a subset), which the hub cannot replace.

    ZiaError, which names file and record, as in `entries`, and for a file of the other version, an
    empty context or answer, an answer that is not at its offset, and an unanswerable question that
    has answers; or if there is neither a file nor a hub.
    """
    name = f"squad/{file or f'{part}-v{version}.json'}"
    path = official_file(name)
    if path is not None:
        return list(_from_file(path, version))
    if file is not None:
        raise ZiaError(f"no file of SQuAD: {where_looked(name)}; put it there")
    hub_name, revision = HUB[version]
    rows = hub.rows("SQuAD", name, hub_name, revision, HUB_SPLITS[part])
    return list(_from_hub(rows, hub_name, version))


def fingerprint(questions: Sequence[Question]) -> str:
    """A SHA-256 that identifies these questions in this order."""
    digest = hashlib.sha256()
    for question in questions:
        digest.update(question.as_json.encode())
    return digest.hexdigest()


def _from_file(path: Path, version: Version) -> Iterator[Question]:
    for entry in entries(path, version):
        answers = answers_of(entry)
        _check_version(entry, version, len(answers))
        context = text_field(entry.paragraph, "context", entry.where)
        text = text_field(entry.question, "question", entry.where)
        spans = [(answer["text"], answer.get("answer_start")) for answer in answers]
        yield _question(entry.id, text, context, spans, version, entry.where)


def _check_version(entry: Entry, version: Version, answers: int) -> None:
    impossible = entry.question.get("is_impossible")
    if version == "1.1":
        if impossible is not None:
            raise ZiaError(
                f"{entry.where} has a field 'is_impossible', so it is of SQuAD 2.0, not 1.1: "
                "load it as version 2.0"
            )
    elif not isinstance(impossible, bool):
        raise ZiaError(
            f"{entry.where} has no field 'is_impossible' with true or false, as every question of "
            "SQuAD 2.0: load a file of SQuAD 1.1 as version 1.1"
        )
    elif impossible != (answers == 0):
        raise ZiaError(
            f"{entry.where} has 'is_impossible' {str(impossible).lower()} but {answers} answers: "
            "one of the two is wrong"
        )


def _from_hub(rows: Iterable[Any], name: str, version: Version) -> Iterator[Question]:
    for number, row in enumerate(rows):
        answers = zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
        where = f"{name}, record {number} (id {row['id']})"
        yield _question(row["id"], row["question"], row["context"], answers, version, where)


def _question(
    identity: str,
    text: str,
    context: str,
    answers: Iterable[tuple[str, object]],
    version: Version,
    where: str,
) -> Question:
    if not context.strip():
        raise ZiaError(f"{where}: the context is empty, so there is nothing to find an answer in")
    checked = []
    for number, (answer, start) in enumerate(answers):
        if not answer.strip():
            raise ZiaError(f"{where}: the text of answer {number} is empty")
        if type(start) is not int or start < 0 or not context.startswith(answer, start):
            raise ZiaError(
                f"{where}: the context does not have answer {number}, {answer!r:.60}, at its "
                f"answer_start {start!r:.20}: repair the record or fetch the file again"
            )
        checked.append(Answer(answer, start))
    if not checked and version == "1.1":
        raise ZiaError(
            f"{where} has no answer, which only SQuAD 2.0 allows: load it as version 2.0"
        )
    return Question(identity, text, context, tuple(checked))
