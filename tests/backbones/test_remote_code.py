"""Weights that bring code, as `auto_map` names it: it is neither run nor asked about."""

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.backbones import language_models
from experiments.backbones.release import read_backbone
from experiments.backbones.text_encoders import load_for_question_answering
from experiments.backbones.weights import located
from experiments.images import encoders
from tests.images.world import write_encoders
from zia_core import ZiaError

CODE = """
from pathlib import Path
Path({ran!r}).touch()
from transformers import {base}
class Brought({base}):
    model_type = "brought"
"""
AUTO = ("AutoModelForCausalLM", "AutoModelForQuestionAnswering", "AutoModel")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked; the answer is always yes."""
    questions: list[str] = []

    def answer(question: str = "") -> str:
        questions.append(question)
        return "y"

    monkeypatch.setattr(builtins, "input", answer)
    return questions


def brought(folder: Path, ran: Path) -> None:
    """Weights whose configuration, model and tokenizer are code in their folder."""
    folder.mkdir()
    auto = {"AutoConfig": "brought.Brought", **dict.fromkeys(AUTO, "brought.Brought")}
    (folder / "config.json").write_text(json.dumps({"model_type": "brought", "auto_map": auto}))
    tokenizer = {"auto_map": {"AutoTokenizer": ["brought.Brought", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "brought.py").write_text(CODE.format(ran=str(ran), base="PretrainedConfig"))
    (folder / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")


def question_answering() -> None:
    backbone = language_models.get("minilm-l6")
    load_for_question_answering(backbone, torch.float32, "cpu", seed=0, hidden_dropout=None)


def released() -> None:
    from transformers import AutoModelForCausalLM

    with located(language_models.get("minilm-l6")) as found:
        read_backbone(AutoModelForCausalLM, found.folder)


@pytest.mark.parametrize(
    "load",
    [
        lambda: language_models.load(language_models.get("minilm-l6"), torch.float32, "cpu"),
        question_answering,
        lambda: encoders.load("minilm-l6"),
        released,
    ],
)
def test_code_beside_weights_is_refused_unasked(
    load: Callable[[], Any], tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    ran = tmp_path / "ran"
    brought(tmp_path / "minilm-l6", ran)
    with pytest.raises(ZiaError, match="minilm-l6 cannot be loaded"):
        load()
    assert (asked, ran.exists()) == ([], False)


def test_an_architecture_is_a_name_of_timm_s_and_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_encoders(tmp_path)
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path))
    path = tmp_path / "timm" / "config.json"
    config = json.loads(path.read_text()) | {"architecture": f"local-dir:{tmp_path / 'vit'}"}
    path.write_text(json.dumps(config))
    with pytest.raises(ZiaError, match=r"timm cannot be loaded \(config.json names a place"):
        encoders.load("timm")
