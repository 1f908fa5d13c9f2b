"""That the pipeline measures: rates are chosen where they may be, and it is adapters that tell."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from experiments.alpaca_llama import plan
from experiments.alpaca_llama.data import load_alpaca
from experiments.alpaca_llama.examples import encode
from experiments.alpaca_llama.subsets import select
from experiments.backbones import language_models
from experiments.dispatch.in_process import run_all, run_one
from experiments.harness import stored, verify
from experiments.harness.spec import RunSpec
from experiments.language.losses import example_losses
from tests.alpaca_llama import world
from zia_core import detach, load_adapter


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("measures")
    with pytest.MonkeyPatch.context() as patch:
        world.prepare(folder, patch)
        yield folder


def folder_of(root: Path, spec: RunSpec) -> Path:
    return root / "runs" / spec.experiment / spec.folder_name


def done(root: Path, method: str, **changes: object) -> stored.StoredRun:
    spec = world.spec(method, **changes)
    outcome = run_one(spec, root / "runs")
    assert outcome.state == "done", outcome.reason
    return stored.load(folder_of(root, spec))


def losses(run: stored.StoredRun) -> list[float]:
    return [p["loss"] for p in run.predictions() if p["set"] == "validation"]


def test_a_rate_is_chosen_on_development_and_reported_on_validation(root: Path) -> None:
    rates = (1e-3, 30.0, 0.03)  # a random backbone learns at absurd rates
    spec = world.spec(
        "zero-init", peak_lr=None, candidates=rates, selection_seed=9, selection_epochs=0.5
    )
    assert run_all([spec], root / "runs") == 0
    final = stored.load(folder_of(root, spec))
    trials = [stored.load(folder_of(root, each)) for each in plan.requires(spec)]
    tried = [trial.result["val_loss"] for trial in trials]
    assert [trial.result["peak_lr"] for trial in trials] == list(rates)
    assert final.result["peak_lr"] == rates[tried.index(min(tried))] == 30.0
    assert final.result["candidates"] == 3
    assert final.result["tried"] == [
        {"peak_lr": rate, "val_loss": loss} for rate, loss in zip(rates, tried, strict=True)
    ]
    splits = select(load_alpaca(), "full")
    parts = [{str(record.id) for record in part} for part in vars(splits).values()]
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
    _, validation, development = parts
    for trial in trials:
        assert {(p["set"], p["id"]) for p in trial.predictions()} == {
            ("validation", identity) for identity in development
        }
        assert trial.result["steps"] == final.result["steps"] / 2
        assert not (trial.path / stored.ADAPTER).exists()
        assert not (trial.path / "prompt_share.json").exists()
        assert {finding.outcome for finding in verify.verify(trial.path)} == {"ok"}
    reported = [p["id"] for p in final.predictions() if p["set"] == "validation"]
    assert sorted(reported) == sorted(validation)  # each of them once


def test_without_its_adapter_a_trained_model_loses_as_the_backbone(root: Path) -> None:
    """And a run that trains for no step is the frozen one, to the last bit."""
    trained, frozen = done(root, "zero-init"), done(root, "frozen")
    assert all(a != b for a, b in zip(losses(trained), losses(frozen), strict=True))
    untouched = done(root, "zero-init", epochs=0.0, warmup_epochs=0.0)
    assert untouched.predictions() == frozen.predictions()

    model, tokenizer, _ = language_models.load(
        language_models.get("smollm2-135m-instruct"), torch.float32, "cpu"
    )
    settings = world.spec("zero-init").settings
    records = select(load_alpaca(), "full").validation
    validation, _ = encode(records, tokenizer, settings.max_length)
    load_adapter(model, trained.path)
    with_adapter = [loss for loss, _ in example_losses(model, validation, settings.eval_tokens)]
    assert with_adapter == losses(trained)
    detach(model)
    without = [loss for loss, _ in example_losses(model, validation, settings.eval_tokens)]
    assert without == losses(frozen)
