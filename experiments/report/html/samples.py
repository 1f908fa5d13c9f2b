"""What models wrote: answers to our own instructions, and captions, method beside method.

Only texts of our own stand above an answer: those of the data sets stay with the data sets.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.alpaca_llama.instructions import own_instructions
from experiments.coco_caption.data import load_captions
from experiments.mini_world.provided import PROFILE, data_of
from experiments.report.figures.shared import subtitle
from experiments.report.figures.style import ordered
from experiments.report.html.text import data_address
from experiments.report.rows import SECTION, Section, sections
from experiments.report.runs import Runs, select
from zia_core.errors import ZiaError

CAPTIONED = 6  # images of each section


@dataclass(frozen=True)
class Asked:
    """What was asked; the empty text stands for what there is not."""

    text: str
    context: str = ""
    reference: str = ""  # what the answer should be, in the generated world
    picture: str = ""  # a data: address, where it is an image of the project's own


@dataclass(frozen=True)
class Sample:
    """What was asked, and what each method made of it."""

    asked: Asked
    answers: tuple[tuple[str, str], ...]  # label of the method, text


@dataclass(frozen=True)
class Samples:
    """The samples of one profile, backbone, data and task."""

    title: str
    samples: tuple[Sample, ...]


def generations(runs: Runs) -> list[Samples]:
    """Return greedy answers to our own instructions, of the first seed of each method."""
    return list(_samples(runs, "alpaca_llama", _greedy, _instructions))


def captions(runs: Runs) -> list[Samples]:
    """Return captions of the first images, of the first seed of each method.

    Images of the generated world are shown; those of the data sets are other people's.
    """
    return list(_samples(runs, "coco_caption", lambda section: {}, _images))


def _samples(
    runs: Runs,
    experiment: str,
    wanted: Callable[[Section], Mapping[str, str]],
    asked: Callable[[Section, Sequence[str]], Mapping[str, Asked]],
) -> Iterator[Samples]:
    """The samples of each section: `wanted` predictions, and what was asked, by their ids."""
    found = select(runs, experiment, {"tuned_parameters": float | None})
    for section in sections(found, (), SECTION):
        texts = {
            label: written for label, written in _written(runs, section, wanted(section)) if written
        }
        if not texts:
            continue
        shown = asked(section, list(next(iter(texts.values()))))
        samples = tuple(
            Sample(one, tuple((label, of[each]) for label, of in texts.items() if each in of))
            for each, one in shown.items()
            if any(each in of for of in texts.values())
        )
        yield Samples(f"{subtitle(section)}, task {section.key['task']}", samples)


def _is_generated(section: Section) -> bool:
    return section.key.get("profile") == PROFILE  # without runs there is no key


def _greedy(section: Section) -> dict[str, str]:
    """Of which set the answers to our own instructions are."""
    return {"set": "alpaca" if _is_generated(section) else "nine", "decoding": "greedy"}


def _instructions(section: Section, ids: Sequence[str]) -> dict[str, Asked]:
    return {
        each.id: Asked(each.instruction, each.input, each.reference or "")
        for each in own_instructions(section.key["profile"])
    }


def _images(section: Section, ids: Sequence[str]) -> dict[str, Asked]:
    """The first images; those of the generated world with what is in them."""
    first = ids[:CAPTIONED]
    if not _is_generated(section):
        return {each: Asked(f"image {each}") for each in first}
    with data_of(PROFILE):
        splits = load_captions(section.key["task"])
        known = {str(each.id): each for part in vars(splits).values() for each in part}
        return {
            each: Asked(
                f"image {each}",
                reference=known[each].captions[0],
                picture=data_address(known[each].image.read_bytes()),
            )
            if each in known
            else Asked(f"image {each}")
            for each in first
        }


def _written(
    runs: Runs, section: Section, wanted: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """The texts of each row of the section by id, methods in the order of the figures."""
    order = ordered({row.method for row in section.rows})
    for row in sorted(section.rows, key=lambda row: order.index(row.method)):
        for run in row.done[:1]:
            stored = runs.one(run)
            if not stored.has_predictions:
                continue
            try:
                records = stored.predictions()
            except ZiaError as error:
                runs.give_up(stored.name, error)
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
