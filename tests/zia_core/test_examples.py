"""Every example of the API reference runs."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_server import PROJECT, HubServer
from tests.zia_core.api_reference import EXAMPLES
from tests.zia_core.examples_hub import examples_hub

ON_RANKS = {"ranks", "sharding"}
RUN = """
import json, os, sys, traceback
sys.path.insert(0, sys.argv[1])
wrong = {}
for name, code in json.load(sys.stdin):
    os.makedirs(name, exist_ok=True)
    os.chdir(name)
    try:
        exec(compile(code, name, "exec"), {"__name__": name})
    except Exception:
        wrong[name] = traceback.format_exc()
    os.chdir("..")
print(json.dumps(wrong))
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with examples_hub().running() as server:
        yield server


def examples() -> dict[str, str]:
    return {path.stem: path.read_text("utf-8") for path in sorted(EXAMPLES.glob("*.py"))}


def test_the_examples_of_the_reference_run(hub: HubServer, tmp_path: Path) -> None:
    alone = [pair for pair in examples().items() if pair[0] not in ON_RANKS]
    environment = hub.environment(tmp_path / "home", HF_TOKEN="hf_mine")
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(PROJECT)],
        cwd=tmp_path, env=environment, input=json.dumps(alone), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {}


@pytest.mark.parametrize("name", sorted(ON_RANKS))
def test_the_examples_for_torchrun_run(name: str, hub: HubServer, tmp_path: Path) -> None:
    environment = hub.environment(tmp_path / "home", PYTHONPATH=str(PROJECT))
    (tmp_path / "example.py").write_text(examples()[name])
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, "example.py"], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
