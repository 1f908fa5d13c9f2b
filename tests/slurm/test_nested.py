"""A job that is submitted inside another, an interactive shell say, leaves that one alone."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.slurm.cluster import Slurm, wait_until
from tests.slurm.conftest import NewGrid
from tests.slurm.grid import PATIENCE_S, Grid


@dataclass
class Users:
    """A job of the user's own, which does something and then runs until its time limit."""

    slurm: Slurm
    job: str
    folder: Path

    def has_done_it(self) -> bool:
        return (self.folder / "done").exists()

    def is_untouched(self) -> bool:
        """Whether it was started once, and runs, wherever it may."""
        job = self.slurm.job(self.job)
        told = job["JobState"], job["Restarts"], job.get("ExcNodeList", "(null)")
        starts = (self.folder / "starts").read_text().splitlines()
        return told == ("RUNNING", "0", "(null)") and starts == ["started"]


@contextmanager
def job_of_a_user(
    slurm: Slurm, folder: Path, line: str, *options: str, step: bool = False
) -> Iterator[Users]:
    """Within the block there is such a job; `step`: it does the line in srun, as salloc has it."""
    folder.mkdir()
    does, script = folder / "does", folder / "script"
    place = shlex.quote(str(folder))
    does.write_text(f"{line} >{place}/said 2>&1; touch {place}/done; sleep 3600\n", "utf-8")
    srun = "srun " if step else ""
    script.write_text(f"#!/bin/sh\necho started >>{place}/starts\n{srun}sh {place}/does\n", "utf-8")
    partition = [f"--partition={slurm.partition}"] if slurm.partition else []
    placed = ["--requeue", "--output=/dev/null", "--job-name=own", *partition, *options]
    job = slurm.command("sbatch", "--parsable", *placed, str(script))
    try:
        yield Users(slurm, f"{job}_0" if "--array=0" in options else job, folder)
    finally:
        slurm.command("scancel", "--signal=KILL", "--full", job, check=False)
        slurm.command("scancel", job, check=False)


@pytest.mark.parametrize(
    ("workers", "step", "options"),
    [(1, False, ["--array=0"]), (2, False, ["--array=0"]), (1, True, ["--mem-per-cpu=100"])],
)
def test_submitted_inside_a_job_it_does_its_work_and_nothing_to_that_one(
    slurm: Slurm,
    new_grid: NewGrid,
    audit: Callable[[Grid], None],
    tmp_path: Path,
    workers: int,
    step: bool,
    options: list[str],
) -> None:
    """In a folder, too, whose name nothing may take for several words."""
    grid = new_grid("two", "it's a clône", workers=workers)
    inside = job_of_a_user(slurm, tmp_path / "own", grid.shell_line(), *options, step=step)
    with inside as users:
        wait_until(users.has_done_it, PATIENCE_S, "it has submitted", grid.story)
        said = (users.folder / "said").read_text("utf-8")
        wait_until(lambda: grid.jobs() or grid.is_done(), 60, "jobs are there", lambda: said)
        grid.wait_until_done()
        wait_until(lambda: not grid.jobs(), PATIENCE_S, "the jobs have ended", grid.story)
        assert users.is_untouched(), grid.story()
    audit(grid)


def test_whatever_the_environment_says_a_job_acts_on_no_other(
    slurm: Slurm, new_grid: NewGrid, tmp_path: Path
) -> None:
    """The end of a job on whose node nothing starts; another one's number is in its environment."""
    with job_of_a_user(slurm, tmp_path / "own", "true", "--array=0") as users:
        wait_until(users.has_done_it, PATIENCE_S, "it runs")
        array, _, task = users.job.partition("_")
        inherited = f"export SLURM_ARRAY_JOB_ID={array} SLURM_ARRAY_TASK_ID={task}"
        grid = new_grid("one", setup=[inherited, "export PYTHONHOME=/nowhere"])
        grid.submit()
        wait_until(lambda: not grid.jobs(), PATIENCE_S, "the job has ended", grid.story)
        assert f"zia: job {users.job} is not known as zia-" in grid.logs(), grid.story()
        assert users.is_untouched(), grid.story()
