"""The sixth experiment of experiments/README.md: its files and commands, as a reader types them."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

FILE = re.compile(r"^`(mine/[\w/.]+)`.*?^```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMANDS = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def folder(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder in which every file was written and every command was run."""
    folder = tmp_path_factory.mktemp("sixth")
    text = (repository / "experiments/README.md").read_text("utf-8")
    prepare, use = COMMANDS.findall(text)
    python, path = shlex.quote(sys.executable), shlex.quote(str(repository))
    zia = f'zia() {{ PYTHONPATH="$PYTHONPATH:"{path} {python} -m experiments.cli "$@"; }}\n'
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def run(script: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(prepare)
    for name, content in FILE.findall(text):
        (folder / name).write_text(content)
    (folder / "told.txt").write_text(run(zia + use))
    return folder


def test_it_is_planned_done_and_verified(folder: Path) -> None:
    told = (folder / "told.txt").read_text()
    assert "majority, profile mini" in told
    assert "4 planned: 4 missing" in told
    runs = sorted(path.name for path in (folder / "results/runs/majority").glob("*-*"))
    assert [name.rpartition("-")[0] for name in runs] == [
        f"{method}-letters-random-bert-mini-s{seed}"
        for method in ("full", "zero-init")
        for seed in (0, 1)
    ]
    assert len(re.findall(r"^ +metrics +ok +accuracy$", told, re.MULTILINE)) == 4
    assert re.search(r"^checks: \d+ ok$", told, re.MULTILINE)


def test_its_table_has_both_methods_and_their_difference(folder: Path) -> None:
    table = (folder / "tables/majority.md").read_text()
    score = r"\d\d\.\d ± \d+\.\d \(2\)"
    assert re.search(rf"^\| zero-init \| {score} \| 619 \(2\) \|$", table, re.MULTILINE)
    assert re.search(rf"^\| full \| {score} \| \d\d,\d\d\d \(2\) \|$", table, re.MULTILINE)
    assert re.search(r"^\| zero-init minus full \| -\d.* \|$", table, re.MULTILINE)
