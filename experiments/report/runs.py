"""Run folders as a data frame: one row a run, in an order that follows from their contents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.harness import stored
from experiments.harness.stored import RESULT, StoredRun
from experiments.harness.typed import conform_fields
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from pandas import DataFrame

IDENTIFYING: dict[str, type] = {
    "experiment": str,
    "version": int,
    "task": str,
    "method": str,
    "backbone": str,
    "data": str,
    "profile": str,
    "seed": int,
    "settings": dict,
}
PROFILE_ORDER = ("mini", "small", "paper")


@dataclass
class Runs:
    """What lies in some folders of runs: the readable runs by folder, and the damaged ones."""

    roots: Sequence[Path] = ()
    keep_going: bool = False
    found: dict[str, StoredRun] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)  # "<experiment>/<run>": a sentence

    def of(self, experiment: str) -> list[StoredRun]:
        """Return the readable runs of one experiment."""
        return [run for run in self.found.values() if run.path.parent.name == experiment]

    def one(self, experiment: str, folder: str) -> StoredRun:
        """Return the run in that folder."""
        return self.found[f"{experiment}/{folder}"]

    def damaged_of(self, experiment: str) -> tuple[str, ...]:
        """Return the sentences about that experiment's damaged runs."""
        return tuple(
            sentence
            for name, sentence in sorted(self.damaged.items())
            if name.split("/")[0] == experiment
        )

    def give_up(self, path: Path, error: ZiaError) -> None:
        """Leave the run in `path` out, marked; raise `error` unless asked to keep going."""
        if not self.keep_going:
            raise error
        sentence = str(error)
        for root in self.roots:  # so that the same runs elsewhere give the same bytes
            sentence = sentence.replace(f"{root}/", "")
        self.found.pop(_name(path), None)
        self.damaged[_name(path)] = sentence


def read_runs(roots: Sequence[Path], *, keep_going: bool = False) -> Runs:
    """Read every run folder under `roots`; a run that is in several is taken from the first.

    ZiaError names a file that is damaged; with `keep_going` its run is left out and marked.
    """
    runs = Runs(roots, keep_going)
    for root in roots:
        for path in stored.folders(root):
            if _name(path) in runs.found or _name(path) in runs.damaged:
                continue
            try:
                runs.found[_name(path)] = stored.load(path)
            except ZiaError as error:
                runs.give_up(path, error)
    return runs


def run_frame(
    runs: Runs,
    experiment: str,
    measured: Mapping[str, Any],
    only: Mapping[str, object] | None = None,
) -> "DataFrame":
    """Return the runs of `experiment` with the settings in `only`, by profile, method and seed.

    Columns: what the run is (`IDENTIFYING`), its `state`, `reason`, `hardware` and `folder`, and
    the fields `measured` of its result, NaN where the run is not done. ZiaError names a file that
    lacks a field; with `runs.keep_going` its run is left out and marked.
    """
    import pandas as pd

    rows = []
    for run in runs.of(experiment):
        try:
            row = _row(run, measured)
        except ZiaError as error:
            runs.give_up(run.path, error)
            continue
        if all(row["settings"].get(name) == value for name, value in (only or {}).items()):
            rows.append(row)
    columns = [*IDENTIFYING, "state", "reason", "hardware", "folder", *measured]
    frame = pd.DataFrame(rows, columns=columns)
    frame["profile"] = pd.Categorical(frame["profile"], _profiles(frame["profile"]), ordered=True)
    order = ["profile", "backbone", "data", "version", "task", "method", "seed", "folder"]
    return frame.astype(dict.fromkeys(measured, float)).sort_values(order, ignore_index=True)


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _row(run: StoredRun, measured: Mapping[str, Any]) -> dict[str, Any]:
    row = conform_fields(IDENTIFYING, run.config, str(run.path / "config.json"))
    row |= {
        "state": run.state,
        "reason": run.status.get("reason"),
        "hardware": _hardware(run),
        "folder": run.path.name,
    }
    if run.state == "done":
        row |= conform_fields(measured, run.result, str(run.path / RESULT))
    return row


def _hardware(run: StoredRun) -> str:
    """What the run was computed on, for example "2 x NVIDIA A100" or "2 threads of AMD EPYC"."""
    torch = run.environment.get("torch") or {}
    gpus = torch.get("gpus") or []
    if gpus and run.config["settings"].get("device") != "cpu":
        return f"{len(gpus)} x {gpus[0]}"
    cpu = (run.environment.get("cpu") or {}).get("model") or "unknown CPU"
    return f"{torch['threads']} threads of {cpu}" if "threads" in torch else cpu


def _profiles(seen: Sequence[str]) -> list[str]:
    return [*PROFILE_ORDER, *sorted(set(seen) - set(PROFILE_ORDER))]
