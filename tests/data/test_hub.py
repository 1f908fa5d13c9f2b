"""The hub's clients against a server on this machine that counts, and where nobody listens."""

import ast
import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from experiments.data import hub as hub_module
from experiments.harness import unpacking
from experiments.harness.archive import Archive
from experiments.harness.provenance import PROJECT

# What has to be fetched where this machine has it not: every place that asks the hub.
FETCHES = {
    "alpaca": "from experiments.alpaca_llama.data import load_alpaca\nload_alpaca()",
    "squad": "from experiments.squad_roberta.data import load_squad\nload_squad('1.1', 'dev')",
    "language model": (
        "from experiments.backbones import language_models, weights\n"
        "with weights.located(language_models.get('llama-7b')): pass"
    ),
    "vit": "from experiments.backbones import vision_models as b\nb.load(b.get(b.vit_b16()))",
    "encoder": "from experiments.images import encoders as e\ne.load('clip-vit-l-14')",
}


CLIENTS = ("snapshot_download", "hf_hub_download", "load_dataset")


class Hub(ThreadingHTTPServer):
    """Answers everything with one status, and remembers what was asked."""

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.status = status
        self.asked: list[str] = []


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - as the base class calls it

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    server = Hub(request.param)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def python(code: str, home: Path, endpoint: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that has neither data nor weights, and that hub."""
    left_out = ("ZIA_DATA", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    own = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "ZIA_WEIGHTS": str(home / "none")}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=PROJECT, env=kept | own, capture_output=True, text=True, check=False
    )


def fetching(times: int) -> str:
    """A program that tries every place so many times and prints its sentences."""
    tried = "".join(
        f"def fetch():\n    {code.replace(chr(10), chr(10) + '    ')}\n"
        "try: fetch()\nexcept ZiaError as error: print(error)\n"
        for code in FETCHES.values()
    )
    return "from zia_core.errors import ZiaError\n" + times * tried


@pytest.mark.parametrize("hub", [503], indirect=True)
def test_a_hub_that_fails_is_asked_once_by_a_process(hub: Hub, tmp_path: Path) -> None:
    done = python(fetching(times=2), tmp_path, f"http://127.0.0.1:{hub.server_port}")
    assert hub.asked == ["HEAD /"]
    sentences = done.stdout.splitlines()
    assert len(sentences) == 2 * len(FETCHES), done.stderr
    assert all("the hub's " in each and "connect to the network" in each for each in sentences)


@pytest.mark.parametrize("hub", [404], indirect=True)
def test_a_hub_that_has_it_not_is_asked_for_everything(hub: Hub, tmp_path: Path) -> None:
    done = python(fetching(times=1), tmp_path, f"http://127.0.0.1:{hub.server_port}")
    assert len(done.stdout.splitlines()) == len(FETCHES), done.stderr
    for name in ("alpaca", "squad", "llama-7b", "vit_base", "clip-vit-large"):
        assert any(name in path for path in hub.asked), hub.asked


def test_where_nobody_listens_nobody_is_asked_again(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and no listen: refused
        done = python(fetching(times=1), tmp_path, f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert len(done.stdout.splitlines()) == len(FETCHES), done.stderr
    assert "Retrying" not in done.stderr


@pytest.mark.parametrize(
    ("error", "is_away"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (PermissionError(errno.EACCES, "Permission denied", "cache/file"), False),
        (OSError("We couldn't connect"), True),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), True),
    ],
)
def test_only_a_failed_connection_ends_the_asking(
    monkeypatch: pytest.MonkeyPatch, error: OSError, is_away: bool
) -> None:
    monkeypatch.setattr(hub_module, "_has_answered", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    with pytest.raises(type(error), match=str(error.args[-1])), hub_module.asked():
        raise error
    assert constants.HF_HUB_OFFLINE is is_away


@pytest.mark.parametrize("hub", [503], indirect=True)
def test_verify_asks_once_for_all_runs(hub: Hub, tmp_path: Path) -> None:
    for name in ("alpaca_llama-small", "squad_roberta-small"):
        for run in Archive(PROJECT / "results" / "published" / f"{name}.zip").runs[:3]:
            unpacking.unpack(run, tmp_path / "runs")
    code = (
        "import sys\nfrom experiments.cli.main import main\n"
        f"sys.argv = ['zia', 'verify', {str(tmp_path / 'runs')!r}]\nmain()"
    )
    done = python(code, tmp_path / "home", f"http://127.0.0.1:{hub.server_port}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "needs data" in done.stdout
    assert hub.asked == ["HEAD /"]


def test_every_call_of_the_hub_s_clients_is_in_a_block_of_the_one_place() -> None:
    callers = 0
    tops = ("zia_core", "experiments", "benchmarks")
    for path in (path for top in tops for path in PROJECT.glob(f"{top}/**/*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        inside = {
            id(call)
            for block in ast.walk(tree)
            if isinstance(block, ast.With)
            and any(
                ast.unparse(item.context_expr) in ("asked()", "hub.asked()", "asked(given)")
                for item in block.items
            )
            for call in ast.walk(block)
        }
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] in CLIENTS:
                if any(ast.unparse(word) == "local_files_only=True" for word in call.keywords):
                    continue  # asks nobody
                callers += 1
                assert id(call) in inside, f"{path}, line {call.lineno}"
    assert callers == 6  # data sets, weights, models of one's own, two in `zia fetch`, and adapters
