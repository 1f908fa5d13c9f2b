"""Active submissions and workers' logs, from the files of a submission."""

import signal
import subprocess
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from experiments.dispatch import active_jobs, submission, worker_logs
from experiments.dispatch.submission import Group, Submission
from experiments.dispatch.worker import name_of
from experiments.harness.process_identity import Process
from experiments.io.files import write_json_atomic
from tests.harness import toy
from zia_core.errors import ZiaError

FIRST, SECOND = toy.spec(), toy.spec(seed=1)


def local_submission(runs: Path, *workers: Process) -> Submission:
    names = tuple(map(name_of, (FIRST, SECOND)))
    submitted = Submission(
        folder=runs / "submissions" / "one",
        executor="local",
        experiment="toy",
        profile="mini",
        device="cpu",
        out="/out",
        snapshot="none",
        git=None,
        groups=(Group(names, 2, processes=tuple(map(asdict, workers))),),
    )
    (submitted.folder / submission.LOGS).mkdir(parents=True)
    submitted.write()
    return submitted


def test_local_workers_are_at_work_until_they_have_ended_and_can_be_cancelled(
    tmp_path: Path, start_child: Callable[..., subprocess.Popen[str]]
) -> None:
    children = [start_child("import sys; print(); sys.stdin.readline()") for _ in range(2)]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
    processes = [Process.of(child.pid) for child in children]
    elsewhere = replace(processes[0], boot_id="another machine's")
    reused = replace(processes[0], start_time=1)
    local_submission(tmp_path, *processes, elsewhere, reused)
    (work,) = active_jobs.active_submissions(tmp_path, [])
    assert work.processes == tuple(processes)
    assert str(work) == "submission one: 2 runs, 2 local workers"
    children[0].kill()
    children[0].wait()
    assert list(active_jobs.cancel(tmp_path, "one")) == ["submission one: 2 runs, 1 local workers"]
    assert children[1].wait(timeout=60) == -signal.SIGTERM
    assert active_jobs.active_submissions(tmp_path, []) == []
    assert list(active_jobs.cancel(tmp_path, None)) == []


def test_a_damaged_submission_is_named(tmp_path: Path) -> None:
    submitted = local_submission(tmp_path)
    path = submitted.folder / "submission.json"
    write_json_atomic(path, {"executor": "local"})
    with pytest.raises(ZiaError, match=r"submission\.json lacks experiment"):
        submission.load_all(tmp_path)
    path.write_text("{")
    with pytest.raises(ZiaError, match="not valid JSON"):
        submission.load_all(tmp_path)


def test_logs_show_the_output_about_one_run(tmp_path: Path) -> None:
    folder = local_submission(tmp_path).folder / submission.LOGS
    for spec in (FIRST, SECOND):
        path = tmp_path / name_of(spec)
        path.mkdir(parents=True)
        write_json_atomic(path / "config.json", spec.to_json())
    said = [
        "starting",
        f"run {name_of(FIRST)}",
        "step 1/6",
        f"run {name_of(SECOND)}",
        "step 1/6 of the second",
        f"run {name_of(FIRST)}",
        "Traceback",
    ]
    (folder / "worker-0.log").write_text("\n".join(said))
    (folder / "71_0_submitted.pkl").write_text(f"run {name_of(FIRST)}\nno log\n")
    log = f"{folder}/worker-0.log:"
    expected = [log, "step 1/6", log, "Traceback"]
    for run in (FIRST.identity[:8], name_of(FIRST), str(tmp_path / name_of(FIRST))):
        assert list(worker_logs.lines(tmp_path, worker_logs.find(tmp_path, run))) == expected
    with pytest.raises(ZiaError, match="'zz' names none of the runs"):
        worker_logs.find(tmp_path, "zz")
    with pytest.raises(ZiaError, match="names several, such as"):
        worker_logs.find(tmp_path, "")
    (folder / "worker-0.log").unlink()
    with pytest.raises(ZiaError, match="no worker's log mentions toy/add-sum"):
        list(worker_logs.lines(tmp_path, name_of(FIRST)))
