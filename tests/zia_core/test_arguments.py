"""Paths of command lines: an unset variable is not the current folder."""

from argparse import ArgumentParser
from pathlib import Path

import pytest

from zia_core.arguments import named_path


def test_an_empty_path_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser("any")
    parser.add_argument("folder", type=named_path)
    assert parser.parse_args(["a b"]).folder == Path("a b")
    assert parser.parse_args(["."]).folder == Path()
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args([""])
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == 'any: error: argument folder: "" is empty; is a variable unset?'


def test_no_command_takes_an_empty_path(repository: Path) -> None:
    sources = [
        path
        for package in ("zia_core", "experiments", "benchmarks")
        for path in (repository / package).rglob("*.py")
    ]
    assert sum("type=named_path" in path.read_text("utf-8") for path in sources) >= 10
    assert [path.name for path in sources if "type=Path" in path.read_text("utf-8")] == []
