"""All tables, from run folders alone."""

from collections.abc import Sequence
from pathlib import Path

from experiments.harness.files import write_atomic
from experiments.report.efficiency import efficiency_table

TABLES = {"efficiency": efficiency_table}


def write_tables(runs: Sequence[Path], out: Path) -> list[Path]:
    """Write every table as `<out>/<name>.md` and `.csv`, and return their paths.

    A run that is in several of the folders `runs` is taken from the first. Equal run folders give
    equal bytes.
    """
    # Everything is made before anything is written: a damaged run folder leaves old tables whole.
    tables = {name: make(runs) for name, make in TABLES.items()}
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, texts in tables.items():
        for suffix, text in zip((".md", ".csv"), texts, strict=True):
            write_atomic(out / f"{name}{suffix}", text)
            written.append(out / f"{name}{suffix}")
    return written
