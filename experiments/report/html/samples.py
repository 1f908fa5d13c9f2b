"""What models wrote, method beside method."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.harness import report_info
from experiments.harness.report_info import Asked
from experiments.report.experiments import report_infos
from experiments.report.figures.drawn import subtitle
from experiments.report.figures.style import ordered
from experiments.report.rows import SECTION, Section, sections
from experiments.report.runs import Runs, select
from zia_core.errors import ZiaError


@dataclass(frozen=True)
class Sample:
    """A question, and the answer of each method."""

    asked: Asked
    answers: tuple[tuple[str, str], ...]  # label of the method, text


@dataclass(frozen=True)
class Samples:
    """The samples of one section."""

    title: str
    samples: tuple[Sample, ...]


def samples(runs: Runs) -> list[Samples]:
    """Return what the first seed of each method wrote, section by section."""
    return [
        found
        for experiment, info in report_infos().items()
        if info.samples
        for found in _samples(runs, experiment, info.samples)
    ]


def _samples(runs: Runs, experiment: str, info: report_info.Samples) -> Iterator[Samples]:
    found = select(runs, experiment, ["tuned_parameters"])
    for section in filter(lambda section: section.key, sections(found, (), SECTION)):
        profile, task = section.key["profile"], section.key["task"]
        texts = {
            label: written
            for label, written in _written(runs, section, info.fields(profile))
            if written
        }
        if not texts:
            continue
        asked = info.asked(profile, task, list(next(iter(texts.values()))))
        found_samples = tuple(
            Sample(one, tuple((label, of[id]) for label, of in texts.items() if id in of))
            for id, one in asked.items()
            if any(id in of for of in texts.values())
        )
        yield Samples(f"{subtitle(section)}, task {task}", found_samples)


def _written(
    runs: Runs, section: Section, wanted: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """The texts of each row by id, with methods in the order of the figures."""
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
