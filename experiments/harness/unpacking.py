"""Unpack archived runs to run folders, for code that needs one."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from experiments.harness import run_paths, seal, stored
from experiments.harness.archive import ArchivedRun, RunPath
from experiments.io.files import write_errors


@contextmanager
def as_folder(run: RunPath) -> Iterator[Path]:
    """Give the folder of a run; an archived run is unpacked to one until the block ends."""
    if isinstance(run, Path):
        yield run
        return
    with TemporaryDirectory(prefix="zia-") as temporary:
        yield unpack(run, Path(temporary))


def unpack(run: ArchivedRun, runs: Path) -> Path:
    """Make the archived `run` a run folder under `runs` and return it, sealed anew.

    ZiaError if the run is not as it was sealed, or the folder cannot be written.
    """
    stored.load_sealed(run)
    folder = runs / run_paths.run_name(run)
    with write_errors(folder):
        folder.mkdir(parents=True)
        for name, content in run.contents().items():
            if name == stored.ARCHIVED_PREDICTIONS:
                (folder / stored.PREDICTIONS).write_bytes(gzip.compress(content, mtime=0))
            else:
                (folder / name).write_bytes(content)
    seal.write(folder)
    return folder
