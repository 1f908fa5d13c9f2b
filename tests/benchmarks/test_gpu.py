"""`make gpu`: its plan fits the screen and the time, and parts do not affect one another."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import BENCHMARKS, gpu
from benchmarks.command import shape_of
from benchmarks.gpu import Step

FAILS = Step("fails", "", 5, words=("-c", "import sys; print('why'); sys.exit(3)"))
HANGS = Step("hangs", "", 1, words=("-c", "import time; print('here', flush=True); time.sleep(60)"))
WORKS = Step("works", "", 5, words=("-c", "print('result')"))


def test_the_plan_is_benchmarks_at_sizes_that_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for step in gpu.PLAN:
        if not step.words:
            assert step.name in BENCHMARKS
            module = __import__(f"benchmarks.{step.name}", fromlist=["Shape"])
            assert shape_of(module.Shape, json.dumps(step.shape or {})).device == "cuda"


def test_the_plan_fits_its_minutes_and_80_columns() -> None:
    text = gpu.drawn(gpu.PLAN, gpu.MINUTES)
    assert all(len(line) <= 80 for line in text.splitlines())
    *measured, small = gpu.PLAN
    assert small.name == "small"
    assert sum(step.seconds for step in measured) < 60 * gpu.MINUTES


def test_a_part_that_fails_or_hangs_costs_the_others_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    outcomes = gpu.run([FAILS, HANGS, WORKS], tmp_path / "out", minutes=1)
    assert time.monotonic() - began < 20
    assert outcomes["fails"] == "failed, see fails-cuda.log"
    assert outcomes["hangs"] == "stopped after 3 s, see hangs-cuda.log"
    assert outcomes["works"].startswith("done in")
    assert json.loads((tmp_path / "out" / gpu.SUMMARY).read_text()) == outcomes
    for name, line in (("fails", "why"), ("hangs", "here"), ("works", "result")):
        assert line in (tmp_path / "out" / f"{name}-cuda.log").read_text().splitlines()
    assert "works: done in" in capsys.readouterr().out


def test_nothing_begins_when_the_minutes_are_over(tmp_path: Path) -> None:
    outcomes = gpu.run([HANGS, WORKS], tmp_path, minutes=1 / 60)
    assert outcomes == {
        "hangs": "stopped after 1 s, see hangs-cuda.log",
        "works": "left out: no time was left",
    }


def test_a_toy_run_writes_what_the_card_will(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "benchmarks.gpu", "--toy", "--out", str(tmp_path)]
    words += ["--only", "parity", "attention_core"]
    done = subprocess.run(words, cwd=gpu.PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("parity", "attention_core"):
        assert json.loads((tmp_path / f"{name}-cpu.json").read_text())["benchmark"] == name


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name a folder for the results with --out"),
        (["--only", "nothing"], "there is no part nothing; there are: tests, parity"),
        (["--out", "/dev/null/x", "--only", "parity"], "cannot write /dev/null/x"),
    ],
)
def test_mistakes_are_sentences(words: list[str], sentence: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *words],
        cwd=gpu.PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
