"""Run folders as a data frame: one row a run, in an order that follows from their contents."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.harness.stored import RESULT, StoredRun, states
from experiments.harness.typed import conform_fields

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


def run_frame(roots: Sequence[Path], experiment: str, measured: Mapping[str, Any]) -> "DataFrame":
    """Return the runs of `experiment` under `roots`, sorted by profile, method and seed.

    Columns: what the run is (`IDENTIFYING`), its `state`, `reason`, `hardware` and `folder`, and
    the fields `measured` of its result, NaN where the run is not done. A run that is in several
    roots is taken from the first. ZiaError names a file that is damaged or lacks a field.
    """
    import pandas as pd

    found: dict[str, StoredRun] = {}
    for root in roots:
        for run in states(root):
            if run.path.parent.name == experiment:
                found.setdefault(run.path.name, run)
    columns = [*IDENTIFYING, "state", "reason", "hardware", "folder", *measured]
    frame = pd.DataFrame([_row(run, measured) for run in found.values()], columns=columns)
    frame["profile"] = pd.Categorical(frame["profile"], _profiles(frame["profile"]), ordered=True)
    order = ["profile", "backbone", "data", "version", "task", "method", "seed", "folder"]
    return frame.astype(dict.fromkeys(measured, float)).sort_values(order, ignore_index=True)


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
