"""Backbones that come with the project are those of their cards."""

import shutil
from pathlib import Path

import pytest

from experiments.backbones import language_models, weights
from zia_core.errors import ZiaError


@pytest.mark.parametrize("name", ["pocket-llama", "pocket-roberta"])
def test_a_flipped_bit_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path / "none"))
    shutil.copytree(weights.RELEASED / name, tmp_path / name)
    monkeypatch.setattr(weights, "RELEASED", tmp_path)
    with weights.located(language_models.get(name)) as found:
        (file,) = found.files
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    refused = r"model\.safetensors is not the file that .*card\.json"
    with pytest.raises(ZiaError, match=refused), weights.located(language_models.get(name)):
        pass
