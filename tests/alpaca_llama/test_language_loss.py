"""The loss on text that is no instruction: which texts, which number, and where it ends up."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from experiments.alpaca_llama import language_loss
from experiments.alpaca_llama.experiment import EXPERIMENT
from experiments.backbones import language_models
from experiments.dispatch.in_process import run_one
from experiments.harness import stored, verify
from experiments.language.tokens import prompt_ids
from experiments.mini_world.documents import LANGUAGE_MODEL, LESSONS, Library
from tests.alpaca_llama import world

PARAGRAPHS = [f"The {animal} sleeps {i} hours." for i, animal in enumerate(("cat", "dog", "owl"))]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        world.prepare(folder, patch)
        write_squad(folder / "data", PARAGRAPHS)
        patch.setattr(language_loss, "FINGERPRINT", fingerprint(PARAGRAPHS))
        yield folder


def write_squad(data: Path, paragraphs: list[str]) -> None:
    """Two questions about every paragraph, as in the official file."""
    answers = [{"text": "The", "answer_start": 0}]
    entries = [
        {
            "context": text,
            "qas": [{"id": f"{i}-{k}", "question": "Who?", "answers": answers} for k in range(2)],
        }
        for i, text in enumerate(paragraphs)
    ]
    content = {"version": "1.1", "data": [{"title": "Animals", "paragraphs": entries}]}
    (data / "squad").mkdir(parents=True, exist_ok=True)
    (data / language_loss.FILE).write_text(json.dumps(content))


def fingerprint(paragraphs: list[str]) -> str:
    return digest(json.dumps(sorted(map(digest, paragraphs)), separators=(",", ":")))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def done(root: Path, method: str, **changes: Any) -> stored.StoredRun:
    spec = world.spec(method, **changes)
    outcome = run_one(spec, root / "runs")
    assert outcome.state == "done", outcome.reason
    return stored.load(root / "runs" / spec.experiment / spec.folder_name)


def by_hand(texts: list[str]) -> float:
    """The backbone's mean loss, text by text, without a batch, a mask or a label."""
    backbone = language_models.get("smollm2-135m-instruct")
    model, tokenizer, _ = language_models.load(backbone, torch.float32, "cpu")
    losses = []
    for ids in prompt_ids(tokenizer, texts):
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, :-1]
        losses.append(cross_entropy(logits, torch.tensor(ids[1:]), reduction="none"))
    return float(torch.cat(losses).double().mean())


def test_a_run_measures_it_and_frozen_is_the_backbone(root: Path) -> None:
    frozen, ours = done(root, "frozen"), done(root, "zero-init")
    assert frozen.result["language_loss"] == pytest.approx(by_hand(PARAGRAPHS), rel=1e-6)
    assert ours.result["language_loss"] != pytest.approx(by_hand(PARAGRAPHS), rel=1e-4)
    assert ours.environment["language"] == "64 paragraphs of SQuAD dev-v1.1"
    kept = [p for p in ours.predictions() if p["set"] == "language"]
    assert {p["id"] for p in kept} == {digest(text) for text in PARAGRAPHS}
    assert "language_loss" in verify.check_metrics(ours.path)
    assert EXPERIMENT.rescore is not None
    assert EXPERIMENT.rescore(ours.path)["language_loss"] == ours.result["language_loss"]


def test_a_trial_of_a_rate_does_not_measure_it(root: Path) -> None:
    trial = done(root, "zero-init", phase="select")
    assert trial.result["language_loss"] is None


def test_without_the_official_file_nothing_is_measured(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ZIA_DATA", str(tmp_path))
    assert language_loss.held_out_texts("small") == language_loss.HeldOut(
        {}, "not measured: $ZIA_DATA has no squad/dev-v1.1.json"
    )
    write_squad(tmp_path, [*PARAGRAPHS, "The end."])
    other = language_loss.held_out_texts("paper")
    assert not other.texts
    assert other.about.endswith("is not the official file")
    (tmp_path / language_loss.FILE).write_text("{")
    assert language_loss.held_out_texts("small").about.endswith("is damaged")
    write_squad(root / "data", [*PARAGRAPHS, "The end."])
    monkeypatch.setenv("ZIA_DATA", str(root / "data"))
    unmeasured = done(root, "zero-init", epochs=0.5)
    write_squad(root / "data", PARAGRAPHS)
    assert unmeasured.result["language_loss"] is None
    assert unmeasured.environment["language"].endswith("is not the official file")
    assert "language_loss" not in verify.check_metrics(unmeasured.path)


def test_a_run_without_the_field_is_still_one(root: Path) -> None:
    run = done(root, "frozen")
    older = {name: value for name, value in run.result.items() if name != "language_loss"}
    stored.check_result(older, EXPERIMENT.result_fields, run.path)


def test_articles_of_mini_are_of_no_stage_s_library() -> None:
    texts = language_loss.held_out_texts("mini").texts
    assert len(texts) == len(set(texts.values())) == 64
    assert texts == language_loss.held_out_texts("mini").texts
    read = {
        Library(seed, shares).document(i)
        for seed, shares in ((0, LANGUAGE_MODEL), (2000, LESSONS))
        for i in range(3000)
    }
    assert not read & set(texts.values())
    # Articles alone: no question, no option, and the creature of the title in every sentence.
    for text in texts.values():
        title, *sentences = text.rstrip(".").split(". ")
        name = title.split()[-1]
        assert len(sentences) >= 4
        assert all(name in sentence for sentence in sentences)


def test_long_texts_are_cut_and_batches_do_not_matter(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = language_models.get("smollm2-135m-instruct")
    model, tokenizer, _ = language_models.load(backbone, torch.float32, "cpu")
    texts = {"short": "A cat.", "longer": "Two cats.", "long": "An owl and a dog. " * 9}
    together, alone = (language_loss.language_losses(model, tokenizer, texts, n) for n in (4096, 1))
    assert [p["id"] for p in together] == ["short", "longer", "long"]
    assert [p["labels"] for p in together] == [
        len(ids) - 1 for ids in prompt_ids(tokenizer, list(texts.values()))
    ]
    for one, other in zip(together, alone, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
    monkeypatch.setattr(language_loss, "MAX_TOKENS", 20)
    cut = language_loss.language_losses(model, tokenizer, texts, 4096)
    assert [p["labels"] for p in cut][2] == 19
