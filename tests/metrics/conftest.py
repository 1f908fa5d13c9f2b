"""Fixtures for the tests of the metrics."""

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from experiments.cli import main


class Printed(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def zia_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Printed]:
    """Call `zia_score("coco", "--results", ...)` in the empty folder `tmp_path`."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str | Path) -> Printed:
        monkeypatch.setattr(sys, "argv", ["zia", "score", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main.main()
        return Printed(int(end.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    """Call `write("a.json", value)` to write JSON, JSON lines (.jsonl) or compressed ones (.gz)."""

    def call(name: str, value: Any) -> Path:
        if ".jsonl" in name:
            value = "\n".join(json.dumps(record) for record in value).encode()
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return call
