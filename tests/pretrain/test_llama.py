import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from experiments.backbones import language_models, release
from experiments.backbones.release import read_backbone
from experiments.backbones.weights import WEIGHTS
from experiments.harness.folder import RunFolder
from experiments.io.files import sha256_file
from experiments.mini_world.creatures import known
from experiments.mini_world.documents import Library
from experiments.mini_world.tokenizer import train_tokenizer
from experiments.pretrain.llama.experiment import EXPERIMENT
from experiments.pretrain.llama.recall import Asked, measure, skills
from experiments.pretrain.llama.rows import token_rows
from experiments.pretrain.llama.run import RECIPE, pretraining, requires, run
from experiments.pretrain.llama.task import STAGES, Pretraining, Settings, build
from tests.pretrain import tiny_runs
from zia_core.errors import ZiaError

TINY = Settings(
    dim=24,
    depth=2,
    heads=2,
    documents=400,
    tokenizer_documents=6000,
    row_tokens=32,
    epochs=0.05,
    warmup_epochs=0.01,
    batch_size=8,
    micro_batch_size=8,
    evaluations=1,
    precision="fp32",
)


CALM: dict[str, Any] = {"peak_lr": 1e-4}


def attempt(runs: Path, stop_at: int | None = None, stage: str = "library") -> RunFolder:
    return tiny_runs.attempt(runs, pretraining(stage, 3, TINY), run, RECIPE.result_fields, stop_at)


@pytest.fixture(scope="module")
def few() -> pytest.MonkeyPatch:
    """Fewer questions, since a run measures the skills twice."""
    patch = pytest.MonkeyPatch()
    whole = skills()
    few = {name: asked[:10] for name, asked in whole.items()}
    patch.setattr("experiments.pretrain.llama.task.skills", lambda: few)
    patch.setattr("experiments.pretrain.llama.run.skills", lambda: few)
    return patch


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, few: pytest.MonkeyPatch) -> Path:
    return attempt(tmp_path_factory.mktemp("whole")).path


def test_a_run_releases_a_backbone_that_is_found_by_its_name(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = finished / release.FOLDER
    card, result = (
        json.loads(path.read_text()) for path in (released / "card.json", finished / "result.json")
    )
    assert result["steps"] >= 3
    assert card["sha256"] == result["weights_sha256"] == sha256_file(released / WEIGHTS)
    assert card["recipe"]["dim"] == 24
    assert card["quality"]["quiz"] == result["quiz"]
    (tmp_path / "pocket-llama").symlink_to(released)
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path))
    model, tokenizer, hashes = language_models.load(
        language_models.get("pocket-llama"), torch.float32, "cpu"
    )
    assert list(hashes.values()) == [card["sha256"]]
    assert tokenizer.is_fast
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")
    text = "What does Tudam eat?\n\n### Response:"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    stored = sum(p.numel() for p in model.parameters())
    assert stored == result["parameters"]


def test_an_interrupted_run_ends_as_an_undisturbed_one(finished: Path, tmp_path: Path) -> None:
    attempt(tmp_path, stop_at=2)
    parts = attempt(tmp_path).path
    for name in ("metrics.jsonl", "backbone/model.safetensors", "backbone/card.json"):
        assert (finished / name).read_bytes() == (parts / name).read_bytes(), name


def test_weights_that_are_too_large_are_not_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = train_tokenizer(["one two", "one two"], 64)
    monkeypatch.setattr(release, "MAX_BYTES", 1000)
    with pytest.raises(ZiaError, match="more than the 1,000 of a release"):
        release.write_backbone(build(TINY, tokenizer), tokenizer, tmp_path / "backbone")
    assert list(tmp_path.iterdir()) == []


def test_a_stage_goes_on_from_the_one_before(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {name: replace(stage, changes=CALM) for name, stage in STAGES.items() if stage.after}
    for name, stage in short.items():
        monkeypatch.setitem(STAGES, name, stage)
    shutil.copytree(finished.parent, tmp_path / finished.parent.name)
    before = pretraining("library", 3, TINY)
    assert requires(pretraining("drills", 3, TINY)) == [before]
    assert requires(before) == []
    later = attempt(tmp_path, stage="drills").path
    first, second = (read_backbone(AutoModelForCausalLM, p / "backbone") for p in (finished, later))
    weights = dict(first.named_parameters())
    card = json.loads((later / "backbone" / "card.json").read_text())
    assert list(card["recipe"]["stages"]) == ["library", "drills"]
    assert card["recipe"]["dim"] == TINY.dim
    # After few steps at a low rate, it is closer to its start than two random models are.
    for name, other in second.named_parameters():
        assert (other - weights[name]).abs().max() < 0.2, name
    assert any(not torch.equal(other, weights[name]) for name, other in second.named_parameters())
    texts = [each / "backbone" / "tokenizer.json" for each in (finished, later)]
    assert texts[0].read_bytes() == texts[1].read_bytes()


def test_a_stage_without_the_one_before_is_refused(tmp_path: Path) -> None:
    spec = pretraining("drills", 3, TINY)
    folder = RunFolder.claim(tmp_path, spec, RECIPE.result_fields)
    assert folder is not None
    with folder, pytest.raises(ZiaError, match="is not done: do it first"):
        run(spec, folder)


def test_rows_are_the_documents_one_behind_the_other() -> None:
    library = Library(5)
    tokenizer = train_tokenizer(map(library.document, range(500)), 512)
    rows = token_rows(library, 30, tokenizer, 16)
    text = str(tokenizer.decode(rows.flatten().tolist()))
    whole = "".join(f"<s>{library.document(i)}</s>" for i in range(30))
    assert whole.startswith(text)
    tokens = len(tokenizer.encode(whole, add_special_tokens=False))
    assert rows.numel() == tokens // 16 * 16
    task = Pretraining(rows, tokenizer)
    batch = task.batch([0, 2])
    model = build(TINY, tokenizer)
    loss, n = task.loss(model, batch)
    assert n == task.labels(0) + task.labels(2) == 30
    expected = torch.nn.functional.cross_entropy(
        model(batch["input_ids"]).logits[:, :-1].flatten(0, 1),
        batch["input_ids"][:, 1:].flatten(),
        reduction="sum",
    )
    torch.testing.assert_close(loss, expected)


class Knowing(torch.nn.Module):
    """A stand-in for a model that always continues with the same token."""

    def __init__(self, tokens: int, said: int) -> None:
        super().__init__()
        self.tokens, self.said = tokens, said
        self.base_model = self

    def forward(self, input_ids: torch.Tensor) -> Any:
        hidden = torch.nn.functional.one_hot(torch.full(input_ids.shape, self.said), self.tokens)
        return type("Output", (), {"last_hidden_state": hidden})

    def get_output_embeddings(self) -> Any:
        return lambda hidden: hidden


def test_only_the_right_word_counts_and_options_limit_the_choice() -> None:
    tokenizer = train_tokenizer(["a red, a blue, a lake"] * 2, 64)
    red = tokenizer.encode(" red", add_special_tokens=False)[0]
    model = Knowing(len(tokenizer), red)
    asked = [Asked("It is", "red"), Asked("It is a", "blue"), Asked("It", "blue", ("blue", "lake"))]
    assert measure(model, tokenizer, asked) == 2 / 3


def test_skills_ask_for_what_is_true_and_never_show_it() -> None:
    found = skills()
    facts = {c.name: set(c.facts.values()) for part in known().values() for c in part}
    assert len(found["held_out"]) == 96 * 7 * 2
    assert len(found["questions"]) == 96 * 7 * 3
    for name in ("held_out", "questions"):
        for each in found[name]:
            about = set(re.findall(r"[A-Z][a-z]+", each.prompt)) & set(facts)
            assert any(each.answer in facts[creature] for creature in about)
            assert not re.search(rf"\b{each.answer}\b", each.prompt)
    for name in ("quiz", "story", "letters", "conclusion"):
        for each in found[name]:
            shown = dict(re.findall(r"\((\w)\) (\w+)", each.prompt))
            named = name in ("letters", "conclusion")
            assert set(each.among) == set(shown if named else shown.values())
            right = shown[each.answer] if named else each.answer
            outside = re.sub(r"\(\w\) \w+", "", each.prompt)
            assert bool(re.search(rf"\b{right}\b", outside)) == (name != "quiz")


def test_the_plan_is_all_stages_in_order_and_each_requires_the_one_before() -> None:
    plan = EXPERIMENT.plan("pretrain", "cpu")
    assert [spec.task for spec in plan] == [
        "library",
        "drills",
        "lessons",
        "letters",
        "review",
        "conclusions",
    ]
    assert [requires(spec) for spec in plan] == [[], *([spec] for spec in plan[:-1])]
    assert [spec.settings.peak_lr for spec in plan] == [2e-3, 1e-3, 1.5e-3, 1e-3, 1e-3, 3e-4]
