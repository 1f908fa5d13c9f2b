"""Group runs into sections and rows: seeds together, and only what is comparable."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any

from experiments.harness.report_info import TRAINING_LOSS, TrainedRule
from experiments.io.files import canonical_json
from experiments.report import formats
from experiments.report.run import Run

# Runs that differ in one of these are never in one section; runs of one task that differ in their
# settings are never in one row.
SECTION = ("profile", "backbone", "data", "version", "task")
SECTION_OF_TASKS = ("profile", "backbone", "data", "version")
FEATURES = "images"  # of an encoder: one vector an image, or all of its tokens
MIXED = "different data or weights"  # seeds of one task that have no common mean


@dataclass(frozen=True)
class Column:
    """A field of result.json as a column; `title` is the paper's where the paper has it."""

    field: str
    title: str
    unit: str
    format: Callable[[float, float], str]
    of_machine: bool = False  # seeds on different machines have no common mean
    scale: float = 1.0  # of the field, to the unit of the column
    tasks: tuple[str, ...] = ()  # averaged, seed by seed; empty: whichever the row has
    compared: bool = False  # show the difference to the paper
    if_there: bool = False  # older runs lack the field: shown if any run has it
    band: float = 2.0  # of paired differences: methods that differ by less are level

    @property
    def is_time(self) -> bool:
        """Whether runs that shared their cores have no such number."""
        return self.unit in ("seconds", "tokens per second")


@dataclass(frozen=True)
class Row:
    """The seeds of one method with one set of settings, in one task or several."""

    method: str  # or the name of a line
    runs: tuple[Run, ...]
    trained: TrainedRule = TRAINING_LOSS
    # Settings in its label, such as those that tell it from a similar row.
    variant: dict[str, str] = field(default_factory=dict)

    @property
    def done(self) -> list[Run]:
        """The finished runs."""
        return [run for run in self.runs if run.state == "done"]

    @property
    def machines(self) -> list[str]:
        """The machines of the runs."""
        return sorted({run.hardware for run in self.runs})

    def of(self, tasks: Sequence[str]) -> "Row":
        """Return the row's runs of these tasks, or all if none is named."""
        if not tasks:
            return self
        return replace(self, runs=tuple(run for run in self.runs if run.task in tasks))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the row's first run."""
        return self.runs[0].settings if self.runs else {}

    def setting(self, name: str) -> str:
        """Return a setting as text, by task where it differs between the row's tasks."""
        texts = [(run.task, setting_text(run.settings, name)) for run in self.runs]
        different = dict.fromkeys(text for _, text in texts)
        if len(different) < 2:
            return next(iter(different), "not recorded")
        by_task = {
            text: dict.fromkeys(t for t, other in texts if other == text) for text in different
        }
        return "; ".join(f"{text} ({', '.join(tasks)})" for text, tasks in by_task.items())

    def describe(self, names: Sequence[str]) -> str:
        """Return the named settings as text."""
        return ", ".join(f"{name} {self.setting(name)}" for name in names)

    @property
    def mixed(self) -> bool:
        """Whether finished seeds of a task had different data or weights, as far as recorded."""
        found: dict[tuple[str, str], set[str]] = {}
        for run in self.done:
            for kind, digest in run.inputs.items():
                found.setdefault((run.task, kind), set()).add(digest)
        return any(len(digests) > 1 for digests in found.values())

    @property
    def state(self) -> str:
        """One of the states of `Measured`."""
        if not self.runs:
            return "missing"
        if not self.done:
            return "failed" if "failed" in {run.state for run in self.runs} else "not finished"
        if self.mixed:
            return MIXED
        trained = all(self.trained.holds(run.result) for run in self.done)
        return "done" if trained else "not trained"


def same_inputs(*rows: Row) -> bool:
    """Whether finished runs of a task had the same data and weights, where several record them.

    A run without images records no encoder; `FEATURES` may differ between methods.
    """
    found: dict[tuple[str, str, str], Any] = {}
    return all(
        found.setdefault((run.task, kind, name), digest) == digest
        for row in rows
        for run in row.done
        for kind, digests in run.inputs.items()
        for name, digest in json.loads(digests).items()
        if name != FEATURES
    )


def setting_text(settings: dict[str, Any], name: str) -> str:
    """Return a setting as text; runs older than the setting do not have it."""
    return formats.setting(settings[name]) if name in settings else "not recorded"


@dataclass(frozen=True)
class Section:
    """The rows that may be compared: of one profile, backbone, data and version."""

    key: dict[str, Any]
    rows: list[Row]

    @property
    def begun(self) -> list[Row]:
        """The rows that have runs."""
        return [row for row in self.rows if row.runs]

    @property
    def runs(self) -> list[Run]:
        """All runs."""
        return [run for row in self.rows for run in row.runs]

    def title(self, of: str = "") -> str:
        """Return the section as a heading; `of` names the experiment."""
        key = self.key
        task = f", task {key['task']}" if "task" in key else ""
        version = f"{of} version {key['version']}".lstrip()
        return f"{key['profile']}: {key['backbone']}, data {key['data']} ({version}{task})"

    def varying(self) -> list[str]:
        """Return the settings in which the runs differ."""
        names = sorted({name for run in self.runs for name in run.settings})
        return [name for name in names if _differs(self.runs, name)]

    def label(self, row: Row) -> str:
        """Return the method, with what tells the row from others of the method."""
        label = row.method + (" †" if self.reduced and row.runs else "")
        different = ", ".join(f"{name} {value}" for name, value in row.variant.items())
        return f"{label} ({different})" if different else label

    @property
    def reduced(self) -> bool:
        """Whether the runs had a reduced budget: fewer data, or shorter training."""
        return str(self.key.get("data", "")).startswith("reduced")


def sections(
    runs: Sequence[Run],
    methods: Sequence[str],
    by: Sequence[str] = SECTION,
    trained: TrainedRule = TRAINING_LOSS,
    shown: Sequence[str] = (),
) -> list[Section]:
    """Group runs into sections and rows; without runs there is one section, without a key.

    Args:
        runs: in the order of the sections.
        methods: the first rows of each section, with or without runs; others follow by name.
        by: the fields that runs of a section have in common.
        trained: when a run counts as trained.
        shown: settings in the label of every row.
    """
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(getattr(run, name) for name in by), []).append(run)
    return [
        Section(dict(zip(by, key, strict=True)), list(_rows(group, methods, trained, shown)))
        for key, group in groups.items()
    ] or [Section({}, list(_rows((), methods, trained, shown)))]


def _rows(
    runs: Sequence[Run],
    methods: Sequence[str],
    trained: TrainedRule,
    shown: Sequence[str],
) -> Iterator[Row]:
    for method in [*methods, *sorted({run.heading for run in runs} - set(methods))]:
        of_method = [run for run in runs if run.heading == method]
        if not of_method:
            yield Row(method, (), trained)
            continue
        names = sorted({*_variants(of_method), *shown})
        variants: dict[str, list[Run]] = {}
        for run in of_method:
            texts = {name: _setting_of(run, name) for name in names}
            variants.setdefault(canonical_json(texts), []).append(run)
        for _, group in sorted(variants.items()):
            texts = {name: _setting_of(group[0], name) for name in names}
            yield Row(method, tuple(group), trained, texts)


def _variants(runs: Sequence[Run]) -> set[str]:
    """The settings in which runs of a method differ within a task.

    Settings that only differ between tasks, as an image size may, do not split a row.
    """
    names: set[str] = set()
    for task in {run.task for run in runs}:
        of_task = [run for run in runs if run.task == task]
        recorded = {name for run in of_task for name in run.settings}
        names |= {name for name in recorded if _differs(of_task, name)}
    return names


def _differs(runs: Sequence[Run], name: str) -> bool:
    return len({_setting_of(run, name) for run in runs}) > 1


def _setting_of(run: Run, name: str) -> str:
    """A setting as text. A run older than the setting did what is the default now."""
    from experiments.harness import registry

    experiment = registry.experiments().get(run.experiment)
    known = fields(experiment.settings) if experiment else ()
    default = {f.name: f.default for f in known if f.default is not MISSING}
    return setting_text(default | run.settings, name)
