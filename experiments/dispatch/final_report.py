"""Make tables, figures, claims and report, as `zia reproduce` does in the end."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from experiments.dispatch.in_process import EXIT_DONE, EXIT_FAILED
from experiments.dispatch.submission import Request, Submission
from experiments.dispatch.worker import name_of
from experiments.harness import plan, registry, stored
from experiments.harness.ownership import Ownership
from experiments.io.files import check_output
from experiments.io.output import tell

REPORT = "report"  # in the folder of a submission
MADE = "made.json"
STALE_AFTER_S = 60.0  # as for runs


def check(out: Path) -> None:
    """Raise ZiaError unless everything can be written under `out`."""
    for folder in (out, out / "tables", out / "figures"):
        check_output(folder)


def make(runs: Path, out: Path) -> Iterator[str]:
    """Write everything under `out`; yield a line for each file written or left out.

    ZiaError as in `check`, before anything is made.
    """
    from experiments.report.claims.write import findings_of, write_findings
    from experiments.report.figures.write import by_kind, write_drawn
    from experiments.report.html.report import page_of, write_page
    from experiments.report.runs import read_runs
    from experiments.report.tables import write

    check(out)
    read = read_runs([runs])
    tables = write.made_of(read)
    yield from map(str, write.write_made(tables, out / "tables"))
    figures = list(by_kind(read))
    written, left_out = write_drawn(figures, read, out / "figures")
    yield from map(str, (*written, *left_out))
    path, lines = write_findings(findings_of(read), out / "tables")
    yield from map(str, (*lines, path))
    yield str(write_page(page_of(read, figures, tables), out))


def make_if_finished(submission: Submission) -> bool:
    """Make them once no run of the submission is missing; return whether they are made.

    Every worker calls this when it ends, so the last one makes them. If that one is killed, the
    next caller does, on another machine after a minute without heartbeat.
    """
    folder = submission.folder / REPORT
    if (folder / MADE).exists():
        return True
    if any(_may_still_come(submission)):
        return False
    owner = Ownership.claim(folder, stale_after_s=STALE_AFTER_S, wait=True)
    if owner is None:
        return False
    try:
        if not (folder / MADE).exists():
            for line in make(submission.runs_root, Path(submission.out)):
                tell(line)
            owner.write_json(MADE, {"out": submission.out})
        return True
    finally:
        owner.release()


def finish(request: Request, submission: Submission | None = None) -> int:
    """Make them after all runs have ended, unless the last worker of `submission` did.

    Returns the exit code: 0 if every run of the request is done, 1 if not.
    """
    if submission is None or not make_if_finished(submission):
        for line in make(request.runs_root, request.out):
            tell(line)
    states = Counter(plan.inspect(spec, request.runs_root).state for spec in request.specs())
    counts = ", ".join(f"{n} {state}" for state, n in states.items())
    tell(f"{counts}; tables, figures, claims and report are in {request.out}")
    return EXIT_DONE if states.keys() <= {"done"} else EXIT_FAILED


def _may_still_come(submission: Submission) -> Iterator[str]:
    """The names of unfinished runs, except those that wait for a failed one."""
    never: set[str] = set()
    for spec in submission.request.specs():
        state = plan.inspect(spec, submission.runs_root).state
        folder = submission.runs_root / name_of(spec)
        needs = {needed.identity for needed in registry.get(spec.experiment).requires(spec)}
        if state == "done" or (state == "failed" and stored.has_diverged(folder)):
            continue
        if state == "failed" or needs & never:
            never.add(spec.identity)
        else:
            yield name_of(spec)
