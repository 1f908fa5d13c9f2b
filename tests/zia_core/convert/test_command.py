"""`python -m zia_core.convert` and `zia convert`."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.cli.main import main as zia
from tests.zia_core.backbones import build, inputs
from tests.zia_core.convert.test_llama_adapter import official
from tests.zia_core.convert.test_peft import theirs
from zia_core import load_adapter
from zia_core.convert.__main__ import main


@pytest.fixture
def base(tmp_path: Path) -> Path:
    model: Any = build("llama-gqa")
    model.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def test_to_and_from_peft(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = theirs("llama-gqa", tmp_path / "peft")
    words = f"{tmp_path}/peft {tmp_path}/ours --from peft --model {base}"
    monkeypatch.setattr(sys, "argv", ["convert", *words.split()])
    assert main() == 0
    said = f"{tmp_path}/ours/adapter.safetensors; largest relative error of a layer's prompt term: "
    assert capsys.readouterr().out == said + "0.0e+00\n"
    ours: Any = load_adapter(build("llama-gqa"), tmp_path / "ours")
    logits = ours(**inputs("llama-gqa", length=4)).logits
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    words = f"convert {tmp_path}/ours {tmp_path}/again --from zia --model {base}"
    monkeypatch.setattr(sys, "argv", ["zia", *words.split()])
    with pytest.raises(SystemExit) as stopped:
        zia()
    assert not stopped.value.code
    assert f"{tmp_path}/again for PEFT; largest" in " ".join(capsys.readouterr().out.split())
    for name in ("adapter_model.safetensors",):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "peft" / name).read_bytes()


def test_what_the_official_file_does_not_say_must_be_said(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(official(), tmp_path / "official.pth")
    words = f"{tmp_path}/official.pth {tmp_path}/out --from llama-adapter --model {base}"
    for more, says in (
        ("", "give --prompt-length (10 in the released one) and --tanh"),
        ("--prompt-length 5", "and --tanh (the official training code) or --no-tanh"),
        ("--prompt-length 4 --tanh", "not 4 for each"),
    ):
        monkeypatch.setattr(sys, "argv", ["convert", *words.split(), *more.split()])
        assert main() == 1
        assert says in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    monkeypatch.setattr(sys, "argv", ["convert", *words.split(), "--prompt-length=5", "--no-tanh"])
    assert main() == 0
    load_adapter(build("llama-gqa"), tmp_path / "out")


def test_a_base_model_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"{tmp_path} {tmp_path}/out --from peft --model {tmp_path}/nothing"
    monkeypatch.setattr(sys, "argv", ["convert", *words.split()])
    assert main() == 1
    assert "cannot be loaded" in capsys.readouterr().err
