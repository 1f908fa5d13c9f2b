"""`zia` from end to end on the toy experiment, in this process or as a child with signals."""

import os
import pty
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from experiments.cli import main
from experiments.harness import archive, registry, stored
from tests.harness import toy
from zia_core.errors import ZiaError


class Printed(NamedTuple):
    code: int
    out: str
    err: str


Zia = Callable[[str], Printed]
RUNS = Path("results/runs")


@pytest.fixture
def zia(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Zia:
    """`zia("run toy")` in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "experiments", toy.only_toy)
    monkeypatch.setenv("COLUMNS", "80")

    def call(line: str) -> Printed:
        monkeypatch.setattr(sys, "argv", ["zia", *shlex.split(line)])
        with pytest.raises(SystemExit) as end:
            main.main()
        return Printed(int(end.value.code or 0), *capsys.readouterr())

    return call


def run_folder(**settings: object) -> Path:
    return RUNS / "toy" / toy.spec(**settings).folder_name


def test_a_run_is_done_once(zia: Zia) -> None:
    first = zia("run toy")
    assert first.code == 0
    assert "step 6/6  loss 1.7107" in first.out
    assert "done: score 0.75, steps 6" in first.out
    files = {path: path.read_bytes() for path in run_folder().iterdir() if path.is_file()}
    assert len(files) == 8

    again = zia("run toy")
    assert again.code == 0
    assert "done before: score 0.75" in again.out
    assert "step" not in again.out.replace("steps 6", "")
    assert {path: path.read_bytes() for path in files} == files


def test_list_and_plan(zia: Zia) -> None:
    assert zia("list").out.splitlines() == [
        "toy (version 1): adds numbers",
        "  profiles  mini, small",
        "  tasks     sum, product",
        "  methods   add, add-twice, never",
    ]
    assert (
        "3 planned: 3 missing; 0:30:00 to go, one after another; 1 of unknown length"
        in " ".join(zia("plan").out.split())
    )
    zia("run toy")
    plan = " ".join(zia("plan toy").out.split())
    assert "3 planned: 1 done, 2 missing; 0:15:00 to go, one after another; 1 of unknown" in plan
    assert f"add sum s0 {toy.spec().identity[:8]} done 0:15:00" in plan


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("run tox", "there is no experiment 'tox'; choose from: toy"),
        ("run toy --method x", "no method 'x' of toy; choose from: add, add-twice, never"),
        ("run toy --method never", "profile 'mini' of toy plans no run"),
        ("run toy --task x", "no task 'x' of toy; choose from: sum, product"),
        ("run toy --profile huge", "no profile 'huge' of toy; choose from: mini, small"),
        ("plan --profile huge", "no profile 'huge'; choose from: mini, small"),
        (
            "run toy --set x=1",
            "'x' is not a setting; choose from: fail, rate, step_s, steps",
        ),
        ("run toy --set steps=many", "setting steps must be a whole number, not 'many'"),
        ("run toy --set steps", "'steps' is not KEY=VALUE"),
        ("run toy --device tpu", "no device 'tpu'; choose from: auto, cpu, cuda"),
        ("reproduce --executor x", "no executor 'x'; choose from: inprocess, local, slurm"),
        ("reproduce --executor inprocess --gpus 0", "--gpus goes with --executor local only"),
        ("reproduce --executor local --wait", "--wait goes with --executor slurm only"),
        ("reproduce --executor local --gpus 0", "--gpus goes with --device cuda"),
        ("reproduce --retry x", "retry 'x'; choose from: failed"),
        ("run toy --x", "No such option: --x; `zia run` has: --method, --task, --profile"),
        ("walk", "No such command 'walk'; `zia` has: list, plan, run, fetch, check, reproduce, "),
        ("run", "Missing argument 'EXPERIMENT'"),
    ],
)
def test_a_wrong_choice_is_answered_with_the_valid_ones(zia: Zia, line: str, said: str) -> None:
    code, out, err = zia(line)
    assert (code, out) == (2, "")
    assert err.startswith("zia: ")
    assert said in err
    assert len(err.splitlines()) == 1
    assert not RUNS.exists()


@pytest.mark.parametrize("line", ["status --runs ''", "status --runs=", "verify ''", "generate ''"])
def test_an_empty_argument_is_not_the_current_folder(zia: Zia, line: str) -> None:
    code, _, err = zia(line)
    assert code == 2
    assert "is empty; is a variable unset?" in err


def test_an_empty_setting_is_no_empty_argument(zia: Zia) -> None:
    assert "setting steps must be a whole number, not ''" in zia("run toy --set=steps=").err


def test_set_seed_and_method_make_the_run(zia: Zia) -> None:
    assert zia("run toy --method add-twice --seed 7 --set steps=2 --set rate=1").code == 0
    path = RUNS / "toy" / toy.spec("add-twice", "product", 7, steps=2, rate=1.0).folder_name
    assert len(stored.load(path).metrics()) == 3


def test_a_failed_run_is_recorded_and_tried_again_only_when_asked(zia: Zia) -> None:
    failed = zia("run toy --set fail=error")
    assert failed.code == 1
    assert failed.err == "failed: record 17 has no output\n"
    status = stored.read_status(run_folder(fail="error"))
    assert (status["state"], status["reason"]) == ("failed", "record 17 has no output")

    again = zia("run toy --set fail=error")
    assert again.code == 1
    assert "record 17 has no output (before; --retry failed runs it again)" in again.err
    assert len(stored.read_status(run_folder(fail="error"))["attempts"]) == 1

    zia("run toy --set fail=error --retry failed")
    assert len(stored.read_status(run_folder(fail="error"))["attempts"]) == 2


def test_an_interrupted_run_goes_on_and_ends_as_if_it_had_not_been(zia: Zia) -> None:
    stopped = zia("run toy --set stop_at=3")
    assert stopped.code == 130
    assert "preempted: SIGINT (stopped after step 3)" in stopped.err
    assert stored.read_status(run_folder(stop_at=3))["state"] == "preempted"
    assert "preempted 3/6 1.1220" in " ".join(zia("status").out.split())

    resumed = zia("run toy --set stop_at=3")
    assert resumed.code == 0
    assert "step 3/6" not in resumed.out
    zia("run toy")
    for name in (stored.METRICS, stored.PREDICTIONS, stored.RESULT):
        whole, in_two = run_folder() / name, run_folder(stop_at=3) / name
        assert in_two.read_bytes() == whole.read_bytes()


def test_status_and_plan_are_plain_and_fit_80_columns(zia: Zia) -> None:
    assert "no runs in results/runs" in zia("status").out
    zia("run toy")
    zia("run toy --set fail=bug")
    status, plan = zia("status"), zia("plan")
    row = f"add sum s0 {toy.spec().identity[:8]} done 6/6 1.7107"
    assert row in " ".join(status.out.split())
    assert "RuntimeError: not foreseen" in status.out
    lines = (status.out + plan.out).splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in status.out + plan.out


def test_status_shows_the_other_runs_beside_a_corrupt_one(zia: Zia) -> None:
    zia("run toy")
    zia("run toy --seed 1")
    (run_folder(seed=1) / "status.json").write_text("{")
    code, out, err = zia("status")
    assert code == 1
    assert "add sum s0" in out
    assert f"{run_folder(seed=1)}/status.json is not valid JSON" in err


def test_verify_fails_where_a_check_fails(zia: Zia) -> None:
    zia("run toy")
    passed = zia("verify results/runs")
    assert passed.code == 0
    assert passed.out.endswith("checks: 6 ok, 1 needs data\n")
    (run_folder() / stored.METRICS).write_text("")
    failed = zia(f"verify {run_folder()}")
    assert failed.code == 1
    assert "metrics.jsonl has 0 steps, but the finished run has 6" in failed.out


def test_generate_shows_both_answers(zia: Zia) -> None:
    zia("run toy")
    out = zia(f"generate {run_folder()} Why").out
    assert out.startswith("Why\n")
    assert "why" in out
    assert "WHY" in out
    assert "hello" in zia(f"generate {run_folder()}").out
    blind = zia(f"generate {run_folder()} --image cat.jpg")
    assert (blind.code, blind.err) == (1, "zia: toy sees no images: leave --image out\n")
    assert "there is no run in results/runs: give a folder" in zia("generate results/runs").err


def test_reproduce_does_what_is_missing_and_compares_with_the_evidence(zia: Zia) -> None:
    zia("run toy")
    evidence = {stored.METRICS: b'{"step":0,"eval":{"score":0.5}}\n'}
    path = Path("results/published/toy-mini.zip")
    path.parent.mkdir()
    archive.write(path, "toy", "mini", {toy.spec(seed=1).folder_name: evidence})
    code, out, _ = zia("reproduce --executor inprocess")
    assert code == 0
    assert out.count("done before") == 1
    assert all((RUNS / "toy" / run.folder_name).is_dir() for run in toy.EXPERIMENT.plan("", ""))
    for made in ("tables/lora_ranks.md", "tables/claims.md", "figures/paper-loss-curves.png"):
        assert Path("results/fresh", made).is_file()
    *_, told, last = out.splitlines()
    assert "step 0: eval {'score': 0.0} (published {'score': 0.5})" in told
    assert last == "results/fresh"


def test_reproduce_without_runs_shows_the_published_results(
    zia: Zia, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = replace(toy.EXPERIMENT, plan=lambda profile, device: [])
    monkeypatch.setattr(registry, "experiments", lambda: {"toy": empty})
    code, out, _ = zia("reproduce")
    assert code == 0
    assert out.startswith("The profile mini has no runs yet; these are the results of ")
    written = out.splitlines()[1:]
    assert written[:2] == [f"results/fresh/tables/lora_ranks{end}" for end in (".md", ".tex")]
    assert "results/fresh/figures/paper-loss-curves.png" in written
    assert written[-2:] == ["results/fresh/report.html", "results/fresh"]
    assert not RUNS.exists()


def test_debug_shows_where_an_error_comes_from(zia: Zia, monkeypatch: pytest.MonkeyPatch) -> None:
    assert zia("verify nowhere").err == (
        "zia: there is no run in nowhere: it holds no <experiment>/<run>/config.json and no "
        "archive\n"
    )
    monkeypatch.setattr(sys, "argv", ["zia", "verify", "nowhere", "--debug"])
    with pytest.raises(ZiaError):
        main.main()


@pytest.fixture
def child(tmp_path: Path, repository: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`zia` of the toy in a process of its own, started in an empty folder."""
    children = []

    def start(line: str, **streams: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(repository / "tests/harness/toy.py"), *line.split()],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(repository), "COLUMNS": "80", "TERM": "xterm"},
            text=True,
            # A shell lets its background jobs ignore SIGINT, and that is inherited: tests that run
            # in the background would wait for a Ctrl-C that never arrives.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams),
        )
        children.append(process)
        return process

    yield start
    for process in children:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_from_outside_preempts_the_run(
    child: Callable[..., subprocess.Popen[str]], tmp_path: Path, number: signal.Signals
) -> None:
    zia = child("run toy --set steps=200 --set step_s=0.02")
    assert zia.stdout is not None
    while not (line := zia.stdout.readline()).startswith("step"):
        assert line
    zia.send_signal(number)
    _, err = zia.communicate(timeout=60)
    assert zia.returncode == 128 + number
    assert f"preempted: {number.name} (stopped after step" in err
    assert "Traceback" not in err
    path = tmp_path / RUNS / "toy" / toy.spec(steps=200, step_s=0.02).folder_name
    assert stored.read_status(path)["state"] == "preempted"
    assert len(list((path / stored.CHECKPOINT).iterdir())) == 1


def test_watch_redraws_in_a_terminal_until_ctrl_c(
    zia: Zia, child: Callable[..., subprocess.Popen[str]]
) -> None:
    assert zia("status --watch").err == "zia: status --watch needs a terminal; leave --watch out\n"
    zia("run toy")
    zia("run toy --seed 1")
    (run_folder(seed=1) / "status.json").write_text("{")
    ours, theirs = pty.openpty()
    watching = child("status --watch", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    drawn = b""
    while b"1.7107" not in drawn or b"JSON" not in drawn:  # the damaged one is named, too
        drawn += os.read(ours, 4096)
    watching.send_signal(signal.SIGINT)
    assert watching.wait(timeout=60) == 1  # for the damaged run
    os.close(ours)
    assert b"\x1b" in drawn


@pytest.mark.parametrize("line", ["--help", "list", "status", "plan --profile small --device cpu"])
def test_nothing_heavy_is_imported_to_look_around(repository: Path, line: str) -> None:
    program = (
        "import sys\nfrom experiments.cli.main import main\n"
        "try: main()\nexcept SystemExit as end: print(end.code or 0)\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'pandas', 'peft'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", program, *line.split()], cwd=repository, capture_output=True
    ).stdout
    assert out.endswith(b"0\n[]\n")


def test_a_finished_run_without_its_config_is_damaged(zia: Zia) -> None:
    assert zia("run toy").code == 0
    (run_folder() / stored.CONFIG).unlink()
    for command in ("status", "tables", "claims", "report", f"publish {RUNS} published"):
        code, out, err = zia(command)
        assert code == 1, command
        assert f"{stored.CONFIG} is missing" in err
        assert "no runs" not in out
    assert not list(Path().glob("published/*.zip"))


def test_runs_are_not_done_among_published_ones(zia: Zia) -> None:
    assert zia("run toy").code == 0
    assert zia(f"publish {RUNS} published").code == 0
    before = sorted(Path("published").rglob("*"))
    for command in ("run toy", "worker toy", "reproduce toy --executor local"):
        code, _, err = zia(f"{command} --runs published")
        assert code == 1, command
        assert "published holds archives of published runs: name a folder of your own" in err
    assert sorted(Path("published").rglob("*")) == before


def test_where_runs_cannot_be_written_is_said_once(zia: Zia) -> None:
    Path("file").write_text("")
    for command in ("run toy", "worker toy", "reproduce toy --executor local"):
        code, _, err = zia(f"{command} --runs file")
        assert code == 1, command
        assert err.startswith("zia: cannot write into the folder file (")
        assert err.count("\n") == 1
        assert "choose another folder" in err


def test_publishing_nothing_is_said(zia: Zia) -> None:
    zia("run toy")
    assert "published/" in zia(f"publish {RUNS} published").out
    nothing = "nothing new: {} has no finished run folder that is not in {}\n"
    assert zia(f"publish {RUNS} published").out == nothing.format(RUNS, "published")
    assert zia("publish published other").out == nothing.format("published", "other")


def test_a_mistyped_folder_of_runs_is_not_read(zia: Zia) -> None:
    for command in ("tables", "figures", "claims", "report", "readme"):
        code, _, err = zia(f"{command} --runs results/rums")
        assert (code, "there is no results/rums" in err) == (2, True), command
    code, _, err = zia("publish results/rums published")
    assert (code, "there is no results/rums" in err) == (2, True)
    assert not list(Path().iterdir())


def test_a_file_or_a_folder_at_the_wrong_level_is_not_read_as_one_without_runs(zia: Zia) -> None:
    zia("run toy")
    Path("text").write_text("")
    Path("empty").mkdir()
    for wrong, said in (
        ("text", "there is no run in text: it holds no <experiment>/<run>/config.json"),
        ("empty", "there is no run in empty: it holds no <experiment>/<run>/config.json"),
        (RUNS / "toy", "results/runs/toy holds the runs of one experiment: name the folder "),
        (run_folder(), "holds one run: name the folder results/runs"),
    ):
        for command in (f"{each} --out out --runs" for each in ("tables", "figures", "claims")):
            code, _, err = zia(f"{command} {wrong}")
            assert (code, said in err) == (2, True), err
        assert zia(f"publish {wrong} published").code == 2
    assert not Path("out").exists()
    assert not Path("published").exists()
