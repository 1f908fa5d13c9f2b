"""The tokenizer of LLaMA as Meta released it has SentencePiece's ids."""

import builtins
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from experiments.backbones import meta_tokenizer
from experiments.language.tokens import prompt_ids, response_ids
from zia_core import ZiaError

TEXTS = (
    "Below is an instruction.\n\n### Instruction:\nThree  tips\t€ 🤗 日本\n\n### Response:",
    " in front", "", "a</s>b <0x0A> <unk>", "x  \n y", "\n", "▁a ▁",
)  # fmt: skip
CHARACTERS = "  \n\tabcdeE,.-:1️é中日🤗́▁<>/s"


@pytest.fixture
def folder(tmp_path: Path, shared_dir: Path) -> Path:
    pytest.importorskip("sentencepiece", reason="only for tokenizer.model: the extra `llama`")
    shutil.copy(shared_dir / "weights" / "llama_tokenizer" / "tokenizer.model", tmp_path)
    return tmp_path


def test_ids_and_text_are_sentencepieces(folder: Path) -> None:
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    draw = random.Random(0)
    source = Path(__file__).read_text(encoding="utf-8")
    texts = list(TEXTS)
    for _ in range(300):
        start = draw.randrange(len(source))
        texts.append(source[start : start + draw.randrange(80)])
        texts.append("".join(draw.choices(CHARACTERS, k=draw.randrange(30))))
    tokenizer = meta_tokenizer.load(folder)
    assert (len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id) == (32000, 1, 2)
    for text, ids in zip(texts, prompt_ids(tokenizer, texts), strict=True):
        expected = pieces.encode(text)
        assert ids == [pieces.bos_id(), *expected], repr(text)
        assert tokenizer.decode(ids, skip_special_tokens=True) == pieces.decode(expected)
    (answer,) = response_ids(tokenizer, ["Paris."])
    assert answer == [*pieces.encode("\nParis.")[2:], pieces.eos_id()]


def test_a_file_of_another_kind(folder: Path) -> None:
    (folder / "tokenizer.model").write_text("IQ== 0\nIg== 1\n")  # as LLaMA-3's
    with pytest.raises(ZiaError, match=r"not a SentencePiece file .*put the model's tokenizer\.js"):
        meta_tokenizer.load(folder)


def test_without_sentencepiece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"")
    real = builtins.__import__

    def absent(name: str, *arguments: Any) -> Any:
        if name == "sentencepiece":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ZiaError, match=r"needs sentencepiece, .*run `pip install sentencepiece`"):
        meta_tokenizer.load(tmp_path)


def test_without_any_file(tmp_path: Path) -> None:
    with pytest.raises(ZiaError, match=r"lacks tokenizer\.model: fetch it, or put tokenizer\.json"):
        meta_tokenizer.load(tmp_path)
