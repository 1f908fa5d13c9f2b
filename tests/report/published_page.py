"""Fail unless a report page is whole and has every run: `python -m ... PAGE RUNS`."""

import sys
from pathlib import Path

from experiments.harness import run_paths


def missing(page: str, runs: Path) -> list[str]:
    """The names of the runs that the page lacks; of all if it has no end."""
    names = list(run_paths.every_run(runs))
    return [name for name in names if f'"{name}"' not in page or "</html>" not in page]


if __name__ == "__main__":
    path, folder = map(Path, sys.argv[1:])
    absent = missing(path.read_text("utf-8"), folder)
    if absent or not run_paths.every_run(folder):
        sys.exit(f"{path} lacks {len(absent)} runs of {folder}: {', '.join(absent[:3])}")
