"""Backbones that come with the project are those of their cards."""

import shutil
from pathlib import Path

import pytest

from experiments.backbones import language_models
from zia_core.errors import ZiaError


@pytest.mark.parametrize("name", ["pocket-llama", "pocket-roberta"])
def test_a_flipped_bit_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path / "none"))
    shutil.copytree(language_models.RELEASED / name, tmp_path / name)
    monkeypatch.setattr(language_models, "RELEASED", tmp_path)
    (weights,) = language_models.source(language_models.get(name))[2]
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ZiaError, match=r"model\.safetensors is not the file that .*card\.json"):
        language_models.source(language_models.get(name))
