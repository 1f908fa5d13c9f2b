"""What models wrote: answers to our own instructions, and captions, method beside method.

Only texts of our own stand above an answer: those of the data sets stay with the data sets.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.alpaca_llama.instructions import NINE_INSTRUCTIONS
from experiments.coco_caption.data import load_captions
from experiments.harness.stored import PREDICTIONS
from experiments.miniature.provided import PROFILE, data_of
from experiments.report.figures.shared import subtitle
from experiments.report.figures.style import ordered
from experiments.report.html.text import data_address
from experiments.report.rows import SECTION, Section, sections
from experiments.report.runs import Runs, select
from zia_core.errors import ZiaError

CAPTIONED = 6  # images of each section


@dataclass(frozen=True)
class Sample:
    """What was asked, and what each method made of it."""

    asked: str
    context: str
    answers: tuple[tuple[str, str], ...]  # label of the method, text
    picture: str = ""  # a data: address, where it is an image of the project's own


@dataclass(frozen=True)
class Samples:
    """The samples of one profile, backbone, data and task."""

    title: str
    samples: tuple[Sample, ...]


def generations(runs: Runs) -> list[Samples]:
    """Return greedy answers to the nine instructions, of the first seed of each method."""
    asked = {each.id: (each.instruction, each.input) for each in NINE_INSTRUCTIONS}
    return list(_samples(runs, "alpaca_llama", {"set": "nine", "decoding": "greedy"}, asked))


def captions(runs: Runs) -> list[Samples]:
    """Return captions of the first images, of the first seed of each method.

    Images of the generated world are shown; those of the data sets are other people's.
    """
    return list(_samples(runs, "coco_caption", {}, None))


def _samples(
    runs: Runs,
    experiment: str,
    wanted: Mapping[str, str],
    asked: Mapping[str, tuple[str, str]] | None,
) -> Iterator[Samples]:
    found = select(runs, experiment, {"tuned_parameters": float | None})
    for section in sections(found, (), SECTION):
        texts = {label: written for label, written in _written(runs, section, wanted) if written}
        ids = asked or dict.fromkeys(list(next(iter(texts.values()), {}))[:CAPTIONED])
        pictures = {} if asked else _pictures(section, ids)
        samples = tuple(
            Sample(
                *(asked[each] if asked else (f"image {each}", "")),
                tuple((label, of[each]) for label, of in texts.items() if each in of),
                pictures.get(each, ""),
            )
            for each in ids
            if any(each in of for of in texts.values())
        )
        if texts:
            yield Samples(f"{subtitle(section)}, task {section.key['task']}", samples)


def _pictures(section: Section, ids: Iterable[str]) -> dict[str, str]:
    """The images of a section in the generated world, by id."""
    if not ids or section.key["profile"] != PROFILE:
        return {}
    with data_of(PROFILE):
        splits = load_captions(section.key["task"])
        paths = {str(each.id): each.image for part in vars(splits).values() for each in part}
        return {each: data_address(paths[each].read_bytes()) for each in ids if each in paths}


def _written(
    runs: Runs, section: Section, wanted: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """The texts of each row of the section by id, methods in the order of the figures."""
    order = ordered({row.method for row in section.rows})
    for row in sorted(section.rows, key=lambda row: order.index(row.method)):
        for run in row.done[:1]:
            path = runs.one(run).path
            if not (path / PREDICTIONS).exists():
                continue
            try:
                records = runs.one(run).predictions()
            except ZiaError as error:
                runs.give_up(path, error)
                continue
            yield f"{section.label(row)}, seed {run.seed}", _texts(records, wanted)


def _texts(records: Sequence[Any], wanted: Mapping[str, str]) -> dict[str, str]:
    return {
        str(record["id"]): text
        for record in records
        if isinstance(record, dict) and wanted.items() <= record.items() and "id" in record
        for text in [record.get("output", record.get("caption"))]
        if isinstance(text, str)
    }
