"""Backbones that come with the project are those of their cards."""

import shutil
from pathlib import Path

import pytest

from experiments import backbones
from zia_core.errors import ZiaError


@pytest.mark.parametrize("name", ["pocket-llama", "pocket-roberta"])
def test_a_flipped_bit_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path / "none"))
    shutil.copytree(backbones.RELEASED / name, tmp_path / name)
    monkeypatch.setattr(backbones, "RELEASED", tmp_path)
    (weights,) = backbones.source(backbones.get(name))[2]
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ZiaError, match=r"model\.safetensors is not the file that .*card\.json"):
        backbones.source(backbones.get(name))
