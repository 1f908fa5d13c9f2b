"""Check stored runs by what is in them: whatever can be computed again is."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from experiments.harness import registry, run_paths, seal, stored, unpacking
from experiments.harness.archive import Archive, ArchivedRun, FilePath, RunPath
from experiments.harness.experiment import Experiment, NeedsData
from experiments.harness.ownership import OWNER
from experiments.harness.spec import RunSpec
from experiments.io.files import read_json
from zia_core.errors import ZiaError

# A metric is recomputed by the same code from the same texts; only the order of a sum may differ.
RELATIVE_TOLERANCE = 1e-9
# A folder with one of these is a run, even if the others are gone.
TELLING = (stored.CONFIG, stored.STATUS, seal.SEAL)


@dataclass(frozen=True)
class Finding:
    """The outcome of one check of one run."""

    run: str  # "<experiment>/<run>"
    check: str
    outcome: Literal["ok", "failed", "needs data", "not sealed", "absent"]
    detail: str = ""


class NotSealedError(ZiaError):
    """The run was done before there were seals."""


class AbsentError(ZiaError):
    """Published runs come without the file, so it cannot be checked."""


OUTCOMES: dict[type[Exception], Literal["needs data", "not sealed", "absent"]] = {
    NeedsData: "needs data",
    NotSealedError: "not sealed",
    AbsentError: "absent",
}


def verify(path: RunPath, *, sealing: bool = False) -> list[Finding]:
    """Check one run, an archive, or all runs and archives in a folder; ZiaError if there is none.

    `path`: a run folder, an archive, a run in an archive (`ARCHIVE.zip/RUN`), or a folder of them.
    `sealing`: give finished runs without a seal one if nothing else is wrong with them. An archive
    whose index cannot be read is one failed check.
    """
    runs = list(_runs_in(path))
    if not runs:
        raise ZiaError(run_paths.no_run_in(path))
    return [
        finding
        for run in runs
        for finding in ([run] if isinstance(run, Finding) else _verified(run, sealing))
    ]


def _runs_in(path: RunPath) -> Iterator[RunPath | Finding]:
    if isinstance(path, ArchivedRun):
        yield path
    elif run_paths.is_archive(path.parent):
        yield from (run for run in Archive(path.parent).runs if run.name == path.name)
    elif any((path / name).exists() for name in TELLING):
        yield path
    else:
        found = {file.parent for name in TELLING for file in path.glob(f"*/*/{name}")}
        yield from sorted(each for each in found if not run_paths.is_hidden(each))
        for archived in run_paths.archives_of(path):
            try:
                yield from Archive(archived).runs
            except ZiaError as error:
                yield Finding(archived.name, "archive", "failed", str(error))


def _verified(run: RunPath, sealing: bool) -> list[Finding]:
    findings = list(verify_run(run))
    outcomes = {finding.outcome for finding in findings}
    if not sealing or "not sealed" not in outcomes or "failed" in outcomes:
        return findings
    if not isinstance(run, Path):
        return findings
    seal.write(run)
    return list(verify_run(run))


def verify_run(run: RunPath) -> Iterator[Finding]:
    """Run every check that the state of the run allows."""
    name = run_paths.run_name(run.resolve() if isinstance(run, Path) else run)
    checks: list[tuple[str, Callable[[RunPath], str]]] = [
        ("identity", check_identity),
        ("status", check_status),
        ("log", check_log),
        ("seal", check_seal),
    ]
    if (run / stored.RESULT).exists():
        checks += [
            ("result", check_result),
            ("adapter", check_adapter),
            ("metrics", check_metrics),
        ]
    for title, check in checks:
        try:
            yield Finding(name, title, "ok", check(run))
        except (NeedsData, ZiaError) as error:
            yield Finding(name, title, OUTCOMES.get(type(error), "failed"), str(error))


def report(findings: Sequence[Finding]) -> str:
    """Each run's name with a line for each check below it, and the totals at the end."""
    lines = []
    for run, checks in groupby(findings, key=lambda finding: finding.run):
        lines.append(run)
        lines += [f"  {check.check:<10}{check.outcome:<12}{check.detail}" for check in checks]
    counts = Counter(finding.outcome for finding in findings)
    totals = ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
    return "\n".join([*lines, f"checks: {totals}"])


def check_identity(run: RunPath) -> str:
    """The identity computed from config.json is the one in the run's name."""
    spec = RunSpec.from_json(read_json(run / stored.CONFIG), _experiment(run).settings)
    described = f"{spec.experiment}/{spec.folder_name}"
    if described != run_paths.run_name(run.resolve() if isinstance(run, Path) else run):
        raise ZiaError(
            f"{run / stored.CONFIG} describes the run {described}, which is not this folder's name"
        )
    return spec.identity


def check_status(run: RunPath) -> str:
    """The state is a known one, and `done` is backed by a result."""
    state = str(stored.read_status(run)["state"])
    if (state == "done") != (run / stored.RESULT).exists():
        absent = "no result.json" if state == "done" else "a result.json"
        raise ZiaError(f"{run / stored.STATUS}: the state is {state}, but there is {absent}")
    return state


def check_log(run: RunPath) -> str:
    """Training steps in metrics.jsonl are 1, 2, ... without a gap; steps never decrease."""
    path, timing = run / stored.METRICS, run / stored.TIMING
    records = stored.metrics(run)
    _whole_steps(path, records)
    trained = [record["step"] for record in records if "eval" not in record]
    if trained != list(range(1, len(trained) + 1)):
        gap = next(i for i, step in enumerate(trained, start=1) if step != i)
        raise ZiaError(f"{path}: step {gap} is missing or not in its place")
    status = stored.read_status(run)
    if status["state"] == "done":
        sealed = seal.read(run)
        # Published runs come without timings, whose sum is in result.json.
        published = sealed is not None and stored.TIMING not in sealed
        for file in (path,) if published else (path, timing):
            if not file.exists():
                raise ZiaError(f"{file} is missing")
    total = status["progress"].get("total", len(trained))
    if status["state"] == "done" and len(trained) != total:
        raise ZiaError(f"{path} has {len(trained)} steps, but the finished run has {total}")
    if timing.exists():
        _whole_steps(timing, stored.timing(run))
    return f"{len(trained)} steps"


def check_seal(run: RunPath) -> str:
    """The files of a finished run are those that were sealed, to the byte.

    Further files are named; published runs may have none.
    """
    if stored.load_sealed(run, tensors=True).state != "done":
        return "comes when the run is done"
    sealed = seal.read(run)
    if sealed is None:
        raise NotSealedError(f"done before there were seals; {seal.HOW}")
    others = [name for name in seal.listing(run) if name not in sealed]
    if others and not (run / OWNER).exists():  # published: nobody works there
        raise ZiaError(f"{run / others[0]} is not listed in {seal.SEAL}: take it away")
    return "; not of the run: ".join([f"{len(sealed)} files", *filter(None, [", ".join(others)])])


def check_adapter(run: RunPath) -> str:
    """The adapter is the one that result.json describes, and its numbers are finite."""
    path = run / stored.ADAPTER
    if isinstance(run, Path) and (run / stored.ADAPTER).exists():
        stored.with_adapter(run)
        return f"{_finite_tensors(run / stored.ADAPTER)} tensors"
    recorded = read_json(run / stored.RESULT).get("adapter_sha256")
    if recorded is None:
        return "none was made"
    if (run / OWNER).exists():  # the run was made here, so it had one
        raise ZiaError(f"{path} is missing")
    raise AbsentError(f"published without {stored.ADAPTER}, whose SHA-256 was {recorded}")


def check_result(run: RunPath) -> str:
    """result.json has every field that the experiment promises, each of its type."""
    path = run / stored.RESULT
    fields = _experiment(run).result_fields
    stored.check_result(read_json(path), fields, path)
    return f"{len(fields)} fields"


def check_metrics(run: RunPath) -> str:
    """The metrics in result.json are those that `rescore` computes from the predictions."""
    rescore = _experiment(run).rescore
    if rescore is None:
        return "not from predictions"
    result = read_json(run / stored.RESULT)
    predictions = stored.predictions_path(run)
    if not predictions.exists():  # before anybody says that data are missing
        raise ZiaError(f"{predictions} is missing")
    try:
        with unpacking.as_folder(run) as folder:
            computed = rescore(folder)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ZiaError(
            f"{predictions} is not what the run wrote: {type(error).__name__}: {error}"
        ) from error
    for name, value in computed.items():
        claimed = result.get(name)
        if not isinstance(claimed, (int, float)) or not math.isclose(
            claimed, value, rel_tol=RELATIVE_TOLERANCE
        ):
            raise ZiaError(
                f"{run / stored.RESULT}: {name} is {claimed}, but the predictions give {value}"
            )
    return ", ".join(computed)


def _finite_tensors(path: Path) -> int:
    """How many tensors the adapter has; ZiaError if one has a number that is not finite."""
    import torch

    from zia_core.adapters import unpacked

    _, tensors = unpacked(path)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ZiaError(f"{path}: {name} is not finite")
    return len(tensors)


def _experiment(run: RunPath) -> Experiment:
    return registry.get(str(read_json(run / stored.CONFIG).get("experiment")))


def _whole_steps(path: FilePath, records: Sequence[dict[str, Any]]) -> None:
    """Every line has a whole `step`, and the steps never decrease."""
    last = 0
    for number, record in enumerate(records, start=1):
        step = record.get("step")
        if type(step) is not int or step < last:
            raise ZiaError(f"{path}, line {number}: step {step!r} after step {last}")
        last = step
