"""Checks run folders by what is in them: nothing is trusted that can be computed again."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from experiments.harness import registry, stored
from experiments.harness.experiment import Experiment, NeedsData
from experiments.harness.files import read_json, read_lines, sha256_file
from experiments.harness.publish import MANIFEST
from experiments.harness.spec import RunSpec
from zia_core.errors import ZiaError

# A metric is recomputed by the same code from the same texts; only the order of a sum may differ.
RELATIVE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Finding:
    """The outcome of one check of one run folder."""

    folder: Path
    check: str
    outcome: Literal["ok", "failed", "needs data"]
    detail: str = ""


def verify(path: Path) -> list[Finding]:
    """Check the run folder `path`, or every run folder below it; ZiaError if there is none."""
    folders = [path] if (path / "config.json").exists() else stored.folders(path)
    if not folders:
        raise ZiaError(f"there is no run in {path}: it holds no <experiment>/<run>/config.json")
    return [finding for folder in folders for finding in verify_run(folder)]


def verify_run(folder: Path) -> Iterator[Finding]:
    """Run every check that the state of the run allows; the files named are in `folder`."""
    checks: list[tuple[str, Callable[[Path], str]]] = [
        ("identity", check_identity),
        ("status", check_status),
        ("log", check_log),
        ("hashes", check_hashes),
    ]
    if (folder / "result.json").exists():
        checks += [("result", check_result), ("metrics", check_metrics)]
    for name, check in checks:
        try:
            yield Finding(folder, name, "ok", check(folder))
        except NeedsData as missing:
            yield Finding(folder, name, "needs data", str(missing))
        except ZiaError as error:
            yield Finding(folder, name, "failed", str(error))


def report(findings: Sequence[Finding]) -> str:
    """The name of each run, below it a line for each check, and at the end the totals."""
    lines = []
    for folder, checks in groupby(findings, key=lambda finding: finding.folder):
        lines.append(f"{folder.resolve().parent.name}/{folder.resolve().name}")
        lines += [f"  {check.check:<10}{check.outcome:<12}{check.detail}" for check in checks]
    counts = Counter(finding.outcome for finding in findings)
    totals = ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
    return "\n".join([*lines, f"checks: {totals}"])


def check_identity(folder: Path) -> str:
    """The identity computed from config.json is the one in the folder's name."""
    spec = RunSpec.from_json(read_json(folder / "config.json"), _experiment(folder).settings)
    if (spec.experiment, spec.folder_name) != (folder.resolve().parent.name, folder.resolve().name):
        raise ZiaError(
            f"{folder / 'config.json'} describes the run {spec.experiment}/{spec.folder_name}, "
            "which is not this folder's name"
        )
    return spec.identity


def check_status(folder: Path) -> str:
    """The state is a known one, and `done` is backed by a result."""
    state = str(stored.read_status(folder)["state"])
    if (state == "done") != (folder / "result.json").exists():
        absent = "no result.json" if state == "done" else "a result.json"
        raise ZiaError(f"{folder / 'status.json'}: the state is {state}, but there is {absent}")
    return state


def check_log(folder: Path) -> str:
    """Training steps in metrics.jsonl are 1, 2, ... without a gap; no line goes back in steps."""
    path = folder / "metrics.jsonl"
    records = read_lines(path)
    _whole_steps(path, records)
    trained = [record["step"] for record in records if "eval" not in record]
    if trained != list(range(1, len(trained) + 1)):
        gap = next(i for i, step in enumerate(trained, start=1) if step != i)
        raise ZiaError(f"{path}: step {gap} is missing or not in its place")
    status = stored.read_status(folder)
    total = status["progress"].get("total", len(trained))
    if status["state"] == "done" and len(trained) != total:
        raise ZiaError(f"{path} has {len(trained)} steps, but the finished run has {total}")
    _whole_steps(folder / "timing.jsonl", read_lines(folder / "timing.jsonl"))
    return f"{len(trained)} steps"


def check_hashes(folder: Path) -> str:
    """Published files are what `files.json` says; a local run has no such list."""
    if not (folder / MANIFEST).exists():
        return "not published"
    expected = read_json(folder / MANIFEST)
    present = {path.name for path in folder.iterdir()} - {MANIFEST}
    for name in sorted(present ^ expected.keys()):
        fault = "is not listed in" if name in present else "is missing, but listed in"
        raise ZiaError(f"{folder / name} {fault} {MANIFEST}")
    for name, digest in expected.items():
        if sha256_file(folder / name) != digest:
            raise ZiaError(f"{folder / name} was changed: its SHA-256 is not that in {MANIFEST}")
    return f"{len(expected)} files"


def check_result(folder: Path) -> str:
    """result.json has every field that the experiment promises, each of its type."""
    path = folder / "result.json"
    fields = _experiment(folder).result_fields
    stored.check_result(read_json(path), fields, path)
    return f"{len(fields)} fields"


def check_metrics(folder: Path) -> str:
    """What `rescore` computes from the predictions is what result.json says."""
    rescore = _experiment(folder).rescore
    if rescore is None:
        return "not from predictions"
    result = read_json(folder / "result.json")
    computed = rescore(folder)
    for name, value in computed.items():
        claimed = result.get(name)
        if not isinstance(claimed, (int, float)) or not math.isclose(
            claimed, value, rel_tol=RELATIVE_TOLERANCE
        ):
            raise ZiaError(
                f"{folder / 'result.json'}: {name} is {claimed}, but the predictions give {value}"
            )
    return ", ".join(computed)


def _experiment(folder: Path) -> Experiment:
    return registry.get(str(read_json(folder / "config.json").get("experiment")))


def _whole_steps(path: Path, records: list[dict[str, Any]]) -> None:
    """Every line has a whole `step`, and the steps never decrease."""
    last = 0
    for number, record in enumerate(records, start=1):
        step = record.get("step")
        if type(step) is not int or step < last:
            raise ZiaError(f"{path}, line {number}: step {step!r} after step {last}")
        last = step
