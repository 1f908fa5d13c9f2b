"""Every example of the guide and of the API reference runs, and every public name is in one."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_server import PROJECT, HubServer
from tests.zia_core.api_reference import EXAMPLES, public_modules, public_names
from tests.zia_core.examples_hub import examples_hub, write_foreign_adapters

ON_RANKS = {"ranks", "sharding"}
ON_RANKS_TOO = "with joined("  # blocks of the guide that torchrun starts
RUN = """
import json, os, sys, traceback
sys.path.insert(0, sys.argv[1])
wrong = {}
for name, code in json.load(sys.stdin).items():
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
    """The code of the guide, of the front page, and of each module's page."""
    pages = {path.stem: path.read_text("utf-8") for path in sorted(EXAMPLES.glob("*.py"))}
    return {"guide": blocks("zia_core/README.md"), "front": blocks("README.md"), **pages}


def blocks(document: str) -> str:
    """The Python of a document, from top to bottom, without what is for torchrun."""
    found = re.findall("```python\n(.*?)```", (PROJECT / document).read_text("utf-8"), re.S)
    return "\n".join(code for code in found if ON_RANKS_TOO not in code)


def run(code: dict[str, str], folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """Run examples in a process, each in a folder; return the traceback of those that fail."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(PROJECT)],
        cwd=folder,
        env=environment,
        input=json.dumps(code),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_they_run(hub: HubServer, tmp_path: Path) -> None:
    alone = {name: code for name, code in examples().items() if name not in ON_RANKS}
    write_foreign_adapters(tmp_path / "guide")
    assert run(alone, tmp_path, hub.environment(tmp_path / "home", HF_TOKEN="hf_mine")) == {}
    assert "owner/name" in [name for _, name in hub.repositories]


def test_one_that_fails_is_seen(tmp_path: Path) -> None:
    wrong = run({"right": "x = 1", "wrong": "x", "later": "y = 2"}, tmp_path, dict(os.environ))
    assert list(wrong) == ["wrong"]
    assert "NameError: name 'x' is not defined" in wrong["wrong"]


def under_torchrun(hub: HubServer, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the folder's example.py in two processes."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    return subprocess.run(
        [*launch, "example.py"],
        cwd=folder,
        env=hub.environment(folder / "home", PYTHONPATH=str(PROJECT)),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", sorted(ON_RANKS))
def test_those_for_torchrun_run(name: str, hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(examples()[name])
    done = under_torchrun(hub, tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_guide_s_sharded_training_runs(hub: HubServer, tmp_path: Path) -> None:
    """With the task and settings of the engine's example, on a CPU."""
    found = re.findall("```python\n(.*?)```", (PROJECT / "zia_core/README.md").read_text(), re.S)
    (block,) = (code for code in found if ON_RANKS_TOO in code)
    given = """
from dataclasses import replace
from pathlib import Path
journal, shared_folder = Printed(), Path("shards")
settings = replace(settings, precision="bf16-autocast", total_steps=2)
model = AutoModelForCausalLM.from_pretrained(name)
"""
    before, _, _ = examples()["engine"].partition("model = attach(")
    after, _, _ = examples()["engine"].partition("try:")
    task = after[after.index("task = ") :]
    assert 'device="cuda"' in block
    program = before + task + given + block.replace('device="cuda"', 'device="cpu"')
    (tmp_path / "example.py").write_text(program)
    done = under_torchrun(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("'grad_norm'") == 2, "steps, of the first rank's journal"


def used(code: str) -> set[str]:
    """The names that code uses, not those that it only imports."""
    nodes = list(ast.walk(ast.parse(code)))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def test_every_public_name_is_used_in_one() -> None:
    seen = set[str]().union(*map(used, examples().values()))
    names = {f"{m}.{each.name}" for m in public_modules() for each in public_names(m)}
    assert {name for name in names if name.rpartition(".")[2] not in seen} == set()


def test_an_import_is_not_a_use() -> None:
    assert used("from a import b, c\nb(d.e)") == {"b", "d", "e"}
