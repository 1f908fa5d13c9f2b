"""Checks run folders by what is in them: nothing is trusted that can be computed again."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from experiments.harness import registry, seal, stored
from experiments.harness.experiment import Experiment, NeedsData
from experiments.harness.ownership import OWNER
from experiments.harness.spec import RunSpec
from experiments.io.files import read_json
from zia_core.errors import ZiaError

# A metric is recomputed by the same code from the same texts; only the order of a sum may differ.
RELATIVE_TOLERANCE = 1e-9
# A folder with one of these is a run, also if the others have gone.
TELLING = (stored.CONFIG, stored.STATUS, seal.SEAL)


@dataclass(frozen=True)
class Finding:
    """The outcome of one check of one run folder."""

    folder: Path
    check: str
    outcome: Literal["ok", "failed", "needs data", "not sealed", "absent"]
    detail: str = ""


class NotSealedError(ZiaError):
    """The run was done before there were seals."""


class AbsentError(ZiaError):
    """The file is left out of published runs, so it cannot be checked."""


OUTCOMES: dict[type[Exception], Literal["needs data", "not sealed", "absent"]] = {
    NeedsData: "needs data",
    NotSealedError: "not sealed",
    AbsentError: "absent",
}


def verify(path: Path, *, sealing: bool = False) -> list[Finding]:
    """Check the run folder `path`, or every run folder below it; ZiaError if there is none.

    `sealing`: a finished run without a seal gets one if nothing else is wrong with it.
    """
    folders = [path] if any((path / name).exists() for name in TELLING) else _runs_below(path)
    if not folders:
        raise ZiaError(f"there is no run in {path}: it holds no <experiment>/<run>/config.json")
    return [finding for folder in folders for finding in _verified(folder, sealing)]


def _runs_below(path: Path) -> list[Path]:
    found = {file.parent for name in TELLING for file in path.glob(f"*/*/{name}")}
    return sorted(each for each in found if not stored.is_hidden(each))


def _verified(folder: Path, sealing: bool) -> list[Finding]:
    findings = list(verify_run(folder))
    outcomes = {finding.outcome for finding in findings}
    if not sealing or "not sealed" not in outcomes or "failed" in outcomes:
        return findings
    seal.write(folder)
    return list(verify_run(folder))


def verify_run(folder: Path) -> Iterator[Finding]:
    """Run every check that the state of the run allows; the files named are in `folder`."""
    checks: list[tuple[str, Callable[[Path], str]]] = [
        ("identity", check_identity),
        ("status", check_status),
        ("log", check_log),
        ("seal", check_seal),
    ]
    if (folder / "result.json").exists():
        checks += [
            ("result", check_result),
            ("adapter", check_adapter),
            ("metrics", check_metrics),
        ]
    for name, check in checks:
        try:
            yield Finding(folder, name, "ok", check(folder))
        except (NeedsData, ZiaError) as error:
            yield Finding(folder, name, OUTCOMES.get(type(error), "failed"), str(error))


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
    records = stored.metrics(folder)
    _whole_steps(path, records)
    trained = [record["step"] for record in records if "eval" not in record]
    if trained != list(range(1, len(trained) + 1)):
        gap = next(i for i, step in enumerate(trained, start=1) if step != i)
        raise ZiaError(f"{path}: step {gap} is missing or not in its place")
    status = stored.read_status(folder)
    if status["state"] == "done":
        for name in (path, folder / "timing.jsonl"):
            if not name.exists():
                raise ZiaError(f"{name} is missing")
    total = status["progress"].get("total", len(trained))
    if status["state"] == "done" and len(trained) != total:
        raise ZiaError(f"{path} has {len(trained)} steps, but the finished run has {total}")
    _whole_steps(folder / "timing.jsonl", stored.timing(folder))
    return f"{len(trained)} steps"


def check_seal(folder: Path) -> str:
    """The files of a finished run are those that were sealed, to the byte.

    Others are named; in published runs there may be none.
    """
    run = stored.load_sealed(folder, tensors=True)
    if run.state != "done":
        return "comes when the run is done"
    sealed = seal.read(folder)
    if sealed is None:
        raise NotSealedError(f"done before there were seals; {seal.HOW}")
    others = [name for name in seal.listing(folder) if name not in sealed]
    if others and not (folder / OWNER).exists():  # published: nobody works there
        raise ZiaError(f"{folder / others[0]} is not listed in {seal.SEAL}: take it away")
    return "; not of the run: ".join([f"{len(sealed)} files", *filter(None, [", ".join(others)])])


def check_adapter(folder: Path) -> str:
    """The adapter is the one that result.json describes, and its numbers are finite."""
    path = folder / stored.ADAPTER
    if path.exists():
        stored.with_adapter(folder)
        return f"{_finite_tensors(path)} tensors"
    recorded = read_json(folder / "result.json").get("adapter_sha256")
    if recorded is None:
        return "none was made"
    if (folder / OWNER).exists():  # the run was made here, so it had one
        raise ZiaError(f"{path} is missing")
    raise AbsentError(f"published without {stored.ADAPTER}, whose SHA-256 was {recorded}")


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
    if not (folder / stored.PREDICTIONS).exists():  # else one might say that data are missing
        raise ZiaError(f"{folder / stored.PREDICTIONS} is missing")
    try:
        computed = rescore(folder)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ZiaError(
            f"{folder / stored.PREDICTIONS} is not what the run wrote: "
            f"{type(error).__name__}: {error}"
        ) from error
    for name, value in computed.items():
        claimed = result.get(name)
        if not isinstance(claimed, (int, float)) or not math.isclose(
            claimed, value, rel_tol=RELATIVE_TOLERANCE
        ):
            raise ZiaError(
                f"{folder / 'result.json'}: {name} is {claimed}, but the predictions give {value}"
            )
    return ", ".join(computed)


def _finite_tensors(path: Path) -> int:
    """How many tensors the adapter has; ZiaError if one of their numbers is none."""
    import torch

    from zia_core.adapters import unpacked

    _, tensors = unpacked(path)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ZiaError(f"{path}: {name} is not finite")
    return len(tensors)


def _experiment(folder: Path) -> Experiment:
    return registry.get(str(read_json(folder / "config.json").get("experiment")))


def _whole_steps(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Every line has a whole `step`, and the steps never decrease."""
    last = 0
    for number, record in enumerate(records, start=1):
        step = record.get("step")
        if type(step) is not int or step < last:
            raise ZiaError(f"{path}, line {number}: step {step!r} after step {last}")
        last = step
