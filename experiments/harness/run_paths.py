"""Find stored runs: run folders, and archives of published runs."""

from collections.abc import Sequence
from os.path import normpath
from pathlib import Path

from experiments.harness.archive import SUFFIX, Archive, ArchivedRun, RunPath, archives
from experiments.io.files import check_output
from zia_core.errors import ZiaError


def run_name(path: RunPath) -> str:
    """`<experiment>/<run>`."""
    experiment = path.archive.experiment if isinstance(path, ArchivedRun) else path.parent.name
    return f"{experiment}/{path.name}"


def every_run(runs: Path) -> dict[str, RunPath]:
    """Every run under `runs`, in folders and in archives, by name; ZiaError for a damaged one."""
    return by_name([*folders(runs), *archived_runs(runs)])


def folders(runs: Path) -> list[Path]:
    """Every run folder `<runs>/<experiment>/<run>/` that has begun or was finished, sorted.

    It has a config or a seal: one that lost its config is damaged, and reading it says so. Hidden
    folders (a bin, an unfinished copy) are left out.
    """
    found = {
        file.parent for name in ("config.json", "files.json") for file in runs.glob(f"*/*/{name}")
    }
    return sorted(path for path in found if not is_hidden(path))


def no_run_in(path: RunPath | Path) -> str:
    """Say that a folder or file has no runs, and what would be one that has."""
    return f"there is no run in {path}: it holds no <experiment>/<run>/config.json and no archive"


def check_holds_runs(runs: Path) -> None:
    """Raise ZiaError unless `runs` is an archive, or a folder that has runs or archives."""
    if not runs.exists():
        raise ZiaError(f"there is no {runs}")
    if archives_of(runs) or folders(runs):
        return
    for depth, above in enumerate(("../..", "..")):
        if any(runs.glob(f"{'*/' * depth}config.json")):
            found = "one run" if depth == 0 else "the runs of one experiment"
            raise ZiaError(f"{runs} holds {found}: name the folder {normpath(runs / above)}")
    raise ZiaError(no_run_in(runs))


def check_writable(runs: Path) -> None:
    """Raise ZiaError unless runs can be done in the folder `runs`; changes nothing.

    Not beside published runs: whoever did them again would do so unasked, into the evidence.
    """
    if archives_of(runs):
        raise ZiaError(
            f"{runs} holds archives of published runs: name a folder of your own, as results/runs"
        )
    check_output(runs)


def is_hidden(path: Path) -> bool:
    """Whether a folder is in a bin, or an unfinished copy, and so not a run's."""
    return path.name.startswith(".") or path.parent.name.startswith(".")


def archived_runs(runs: Path) -> list[ArchivedRun]:
    """Every run in the archives of the folder `runs`; ZiaError for a damaged archive."""
    return [run for path in archives_of(runs) for run in Archive(path).runs]


def archives_of(runs: Path) -> list[Path]:
    """The archives in the folder `runs`, sorted; `runs` may also be one archive."""
    return [runs] if is_archive(runs) else archives(runs)


def is_archive(runs: Path) -> bool:
    """Whether `runs` is an archive and not a folder."""
    return runs.suffix == SUFFIX and runs.is_file()


def by_name(paths: Sequence[RunPath]) -> dict[str, RunPath]:
    """Runs by `<experiment>/<run>`, sorted; of several with one name, the first."""
    found = {run_name(path): path for path in reversed(paths)}
    return {name: found[name] for name in sorted(found)}
