import json
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.backbones import language_models, release, text_encoders
from experiments.backbones.weights import WEIGHTS
from experiments.harness.folder import RunFolder
from experiments.io.files import sha256_file
from experiments.mini_world.tokenizer import SPECIAL, train_tokenizer
from experiments.pretrain.roberta.masks import FACTS, IGNORED, WORDS, corrupted, fact_tokens
from experiments.pretrain.roberta.recall import MASK, Masked, measure, skills
from experiments.pretrain.roberta.run import RECIPE, run
from experiments.pretrain.roberta.task import Pretraining, Settings, build
from experiments.squad_roberta.windows import frame_of
from tests.pretrain import tiny_runs

TINY = Settings(
    dim=24,
    depth=2,
    heads=2,
    documents=60,
    tokenizer_documents=2000,
    epochs=0.5,
    warmup_epochs=0.1,
    batch_size=8,
    evaluations=1,
    precision="fp32",
)


def attempt(runs: Path, stop_at: int | None = None) -> RunFolder:
    return tiny_runs.attempt(runs, RECIPE.spec(3, TINY), run, RECIPE.result_fields, stop_at)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    patch = pytest.MonkeyPatch()
    few = {name: masked[:10] for name, masked in skills().items()}
    patch.setattr("experiments.pretrain.roberta.task.skills", lambda: few)
    patch.setattr("experiments.pretrain.roberta.run.skills", lambda: few)
    return attempt(tmp_path_factory.mktemp("whole")).path


def test_a_run_releases_an_encoder_for_question_answering(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = finished / release.FOLDER
    card, result = (
        json.loads(path.read_text()) for path in (released / "card.json", finished / "result.json")
    )
    assert result["steps"] == 4  # half an epoch of 7 batches of 8
    assert card["sha256"] == result["weights_sha256"] == sha256_file(released / WEIGHTS)
    (tmp_path / "pocket-roberta").symlink_to(released)
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path))
    model, tokenizer, _ = text_encoders.load_for_question_answering(
        language_models.get("pocket-roberta"), torch.float32, "cpu", seed=0
    )
    frame = frame_of(tokenizer)
    assert frame.types == (0, 0)
    assert (len(frame.before), len(frame.between), len(frame.after)) == (1, 2, 1)
    assert model.config.max_position_embeddings == TINY.positions + 2


def test_an_interrupted_run_ends_as_an_undisturbed_one(finished: Path, tmp_path: Path) -> None:
    attempt(tmp_path, stop_at=2)
    parts = attempt(tmp_path).path
    for name in ("metrics.jsonl", "backbone/model.safetensors", "backbone/card.json"):
        assert (finished / name).read_bytes() == (parts / name).read_bytes(), name


def test_masks_have_their_shares_and_spare_special_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    facts = torch.zeros(50, dtype=torch.bool)
    facts[40:] = True
    ids = torch.randint(0, 50, (40_000,), generator=generator)
    inputs, labels = corrupted(ids, facts, 4, 5, generator)
    chosen = labels != IGNORED
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(inputs[~chosen], ids[~chosen])
    assert not chosen[ids < 5].any()
    assert abs(chosen[ids >= 40].float().mean() - FACTS) < 0.02
    assert abs(chosen[(ids >= 5) & (ids < 40)].float().mean() - WORDS) < 0.01
    masked = (inputs[chosen] == 4).float().mean()
    kept = (inputs[chosen] == ids[chosen]).float().mean()
    assert abs(masked - 0.8) < 0.02
    assert abs(kept - 0.1) < 0.02
    assert (inputs[chosen][inputs[chosen] != 4] >= 5).all()


def test_fact_tokens_are_values_and_known_names() -> None:
    tokenizer = train_tokenizer([" Tudam eats berries in the lake now."] * 2, 64)
    found = [tokenizer.decode([i]) for i in fact_tokens(tokenizer).nonzero().flatten().tolist()]
    assert set(found) == {" Tudam", " berries", " lake"}


def test_examples_are_documents_with_their_masks() -> None:
    tokenizer = train_tokenizer(["It is a lake. What is a lake?"] * 2, 64)
    task = Pretraining(tokenizer, TINY, 0)
    assert len(task) == TINY.documents
    order = [3, 11, 7]
    batch = task.batch(order)
    for row, index in enumerate(order):
        assert batch["attention_mask"][row].sum() == task.length(index)
        assert (batch["labels"][row] != IGNORED).sum() == task.labels(index)
        assert batch["input_ids"][row, 0] == tokenizer.bos_token_id
        assert batch["input_ids"][row, task.length(index) - 1] == tokenizer.eos_token_id
    model = build(TINY, tokenizer)
    loss, n = task.loss(model, batch)
    assert n == sum(map(task.labels, order))
    whole = model(batch["input_ids"], batch["attention_mask"], labels=batch["labels"]).loss
    torch.testing.assert_close(loss / n, whole)


class Filling(torch.nn.Module):
    """A stand-in for a model that predicts one token everywhere."""

    def __init__(self, tokens: int, said: int) -> None:
        super().__init__()
        self.tokens, self.said = tokens, said
        self.base_model = self

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> Any:
        hidden = torch.nn.functional.one_hot(torch.full(ids.shape, self.said), self.tokens)
        return type("Output", (), {"last_hidden_state": hidden})

    def lm_head(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden


def test_only_the_right_word_counts() -> None:
    tokenizer = train_tokenizer(["a red, a blue"] * 2, 64)
    red = tokenizer.encode(" red", add_special_tokens=False)[0]
    masked = [Masked("a<mask>, a", "red"), Masked("a red, a<mask>", "blue")]
    assert measure(Filling(len(tokenizer), red), tokenizer, masked) == 0.5


def test_skills_mask_one_word_that_a_story_tells() -> None:
    found = skills()
    assert len(found["held_out"]) == 96 * 7 * 2
    for name, masked in found.items():
        assert all(each.text.count(MASK) == 1 for each in masked)
        assert all((each.answer in each.text) == (name != "held_out") for each in masked), name
    assert SPECIAL["mask"] == MASK
