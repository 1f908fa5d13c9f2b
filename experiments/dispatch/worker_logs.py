"""Find what the workers' logs say about one run."""

from collections.abc import Iterator
from pathlib import Path

from experiments.dispatch.submission import LOGS, SUBMISSIONS
from experiments.dispatch.worker import RUN_LINE
from experiments.harness import run_paths
from zia_core.errors import ZiaError

SUFFIXES = (".log", ".out")


def find(runs_root: Path, run: str) -> str:
    """The name `<experiment>/<folder>` of a run, given its path, name or identity.

    The first digits of the identity suffice. ZiaError if none or several match.
    """
    folders = run_paths.folders(runs_root)
    path = Path(run).absolute()
    meant = [
        folder
        for folder in folders
        if folder.absolute() == path
        or run == f"{folder.parent.name}/{folder.name}"
        or folder.name.rpartition("-")[2].startswith(run)
    ]
    if len(meant) != 1:
        which = f"several, such as {meant[0].name} and {meant[1].name}" if meant else "none"
        raise ZiaError(
            f"{run!r:.100} names {which} of the runs in {runs_root}: give the folder, or the first "
            "digits of the id that `zia status` shows"
        )
    return f"{meant[0].parent.name}/{meant[0].name}"


def lines(runs_root: Path, name: str) -> Iterator[str]:
    """The output of workers while they had the run `name`, oldest log first.

    Raises ZiaError if no worker's log mentions it.
    """
    found = False
    logs = [p for p in runs_root.glob(f"{SUBMISSIONS}/*/{LOGS}/*") if p.suffix in SUFFIXES]
    for log in sorted(logs, key=lambda path: path.stat().st_mtime):
        inside = False
        with log.open(encoding="utf-8", errors="replace") as file:
            for line in map(str.rstrip, file):
                if line.startswith(RUN_LINE):
                    inside = line == f"{RUN_LINE}{name}"
                    if inside:
                        found = True
                        yield f"{log}:"
                elif inside:
                    yield line
    if not found:
        raise ZiaError(
            f"no worker's log mentions {name}: it was done without workers, or is waiting"
        )
