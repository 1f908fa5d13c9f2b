"""Where weights are looked for, in which order, and what is said when they are not found."""

from pathlib import Path

import pytest

from experiments.backbones import weights
from experiments.backbones.weights import located
from experiments.harness.needs import Source
from experiments.io.files import sha256_file
from zia_core.errors import ZiaError

OWN = Source("a model", "own", released=True, howto="make it again")
DISTANT = Source("a distant model", "distant", hub="owner/distant", revision="0" * 40)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(weights, "RELEASED", tmp_path / "released")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path


def write(folder: Path, content: bytes = b"weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(content)
    digest = sha256_file(folder / "model.safetensors")
    (folder / "card.json").write_text(f'{{"sha256": "{digest}"}}')
    return folder


def where(source: Source) -> Path:
    with located(source) as found:
        return found.folder


def test_a_folder_of_one_s_own_comes_first(root: Path) -> None:
    with pytest.raises(ZiaError, match=r"no weights of a model: .*own is missing; make it again"):
        where(OWN)
    released = write(root / "released" / "own")
    assert where(OWN) == released
    local = write(root / "weights" / "own", b"other")
    assert where(OWN) == local
    with located(OWN) as found:
        fingerprint = found.fingerprint()
    assert fingerprint == {"model.safetensors": sha256_file(local / "model.safetensors")}
    (local / "config.json").unlink()
    assert where(OWN) == released


def test_the_hub_is_asked_at_its_revision(root: Path) -> None:
    with pytest.raises(
        ZiaError, match=r"no weights of a distant model: .*owner/distant cannot be reached .*into"
    ):
        where(DISTANT)
    cached = root / "cache" / "models--owner--distant" / "snapshots"
    write(cached / ("1" * 40))
    with pytest.raises(ZiaError, match="cannot be reached"):
        where(DISTANT)
    assert where(Source("it", "it", hub="owner/distant", revision="1" * 40)).name == "1" * 40


@pytest.mark.parametrize(
    "error",
    [
        ValueError("one\ntwo"),
        RuntimeError("one"),
        OSError("one"),
        KeyError("one"),
        TypeError("one"),
    ],
)
def test_whatever_loading_raises_is_one_sentence(root: Path, error: Exception) -> None:
    write(root / "released" / "own")
    with (
        pytest.raises(ZiaError, match=r"of a model in .*own cannot be loaded \('?one'?\): make it"),
        located(OWN),
    ):
        raise error


def test_a_folder_without_weights_is_refused(root: Path) -> None:
    (write(root / "weights" / "own") / "model.safetensors").unlink()
    with pytest.raises(ZiaError, match=r"own has no \*\.safetensors: fetch the weights again"):
        where(OWN)
