"""Failing runs, damaged files, hostile names: one sentence each, and the rest continues."""

from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.dispatch import in_process
from experiments.dispatch.stop_signals import StopSignals
from experiments.harness import stored
from tests.slurm.cluster import wait_until
from tests.slurm.conftest import NewGrid
from tests.slurm.faulty.tiny.experiment import FAILS_AT, OUT_OF_MEMORY, OUT_OF_ORDER
from tests.slurm.grid import PATIENCE_S, Grid, Work, differences

STOPPED_AFTER = 12  # so that there are checkpoints of the steps 10 and 12


def wait_for_jobs(grid: Grid) -> None:
    wait_until(lambda: not grid.jobs(), PATIENCE_S, "the job has ended", grid.story)


def test_what_fails_is_not_tried_again_and_the_other_runs_are_done(new_grid: NewGrid) -> None:
    grid = new_grid("failing")
    grid.submit()
    wait_for_jobs(grid)
    runs = range(len(grid.specs))
    states = [(status["state"], status["reason"]) for status in map(grid.status, runs)]
    assert [state for state, _ in states] == [
        "failed",
        "done",
        "failed",
        "failed",
        "done",
        "failed",
        "done",
    ]
    assert states[0][1].startswith("diverged: the loss is nan at step 2, records tiny-")
    assert states[2][1].startswith(f"{OUT_OF_MEMORY}: ")
    assert states[3][1] == "record tiny-17 has no output"
    assert states[5][1].startswith(f"AcceleratorError: {OUT_OF_ORDER} (experiment.py, line ")
    assert all(grid.step(run) < FAILS_AT for run in (0, 2, 3, 5))  # it was in the backward pass
    pids = [grid.attempts(run)[0]["pid"] for run in runs]
    assert len(set(pids)) == 1  # one process, as Slurm sees it, whose GPU is another one's
    assert "restarting for the next run" in grid.logs()

    grid.submit()
    wait_for_jobs(grid)
    assert [len(grid.attempts(run)) for run in runs] == [1] * len(runs)
    said = grid.zia("status", "--runs", str(grid.runs)).communicate(timeout=PATIENCE_S)[0]
    assert "failed" in said
    assert OUT_OF_MEMORY in " ".join(said.split())  # it is wrapped


@pytest.fixture
def interrupted(new_grid: NewGrid) -> Grid:
    """Five runs, each stopped after step 12."""
    grid = new_grid("five")
    for spec in grid.specs:
        stop = StopSignals()

        def show(fields: dict[str, int], stop: StopSignals = stop) -> None:
            if fields["step"] == STOPPED_AFTER:
                stop.ask("stopped")

        assert in_process.run_one(spec, grid.runs, show, stop=stop).state == "preempted"
    return grid


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)


def test_damaged_files_mean_an_earlier_state_or_a_refusal(
    interrupted: Grid, reference: Callable[[Work], Path]
) -> None:
    """Never the run's beginning, unasked."""
    grid = interrupted
    newest_damaged, torn_line, all_damaged, edited, no_status = range(5)
    checkpoints = [sorted(grid.path(i).glob(f"{stored.CHECKPOINT}/*")) for i in range(5)]
    assert [len(found) for found in checkpoints] == [2] * 5
    spoil(checkpoints[newest_damaged][-1])
    with (grid.path(torn_line) / stored.METRICS).open("a") as metrics:
        metrics.write('{"step": 13, "lo')
    for checkpoint in checkpoints[all_damaged]:
        spoil(checkpoint)
    config = grid.path(edited) / stored.CONFIG
    config.write_text(config.read_text().replace('"steps": 24', '"steps": 25'))
    status = grid.path(no_status) / stored.STATUS
    status.write_text('{"state": ')
    refused = (all_damaged, edited)
    before = [(grid.path(i) / stored.METRICS).read_bytes() for i in refused]

    assert f"zia: {status} is not valid JSON" in grid.submit()
    assert not grid.jobs()
    status.unlink()
    grid.submit()
    wait_for_jobs(grid)
    assert {grid.state(i) for i in (newest_damaged, torn_line, no_status)} == {"done"}
    assert [(grid.path(i) / stored.METRICS).read_bytes() for i in refused] == before
    wrong = differences(grid, reference(grid.work), only=(newest_damaged, torn_line, no_status))
    assert wrong == []
    assert "to start over from step 0" in grid.status(all_damaged)["reason"]
    told = grid.logs()
    assert f"{config} was edited: it describes the run" in told
    assert "Traceback" not in told


TRAPS = 'it\'s $(touch pwned) `touch pwned` "x"; touch pwned & #'


def test_names_are_only_names(new_grid: NewGrid, tmp_path: Path) -> None:
    """The folder of runs is in every script and command."""
    grid = new_grid("one", name=TRAPS)
    grid.submit()
    grid.wait_until_done()
    wait_for_jobs(grid)
    assert not list(tmp_path.rglob("pwned"))
    assert not Path("pwned").exists()
