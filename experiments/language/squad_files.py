"""SQuAD's official files as data sets: the same file serves questions and plain text."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from experiments.data.files import official_file
from experiments.harness.needs import DataSet, HubData, ReadRows
from experiments.metrics.squad.official import Version, entries

Part = Literal["train", "dev"]
SOURCE = "https://rajpurkar.github.io/SQuAD-explorer/"
HUB: dict[Version, tuple[str, str]] = {  # name and revision
    "1.1": ("rajpurkar/squad", "7b6d24c440a36b6815f21b70d25016731768db1f"),
    "2.0": ("rajpurkar/squad_v2", "3ffb306f725f7d2ce8394bc1873b24868140c412"),
}
HUB_SPLITS: dict[Part, str] = {"train": "train", "dev": "validation"}


def squad_file(
    version: Version,
    part: Part,
    load: Callable[[], object] | None = None,
    *,
    optional: bool = False,
) -> DataSet:
    """One file of SQuAD; `load` checks it more strictly than its structure."""
    path = f"squad/{part}-v{version}.json"
    return DataSet(
        f"SQuAD {part}-v{version}",
        (path,),
        SOURCE,
        load or partial(_structure, path, version),
        HubData(*HUB[version], partial(_write, path, version, HUB_SPLITS[part])),
        optional=optional,
    )


def _structure(path: str, version: Version) -> int:
    found = official_file(path)
    return 0 if found is None else sum(1 for _ in entries(found, version))


def _write(path: str, version: Version, split: str, rows: ReadRows, folder: Path) -> None:
    """The hub has a row a question; the official file nests them in paragraphs and articles."""
    articles = [
        {
            "title": title,
            "paragraphs": [
                {"context": context, "qas": list(_questions(questions, version))}
                for context, questions in groupby(of_title, lambda row: row["context"])
            ],
        }
        for title, of_title in groupby(rows(split), lambda row: row["title"])
    ]
    official = {"version": version if version == "1.1" else f"v{version}", "data": articles}
    (folder / path).write_text(json.dumps(official), encoding="utf-8")


def _questions(rows: Iterator[dict[str, Any]], version: Version) -> Iterator[dict[str, Any]]:
    for row in rows:
        found = row["answers"]
        spans = zip(found["text"], found["answer_start"], strict=True)
        answers = [{"text": text, "answer_start": start} for text, start in spans]
        question = {"id": row["id"], "question": row["question"], "answers": answers}
        yield question if version == "1.1" else question | {"is_impossible": not answers}
