"""The figures that are committed are those that a README shows."""

import re
import subprocess
from pathlib import Path

import pytest

SHOWN = re.compile(r"\bfigures/([\w.-]+\.(?:png|pdf))")


def test_committed_figures_are_those_that_readmes_show(repository: Path) -> None:
    """Add one that a README shows by `git add --force`, take away the others."""
    if not (repository / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    tracked = [name for name in listed.stdout.split("\0") if name]
    readmes = [(repository / name).read_text("utf-8") for name in tracked if name.endswith(".md")]
    shown = {name for text in readmes for name in SHOWN.findall(text)}
    committed = {Path(name).name for name in tracked if name.startswith("results/figures/")}
    assert shown == committed != set()
