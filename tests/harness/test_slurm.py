"""Submissions to Slurm, with programs that stand in for Slurm's own and write down what they got.

The real ones are in tests/slurm.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from experiments.harness import (
    cli,
    live,
    oversight,
    registry,
    reporting,
    slurm,
    slurm_job,
    squeue,
    status,
    stored,
    submission,
)
from experiments.harness.cluster import Cluster, Resources
from experiments.harness.executor import run_one
from experiments.harness.process import Process
from experiments.harness.slurm_job import WorkerJob
from experiments.harness.stopping import StopSignals
from experiments.harness.submission import Group, Request, Submission
from experiments.harness.worker import Tally, name_of
from tests.harness import toy
from tests.toys.gated import experiment as gated
from zia_core.errors import ZiaError

QUICK = Resources(timeout_min=5, workers=2)
STAND_IN = """#!{python}
import json, os, sys
from pathlib import Path
here = Path(__file__).parent
name = Path(__file__).name
with (here / "calls").open("a") as calls:
    calls.write(json.dumps([name, *sys.argv[1:]]) + "\\n")
(here / "environment").write_text(json.dumps(dict(os.environ)))
answer = here / (name + ".answer")
if answer.exists():
    sys.stdout.write(answer.read_text())
refusal = here / (name + ".refusal")
if refusal.exists():
    sys.exit(refusal.read_text())
"""


class StandIns:
    """Programs named as Slurm's, what they say, and how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("sbatch", "squeue", "scancel", "scontrol", "srun"):
            program = folder / name
            program.write_text(STAND_IN.format(python=sys.executable))
            program.chmod(0o755)
        self.answer("sbatch", "Submitted batch job 71\n")

    def answer(self, name: str, text: str) -> None:
        (self.folder / f"{name}.answer").write_text(text)

    def refuse(self, name: str, text: str) -> None:
        (self.folder / f"{name}.refusal").write_text(text)

    def calls(self, name: str) -> list[list[str]]:
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [call[1:] for call in map(json.loads, lines) if call[0] == name]


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIns:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return StandIns(folder)


@pytest.fixture(autouse=True)
def _only_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "experiments", toy.only_toy)


def request_in(folder: Path) -> Request:
    return Request("toy", "mini", "cpu", folder / "runs", folder / "out")


def queue(*submissions: Submission, state: str = "PENDING") -> str:
    """What squeue prints while all their jobs wait, and somebody else's besides."""
    own = [
        f"71_{task}|{state}||Priority|{submitted.job_name(number)}\n"
        for submitted in submissions
        for number, group in enumerate(submitted.groups)
        for task in range(group.workers)
    ]
    return "".join(["9|RUNNING|n1|None|zia-of|somebody-0\n", *own])


def submit(folder: Path, cluster: Cluster | None = None) -> Submission | None:
    return slurm.submit(request_in(folder), cluster or Cluster(QUICK))


def test_nothing_is_submitted_twice(
    tmp_path: Path, stand_ins: StandIns, capsys: pytest.CaptureFixture[str]
) -> None:
    run_one(toy.spec(), tmp_path / "runs")
    first = submit(tmp_path)
    assert first is not None
    assert [len(group.runs) for group in first.groups] == [2]
    assert first.groups[0].jobs == ("71_0", "71_1")
    assert submission.load(first.folder).groups[0].jobs == first.groups[0].jobs
    assert "2 runs: 2 workers, 2 at a time, each 4 CPUs, 4 GB, 5 min, job 71" in (
        capsys.readouterr().out
    )

    stand_ins.answer("squeue", queue(first))
    assert submit(tmp_path) is None
    said = capsys.readouterr().out
    assert said == f"there already: submission {first.name}: 2 runs, job 71: 2 PENDING (Priority)\n"
    assert len(stand_ins.calls("sbatch")) == 1

    # Killed between sbatch and writing its answer down: the jobs are found by their name.
    first.with_group(0, jobs=()).write()
    assert submit(tmp_path) is None

    stand_ins.answer("squeue", queue())
    run_one(toy.spec(seed=1), tmp_path / "runs")
    second = submit(tmp_path)
    assert second is not None
    assert second.groups[0].runs == (name_of(toy.spec("add-twice", "product")),)
    assert second.groups[0].workers == 1
    assert second.snapshot == first.snapshot


def test_runs_that_need_different_things_are_submitted_apart(
    tmp_path: Path, stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = replace(toy.spec(seed=5), backbone="toys/large")
    plan = [toy.spec(), toy.spec(seed=1), large]
    changed = replace(toy.EXPERIMENT, plan=lambda profile, device: plan)
    monkeypatch.setattr(registry, "experiments", lambda: {"toy": changed})
    submitted = submit(tmp_path, Cluster(QUICK, by_backbone={"toys/large": {"mem_gb": 99.0}}))
    assert submitted is not None
    assert [list(group.runs) for group in submitted.groups] == [
        [name_of(spec) for spec in plan[:2]],
        [name_of(large)],
    ]
    assert [group.resources["mem_gb"] for group in submitted.groups] == [4.0, 99.0]
    assert len(stand_ins.calls("sbatch")) == 2


def test_a_refusal_is_one_sentence_and_the_runs_can_be_submitted_again(
    tmp_path: Path, stand_ins: StandIns
) -> None:
    stand_ins.refuse("sbatch", "sbatch: error: invalid partition specified: gpu")
    with pytest.raises(ZiaError, match=r"Slurm refused the jobs .* invalid partition") as raised:
        submit(tmp_path)
    assert len(str(raised.value).splitlines()) == 1
    (stand_ins.folder / "sbatch.refusal").unlink()
    assert submit(tmp_path) is not None
    stand_ins.refuse("squeue", "slurm_load_jobs error: Unable to contact slurm controller")
    with pytest.raises(ZiaError, match="squeue failed: slurm_load_jobs error: Unable to contact"):
        submit(tmp_path)


def test_without_slurm_it_is_said_and_scripts_can_be_looked_at_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ZiaError, match="there is no squeue here: is this a machine of the cluster"):
        submit(tmp_path)
    shown = "\n".join(slurm.dry_run(request_in(tmp_path), Cluster(QUICK)))
    assert f"  {name_of(toy.spec())}\n" in shown
    assert "#SBATCH --array=0-1%2\n" in shown
    assert "#SBATCH --signal=USR2@120\n" in shown
    assert shown.endswith("3 runs would be submitted, 0 are queued already")
    assert not list((tmp_path / "runs").glob("snapshots/*"))
    assert not list((tmp_path / "runs").glob("submissions/*-*"))


def test_the_script_is_the_one_that_a_dry_run_shows(tmp_path: Path, stand_ins: StandIns) -> None:
    shown = "\n".join(slurm.dry_run(request_in(tmp_path), Cluster(QUICK)))
    submitted = submit(tmp_path)
    assert submitted is not None
    (script,) = (submitted.folder / submission.LOGS).glob("71_submission.sh")
    name = next(w for w in shown.split() if w.startswith("--job-name")).split("zia-")[1][:-2]
    assert script.read_text().replace(submitted.name, name) in shown


HOSTILE = """it's "$(touch pwned)" `touch pwned`; touch pwned & #é"""


def test_hostile_names_reach_the_job_as_they_are_and_do_nothing(
    tmp_path: Path, stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script is run by bash, which is what Slurm does with it, up to srun."""
    hostile = replace(toy.spec(), backbone=f"../../{HOSTILE}\n", data=f"/etc/{HOSTILE}\n")
    changed = replace(toy.EXPERIMENT, plan=lambda profile, device: [hostile])
    monkeypatch.setattr(registry, "experiments", lambda: {"toy": changed})
    folder = tmp_path / HOSTILE
    monkeypatch.setenv("ZIA_DATA", f"/data/{HOSTILE}\ntouch pwned\n")
    monkeypatch.setenv("PYTHONPATH", HOSTILE)
    needs = Resources(partition=HOSTILE, constraint=HOSTILE, setup=("export FROM_SETUP=1",))
    submitted = submit(folder, Cluster(needs))
    assert submitted is not None
    assert (folder / "runs" / name_of(hostile)).resolve().is_relative_to(folder / "runs")
    script = submitted.folder / submission.LOGS / "71_submission.sh"
    directives = [line for line in script.read_text().splitlines() if line.startswith("#SBATCH")]
    assert len(directives) == 13

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(["bash", str(script)], cwd=elsewhere, check=True)
    environment = json.loads((stand_ins.folder / "environment").read_text())
    assert environment["ZIA_DATA"] == f"/data/{HOSTILE}\ntouch pwned\n"
    assert environment["ZIA_SUBMISSION"] == str(submitted.folder)
    assert environment["PYTHONPATH"] == f"{submitted.code}:{HOSTILE}"
    assert environment["FROM_SETUP"] == "1"
    (call,) = stand_ins.calls("srun")
    assert call[-1] == str(submitted.folder / submission.LOGS)
    assert "--cpus-per-task=4" in call
    assert not list(tmp_path.rglob("pwned"))
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("name", ["a%j", "a\nb", "a\tb", "a\\b"])
def test_a_folder_that_slurm_could_not_write_to_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ZiaError, match="has a %, a backslash or a control character"):
        submit(tmp_path / name)
    with pytest.raises(ZiaError, match="has a %, a backslash or a control character"):
        list(slurm.dry_run(request_in(tmp_path / name), Cluster(QUICK)))


def test_status_and_cancel_know_the_jobs(
    tmp_path: Path,
    stand_ins: StandIns,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    submitted = submit(tmp_path)
    assert submitted is not None
    stand_ins.answer("squeue", queue(submitted, state="RUNNING"))

    def zia(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["zia", *words, "--runs", str(tmp_path / "runs")])
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        return int(end.value.code or 0), " ".join((printed.out + printed.err).split())

    sentence = f"submission {submitted.name}: 3 runs, job 71: 2 RUNNING"
    assert sentence in zia("status")[1]
    assert zia("cancel", "nonsense")[0] == 2
    assert zia("cancel", submitted.name) == (0, f"cancelled {sentence}")
    assert stand_ins.calls("scancel") == [["71"]]
    stand_ins.refuse("squeue", "slurm_load_jobs error")
    assert zia("status") == (0, f"no runs in {tmp_path}/runs"), "files alone are enough"
    assert zia("cancel")[0] == 1
    (stand_ins.folder / "squeue.refusal").unlink()
    stand_ins.answer("squeue", "")
    assert zia("cancel") == (0, f"nobody works on runs in {tmp_path}/runs")


# Inside a job


def submission_in(folder: Path, experiment: str, signal_delay_s: int = 120) -> Submission:
    """One that a job can be started with; its code is the checkout."""
    runs = [replace(run, experiment=experiment) for run in gated.plan("mini", "cpu")]
    needs = asdict(Resources(signal_delay_s=signal_delay_s))
    submitted = Submission(
        folder=folder / "runs" / "submissions" / "one",
        executor="slurm",
        experiment=experiment,
        profile="mini",
        device="cpu",
        out=str(folder / "out"),
        snapshot="none",
        git=None,
        groups=(Group(tuple(map(name_of, runs)), 1, needs),),
    )
    (submitted.folder / submission.LOGS).mkdir(parents=True)
    submitted.write()
    return submitted


@pytest.fixture
def start_job(
    tmp_path: Path, stand_ins: StandIns, repository: Path
) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start job 71 as srun does: submitit's own entry, our callable from its pickle."""
    from submitit.core.utils import DelayedSubmission

    submitted = submission_in(tmp_path, "gated")
    logs = submitted.folder / submission.LOGS
    delayed = DelayedSubmission(WorkerJob(str(submitted.folder), 0))
    delayed.set_timeout(5, slurm.TIMEOUTS)
    delayed.dump(logs / "71_submitted.pkl")
    jobs = []

    def start() -> subprocess.Popen[str]:
        variables = {
            "SUBMITIT_EXECUTOR": "slurm",
            "SLURM_JOB_ID": "71",
            "SLURM_RESTART_COUNT": str(len(jobs)),
            "PYTHONPATH": str(repository),
            "ZIA_EXPERIMENTS": "tests.toys",
            "ZIA_TOY_GATE": str(tmp_path / "gate"),
        }
        jobs.append(
            subprocess.Popen(
                [sys.executable, "-u", "-m", "submitit.core._submit", str(logs)],
                cwd=tmp_path,
                env=os.environ | variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return jobs[-1]

    yield start
    for job in jobs:
        job.kill()
        job.communicate()


def is_at_the_gate(job: subprocess.Popen[str]) -> None:
    assert job.stdout is not None
    for line in job.stdout:
        if line.startswith("step 3/6"):
            return
    pytest.fail("it never came there")


def test_usr2_saves_and_requeues_and_the_next_start_goes_on(
    tmp_path: Path, stand_ins: StandIns, start_job: Callable[[], subprocess.Popen[str]]
) -> None:
    path = tmp_path / "runs" / name_of(replace(toy.spec(), experiment="gated"))
    # What a job leaves that is killed while submitit writes its pickle.
    half = tmp_path / "runs/submissions/one/logs/71_submitted.pkl.save_tmp"
    half.write_bytes(b"half")
    job = start_job()
    is_at_the_gate(job)
    for _ in range(2):
        job.send_signal(signal.SIGUSR2)
    out, _ = job.communicate(timeout=300)
    assert job.returncode == 255, out
    assert stand_ins.calls("scontrol") == [["requeue", "71"]]
    assert stored.read_status(path)["state"] == "preempted"
    assert "Traceback" not in out
    assert not half.exists()

    (tmp_path / "gate").touch()
    job = start_job()
    out, _ = job.communicate(timeout=300)
    assert job.returncode == 0, out
    assert out.count("step 3/6") == 3, "the first of four went on behind it"
    assert "3 done, 1 failed, 0 left; 3 done here" in out
    assert (tmp_path / "out/tables/claims.md").is_file()
    assert [attempt["end"] for attempt in stored.read_status(path)["attempts"]] == [
        "preempted",
        "done",
    ]


def test_a_controller_that_is_busy_is_asked_again(
    stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(slurm_job, "PAUSES_S", (0.0, 0.0))
    stop, asked = StopSignals(), []

    def refused_once() -> None:
        asked.append(1)
        if len(asked) == 1:
            raise subprocess.CalledProcessError(1, "scontrol")

    slurm_job._insist(refused_once, stop)
    assert len(asked) == 2
    stand_ins.refuse("scontrol", "Socket timed out")
    with pytest.raises(ZiaError, match=r"does not requeue .*Socket timed out.*`zia reproduce`"):
        slurm_job._insist(lambda: squeue.run(["scontrol", "requeue", "71"]), stop)
    assert len(stand_ins.calls("scontrol")) == 3
    stop.received = signal.SIGTERM
    asked.clear()
    slurm_job._insist(refused_once, stop)
    assert len(asked) == 1


def test_usr2_while_python_starts_does_not_end_the_job(tmp_path: Path, stand_ins: StandIns) -> None:
    shown = "\n".join(slurm.dry_run(request_in(tmp_path), Cluster(QUICK)))
    (line,) = [line for line in shown.splitlines() if line.startswith("srun")]
    words = shlex.split(line)
    shell = words.index("/bin/sh")
    assert words[shell + 3 : shell + 6] == [sys.executable, "-u", "-m"]
    program = "import os, signal; os.kill(os.getpid(), signal.SIGUSR2); print('alive')"
    command = [*words[shell : shell + 4], "-c", program]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"alive\n"


def test_waiting_does_not_end_because_slurm_does_not_answer(
    tmp_path: Path, stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oversight, "POLL_S", 0.0)
    submitted = submit(tmp_path)
    assert submitted is not None
    stand_ins.refuse("squeue", "slurm_load_jobs error")
    goes_on = []

    def follow(names: object, runs: Path, is_going_on: Callable[[], bool], note: object) -> None:
        goes_on.append(is_going_on())
        (stand_ins.folder / "squeue.refusal").unlink()
        stand_ins.answer("squeue", "")
        goes_on.append(is_going_on())

    monkeypatch.setattr(slurm, "submit", lambda request, cluster: submitted)
    monkeypatch.setattr(live, "follow", follow)
    monkeypatch.setattr(reporting, "finish", lambda request, submitted: 1)
    assert slurm.reproduce(request_in(tmp_path), Cluster(QUICK), wait=True) == 1
    assert goes_on == [True, False]


def test_status_says_what_to_do_about_runs_that_nobody_works_on(
    tmp_path: Path, stand_ins: StandIns, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    stop = StopSignals()
    stop.ask("SIGTERM")  # a preemption with a time of grace, or scancel: Slurm forgets the job
    assert run_one(toy.spec(), runs, stop=stop).state == "preempted"
    run_one(toy.spec(seed=1), runs)

    def said() -> bool:
        capsys.readouterr()
        status.show(runs, watch=False)
        out = " ".join(capsys.readouterr().out.split())
        return "nobody works on 1 runs that are not finished: `zia reproduce` goes on" in out

    assert said()
    submitted = submit(tmp_path)
    assert submitted is not None
    stand_ins.answer("squeue", queue(submitted))
    assert not said()
    stand_ins.refuse("squeue", "slurm_load_jobs error")
    assert not said(), "nobody knows"


def test_workers_of_somebody_else_are_not_cancelled(
    tmp_path: Path, stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = submit(tmp_path)
    assert submitted is not None
    submitted.with_group(0, processes=(asdict(Process.current()),)).write()

    def kill(pid: int, number: int) -> None:
        if number:
            raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    with pytest.raises(ZiaError, match="only who started them can end them: submission"):
        list(oversight.cancel(tmp_path / "runs", None))


def test_sigterm_saves_and_never_requeues_also_behind_usr2(
    tmp_path: Path, stand_ins: StandIns, start_job: Callable[[], subprocess.Popen[str]]
) -> None:
    job = start_job()
    is_at_the_gate(job)
    job.send_signal(signal.SIGSTOP)
    job.send_signal(signal.SIGUSR2)
    job.send_signal(signal.SIGTERM)
    job.send_signal(signal.SIGCONT)
    out, _ = job.communicate(timeout=300)
    assert job.returncode == 0, out
    assert "SIGTERM (stopped after step 3)" in out
    assert stand_ins.calls("scontrol") == []
    path = tmp_path / "runs" / name_of(replace(toy.spec(), experiment="gated"))
    assert stored.read_status(path)["state"] == "preempted"


def test_a_run_without_a_step_boundary_in_time_is_requeued_unsaved(
    tmp_path: Path, stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    submitted = submission_in(tmp_path, "toy", signal_delay_s=1)
    stop = StopSignals()
    with WorkerJob(str(submitted.folder), 0)._requeued_in_time(submitted, stop, Tally()):
        stop.received = signal.SIGUSR2
        deadline = time.monotonic() + 60
        while not stand_ins.calls("scontrol"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert stand_ins.calls("scontrol") == [["requeue", "71"]]


def test_a_job_that_keeps_nothing_is_not_started_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    submitted = submission_in(tmp_path, "toy")
    ended = Tally()
    ended.ends()
    starts = [Tally(), Tally(), ended, Tally(), Tally(), Tally()]
    assert [slurm_job.advances(submitted, tally) for tally in starts] == [True] * 5 + [False]
    assert "not started again: 3 starts without a new checkpoint" in capsys.readouterr().err
    monkeypatch.setenv("SLURM_JOB_ID", "72")
    assert slurm_job.advances(submitted, Tally())
