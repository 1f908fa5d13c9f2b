"""Untrusted text is printed safely, and failing to print stops no work."""

import errno
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO, cast

import pytest

from experiments.dispatch import status_table
from experiments.harness import stored
from experiments.io import output, terminal
from experiments.io.output import one_line, plain
from tests.cli.test_main import RUNS, Zia, run_folder, zia
from tests.harness import toy

__all__ = ["zia"]  # a fixture

# Rich's markup, opened and closed; colours, a title, "clear the screen"; what overwrites a line or
# turns its direction; half of a surrogate pair.
HOSTILE = (
    "[/INST] [/b] [red]\x1b[31mred\x1b]0;owned\x07\x1b[2J\x9b1m\rover\x08\u202ecod\ud800 ok:+1:"
)
SHOWN = (
    r"[/INST] [/b] [red]\x1b[31mred\x1b]0;owned\x07\x1b[2J\x9b1m\rover\x08\u202ecod\ud800 ok:+1:"
)


def test_what_is_not_to_be_seen_is_written_out() -> None:
    assert plain(HOSTILE) == SHOWN
    assert plain("naïve 日本語\tאב\nnext") == "naïve 日本語\tאב\nnext"
    assert one_line("a\nfailed: b\r\n") == r"a\nfailed: b\r\n"


def edited(name: str, change: Callable[[dict[str, object]], object]) -> None:
    path = run_folder() / name
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_status_shows_a_reason_a_host_and_a_profile_as_they_are(zia: Zia) -> None:
    zia("run toy")

    def change(record: dict[str, object]) -> None:
        record |= {"state": "failed", "reason": f"{HOSTILE}\nfailed: another"}
        attempts = cast("list[dict[str, object]]", record["attempts"])
        attempts[-1]["host"] = "[/b]\x1b[31m"

    edited("status.json", change)
    edited("config.json", lambda record: record.update(profile="[/i]\x1b[0m\nx"))
    code, out, err = zia("status")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    joined = "".join(out.split())
    assert "".join(SHOWN.split()) + r"\nfailed:another" in joined
    assert r"toy,profile[/i]\x1b[0m\nx" in joined
    assert r"[/b]\x1b[31m" in joined


def test_errors_answers_and_logs_are_text_too(zia: Zia, tmp_path: Path) -> None:
    name = "\x1b[31m[red]"
    assert zia(f"run toy --method {name}").err.startswith(
        r"zia: there is no method '\x1b[31m[red]'"
    )
    evil = tmp_path / "results" / "runs" / name / "run" / stored.CONFIG
    evil.parent.mkdir(parents=True)
    evil.write_text("{")
    code, _, err = zia("status")
    assert code == 1
    assert r"\x1b[31m[red]/run/config.json is not valid JSON" in err
    assert "\x1b" not in err
    evil.unlink()
    zia("run toy")
    code, out, _ = zia(f"generate {run_folder()} [/INST]\x1b[31m")
    assert code == 0
    assert r"[/INST]\x1b[31m" in out
    log = RUNS / "submissions" / "20260101-000000-abcdef" / "logs" / "worker-0.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(f"run toy/{run_folder().name}\n".encode() + b"\x1b[2Jloading \xff\xfe [/b]\n")
    code, out, _ = zia(f"logs toy/{run_folder().name}")
    assert code == 0
    assert "\\x1b[2Jloading \ufffd\ufffd [/b]" in out


@pytest.mark.parametrize("width", [40, 30, 20])
def test_a_narrow_terminal_shows_run_and_state(
    zia: Zia, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    zia("run toy")
    monkeypatch.setenv("COLUMNS", str(width))
    for command in ("status", "plan toy"):
        code, out, _ = zia(command)
        assert code == 0
        head, line = (next(x for x in out.splitlines() if w in x) for w in ("state", "done"))
        assert head.split()[0] == "run"
        assert head.index("state") == line.index("done")
        assert line.startswith("add")
        sentence = " ".join(out.split()).partition("not shown, too narrow:")[2]
        assert "host" in sentence or "GB" in sentence
        assert not {"run,", "state,"} & set(sentence.split())
        assert all(len(each) <= width for each in out.splitlines())
    code, out, _ = zia("list")
    assert (code, "toy" in out, "never" in out) == (0, True, True)


def test_a_wide_terminal_shows_every_column(zia: Zia, monkeypatch: pytest.MonkeyPatch) -> None:
    zia("run toy")
    monkeypatch.setenv("COLUMNS", "120")
    out = zia("status").out
    assert "not shown" not in out
    heading = next(line for line in out.splitlines() if line.startswith("run"))
    assert heading.split() == list(status_table.COLUMNS)


def test_the_progress_bar_takes_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.progress() as show:
        show(step=1, total=1, loss=None, lr=None, tokens_per_s=None, eta_s=None)
    assert "step 1/1" in capsys.readouterr().out


def done_by(arguments: Sequence[str], cwd: Path, repository: Path, **streams: object) -> int:
    """The exit code of `zia` on the toy experiment, with these streams."""
    done = subprocess.run(
        [sys.executable, str(Path(toy.__file__)), *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(repository)},
        **streams,  # type: ignore[call-overload]
    )
    return int(done.returncode)


def states(folder: Path) -> list[str]:
    return [run.state for run in stored.states(folder / RUNS)]


RUN_TWICE = ["reproduce", "toy", "--executor", "inprocess"]


def test_a_reader_that_leaves_fails_no_run(tmp_path: Path, repository: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # as `| head` at its end
    errors = tmp_path / "errors"
    with errors.open("wb") as stderr:
        code = done_by(RUN_TWICE, tmp_path, repository, stdout=writing, stderr=stderr)
    os.close(writing)
    assert states(tmp_path) == ["done"] * 3
    assert code == 0
    assert "Broken" not in errors.read_text()
    assert (tmp_path / "results" / "fresh" / "report.html").exists()


def test_a_full_stdout_fails_no_run_and_is_reported_where_output_is_all(
    tmp_path: Path, repository: Path
) -> None:
    with Path("/dev/full").open("wb") as full:
        assert done_by(["run", "toy"], tmp_path, repository, stdout=full, stderr=full) == 0
    assert states(tmp_path) == ["done"]
    errors = tmp_path / "errors"
    with Path("/dev/full").open("wb") as full, errors.open("wb") as stderr:
        assert done_by(["status"], tmp_path, repository, stdout=full, stderr=stderr) == 1
    assert errors.read_text() == "zia: cannot write to stdout: No space left on device\n"


CLOSED = """
import os, sys
os.close(1)
os.close(2)
from experiments.io.output import guarded, say
with guarded(), open(sys.argv[1], "wb", buffering=0) as log:
    say("nobody hears this")
    os.write(2, b"a library that writes where the error stream should be")
    log.write(b"the log of a run")
"""


def test_closed_streams_are_not_taken_for_files_of_the_run(
    tmp_path: Path, repository: Path
) -> None:
    command = [sys.executable, "-c", CLOSED, str(tmp_path / "log")]
    subprocess.run(command, cwd=repository, check=True)
    assert (tmp_path / "log").read_bytes() == b"the log of a run"


def test_letters_that_the_terminal_lacks_are_written_out(tmp_path: Path, repository: Path) -> None:
    folder = tmp_path / "números 日本"
    folder.mkdir()
    plain_c = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, str(Path(toy.__file__)), "status", "--runs", str(folder)],
        env={**os.environ, **plain_c, "PYTHONPATH": str(repository), "COLUMNS": "200"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"\\" in done.stdout


class Failing(io.StringIO):
    """A stream that cannot be written, for a reason that a caller sets."""

    reason: Exception | None = None

    def write(self, text: str) -> int:
        if self.reason is not None:
            raise self.reason
        return super().write(text)


def test_a_disk_that_is_freed_again_gets_what_comes_then(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Failing()
    monkeypatch.setattr(sys, "stdout", stream)
    with output.guarded() as stdout:
        stream.reason = OSError(errno.ENOSPC, "No space left on device")
        output.tell("lost")
        stream.reason = RuntimeError("reentrant call")  # a signal's handler
        output.tell("lost too")
        stream.reason = None
        output.tell("kept")
        assert sys.stdout is cast(TextIO, stdout)
    assert stream.getvalue().strip() == "kept"
    assert stdout.error is not None
    assert sys.stdout is stream
