"""The run browser: a line per run, and the details that open below it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite
from typing import Any

from experiments.harness.stored import StoredRun
from experiments.io.output import plain
from experiments.report import formats
from experiments.report.experiments import report_infos
from experiments.report.run import Run
from experiments.report.runs import Runs, select
from zia_core.errors import ZiaError

POINTS = 40  # of a curve, each a mean over steps
Curve = list[tuple[float, float]]  # (step, value)


@dataclass(frozen=True)
class Listed:
    """One run; `details` are the texts and curves that open below its line."""

    run: Run
    name: str  # "<experiment>/<folder>"
    phase: str
    score: float | None
    score_title: str
    details: dict[str, Any]


@dataclass
class Browser:
    """All runs, and the package lists that they share."""

    lines: list[Listed] = field(default_factory=list)
    packages: list[str] = field(default_factory=list)  # `details["packages"]` is an index

    @property
    def data(self) -> dict[str, Any]:
        """The data of the page's script."""
        runs = {line.name: line.details for line in self.lines}
        return dict(_seen({"runs": runs, "packages": self.packages}))


def _seen(value: Any) -> Any:
    """The value with `plain` texts: JSON in the page would restore control characters."""
    if isinstance(value, dict):
        return {plain(key): _seen(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return list(map(_seen, value))
    return plain(value) if isinstance(value, str) else value


def browse(runs: Runs) -> Browser:
    """Read every run; damaged logs are handled as `runs` says."""
    browser = Browser()
    infos = report_infos()
    for experiment in sorted({stored.experiment for stored in runs.found.values()}):
        score = infos[experiment].score if experiment in infos else None
        fields = [score.field] if score else []
        for run in select(runs, experiment, fields, trials=True):
            stored = runs.one(run)
            try:
                curves = dict(_curves(stored.metrics()))
            except ZiaError as error:
                runs.give_up(stored.name, error)
                continue
            value = run.result.get(score.field) if score else None
            browser.lines.append(
                Listed(
                    run=run,
                    name=f"{run.experiment}/{run.folder}",
                    phase=str(run.settings.get("phase", "")),
                    score=None if value is None or score is None else value * score.scale,
                    score_title=score.title if score and value is not None else "",
                    details=_details(run, stored, curves, browser.packages),
                )
            )
    return browser


def _details(
    run: Run, stored: StoredRun, curves: Mapping[str, Curve], packages: list[str]
) -> dict[str, Any]:
    git = stored.environment.get("git") or {}
    installed = stored.environment.get("packages") or {}
    listed = ", ".join(f"{name} {version}" for name, version in sorted(installed.items()))
    if listed and listed not in packages:
        packages.append(listed)
    code = str(git.get("sha") or "not recorded")
    environment = {
        "code": code + (", with uncommitted changes" if git.get("dirty") else ""),
        "machine": run.hardware,
        "system": str(stored.environment.get("platform") or "not recorded"),
        "python": str(stored.environment.get("python") or "not recorded"),
    }
    return {
        "reason": run.reason if run.state == "failed" else "",
        "settings": _texts(run.settings),
        "result": _texts(stored.result),
        "environment": environment
        | {f"hash of the {kind}": text for kind, text in sorted(run.inputs.items())},
        "attempts": str(len(stored.status["attempts"])),
        "packages": packages.index(listed) if listed else None,
        "curves": curves,
    }


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: formats.setting(value) for name, value in sorted(values.items())}


def _curves(records: Iterable[Any]) -> Iterator[tuple[str, Curve]]:
    """The training loss, and every number of the evaluations, by step and thinned."""
    found: dict[str, Curve] = {}
    for record in records:
        if not isinstance(record, dict) or not _is_number(record.get("step")):
            continue
        evaluation = record.get("eval")
        numbers = evaluation if isinstance(evaluation, dict) else {}
        if "loss" in record:
            numbers = {"training loss": record["loss"]}
        for name, value in numbers.items():
            if _is_number(value):
                found.setdefault(name, []).append((record["step"], value))
    for name, curve in found.items():
        if len(curve) > 1:
            yield name, [(_short(step), _short(value)) for step, value in _thinned(curve)]


def _thinned(curve: Curve) -> Curve:
    count = min(POINTS, len(curve))
    ends = [round(place * len(curve) / count) for place in range(count + 1)]
    parts = [curve[start:end] for start, end in pairwise(ends)]
    return [
        (sum(step for step, _ in part) / len(part), sum(value for _, value in part) / len(part))
        for part in parts
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and isfinite(value)


def _short(value: float) -> float:
    """Rounded to four digits."""
    return float(f"{value:.4g}")
