"""The wheel has `zia_core` alone, and works where nothing but its dependencies is installed."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

NEEDED = {"torch", "transformers", "safetensors"}
USE = """
import sys, zia_core
assert "torch" not in sys.modules and "transformers" not in sys.modules
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from zia_core import ZeroInitConfig, attach, load_adapter, save_adapter

def backbone():
    torch.manual_seed(0)
    sizes = dict(vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2)
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2))

ids = torch.arange(24).view(2, 12)
model = attach(backbone(), ZeroInitConfig(prompt_length=4, num_layers=2))
before = model(input_ids=ids).logits
assert torch.equal(before, backbone()(input_ids=ids).logits)
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.03)
losses = []
for _ in range(20):
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] - 0.005, losses
after = model(input_ids=ids).logits
save_adapter(model, sys.argv[1])
assert torch.equal(load_adapter(backbone(), sys.argv[1])(input_ids=ids).logits, after)
found = []
for name in ("timm", "peft", "datasets", "experiments", "benchmarks"):
    try:
        __import__(name)
        found.append(name)
    except ImportError:
        pass
print(zia_core.__file__, *found)
"""


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a copy, so that the repository gets no build folder; without network."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    shutil.copytree(
        repository / "zia_core", source / "zia_core", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "LICENSE", "experiments", "benchmarks", "tests"):
        (source / name).symlink_to(repository / name)
    build = "import setuptools.build_meta as b, sys; b.build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", build, str(folder)],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_contents_and_size(wheel: Path, repository: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (licence,) = (n for n in archive.namelist() if n.endswith("/LICENSE"))
        assert archive.read(licence) == (repository / "LICENSE").read_bytes()
        assert not [n for n in archive.namelist() if n.endswith("entry_points.txt")]
    modules = {p.relative_to(repository).as_posix() for p in repository.glob("zia_core/**/*.py")}
    assert names == modules | {"zia_core/py.typed", "zia_core/README.md"}
    assert wheel.stat().st_size < 200_000


def test_metadata(wheel: Path, repository: Path) -> None:
    metadata = read_metadata(wheel)
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    extras = set(metadata.get_all("Provides-Extra", []))
    assert {r.name for r in requirements if not r.marker} == NEEDED
    assert extras == {"4bit", "timm", "peft", "suite", "llama", "dev"}
    project = tomllib.loads((repository / "experiments/pyproject.toml").read_text("utf-8"))
    (suite,) = map(Requirement, project["project"]["dependencies"])
    assert (suite.name, suite.extras) == (metadata["Name"], {"suite"})
    assert "import" in str(metadata.get_payload())  # the library's guide, not the suite's


def test_every_package_of_the_suite_is_pinned(wheel: Path, repository: Path) -> None:
    pinned = re.findall(
        r"^([\w.-]+)==", (repository / "requirements.lock").read_text("utf-8"), re.M
    )
    metadata = read_metadata(wheel)
    requirements = map(Requirement, metadata.get_all("Requires-Dist", []))
    named = {r.name for r in requirements if 'extra == "llama"' not in str(r.marker)}
    assert named - {metadata["Name"]} <= {name.lower().replace("_", "-") for name in pinned}


def test_it_works_with_its_dependencies_alone(wheel: Path, tmp_path: Path) -> None:
    """Those are links to the installed ones: a copy of torch would take 6 GB."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    for name in sorted(closure(NEEDED)):
        for entry in top_level(name):
            (site / entry.name).exists() or (site / entry.name).symlink_to(entry)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [venv / "bin/python", "-c", USE, str(tmp_path / "adapter")],
        cwd=tmp_path,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(site / "zia_core/__init__.py")]


def read_metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def closure(names: set[str]) -> set[str]:
    """Distributions and all that they require here, without extras."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            required = map(Requirement, distribution(name).requires or [])
            waiting += [
                r.name for r in required if not r.marker or r.marker.evaluate({"extra": ""})
            ]
    return found


def top_level(name: str) -> Iterator[Path]:
    """What a distribution has directly in site-packages."""
    installed = distribution(name)
    root = Path(str(installed.locate_file("")))
    for first in {file.parts[0] for file in installed.files or []} - {"..", "__pycache__"}:
        yield root / first
