"""Whole runs of the experiment on a tiny BERT and RoBERTa, through the same code as real ones."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.backbones import language_models
from experiments.backbones.text_encoders import load_for_question_answering
from experiments.dispatch.in_process import run_all, run_one
from experiments.harness import stored, verify
from experiments.harness.experiment import NeedsData
from experiments.harness.spec import RunSpec
from experiments.squad_roberta import methods, plan
from experiments.squad_roberta.evaluate import answered, right_answers
from experiments.squad_roberta.experiment import EXPERIMENT
from experiments.squad_roberta.features import features
from experiments.squad_roberta.subsets import select
from experiments.squad_roberta.windows import WindowSettings
from tests.squad_roberta import tiny
from zia_core.adapters import load_adapter
from zia_core.attachment import zero_init_layers
from zia_core.identity import backbone_identity
from zia_core.rng import derived_seed
from zia_core.trained_weights import load_trained

HEAD = 2 * tiny.WIDTH + 2
GATED = ("zero-init", "random-init-gate")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        tiny.prepare(folder, patch)
        yield folder


def folder_of(root: Path, spec: RunSpec) -> Path:
    return root / "runs" / spec.experiment / spec.folder_name


def done(root: Path, spec: RunSpec) -> stored.StoredRun:
    outcome = run_one(spec, root / "runs")
    assert outcome.state == "done", outcome.reason
    return stored.load(folder_of(root, spec))


def bare(spec: RunSpec) -> Any:
    seed = derived_seed(spec.seed, "head")
    backbone = language_models.get(spec.backbone)
    return load_for_question_answering(backbone, torch.float32, "cpu", seed=seed)


@pytest.mark.parametrize("backbone", [tiny.BERT, tiny.ROBERTA])
@pytest.mark.parametrize("method", EXPERIMENT.methods)
def test_every_method(root: Path, method: str, backbone: str) -> None:
    run = done(root, tiny.spec(method, backbone=backbone))
    result = run.result
    prefix = tiny.LAYERS * 2 * tiny.PROMPTS * tiny.WIDTH
    expected = (
        HEAD
        + {
            "full": sum(
                p.numel() for p in bare(tiny.spec(method, backbone=backbone))[0].parameters()
            )
            - HEAD,
            "prompt-tuning": tiny.PROMPTS * tiny.WIDTH,
            "p-tuning-v2": prefix,
            "lora": tiny.LAYERS * 2 * (8 * tiny.WIDTH + tiny.WIDTH * 8),
            "zero-init": prefix + tiny.LAYERS * tiny.HEADS,
            "random-init-gate": prefix + tiny.LAYERS * tiny.HEADS,
            "head": 0,
        }[method]
    )
    assert result["tuned_parameters"] == expected
    assert result["head_parameters"] == HEAD
    assert (run.path / "prompt_share.json").exists() == (method in GATED)
    assert 0 <= result["adapter_bytes"] - 4 * expected < 8000
    assert result["steps"] == len(run.timing()) == 2 * (40 // 8)
    assert result["val_loss"] != result["val_loss_start"]
    assert result["evaluated_on"] == "dev"
    assert result["questions"] == len(run.predictions()) == 8
    assert result["null_threshold"] is result["has_answer_f1"] is None
    # The same seed draws the same head, so all of these begin with the same function.
    same = done(root, tiny.spec("head", backbone=backbone)).result["val_loss_start"]
    starts_at_backbone = method not in ("prompt-tuning", "p-tuning-v2", "random-init-gate")
    assert (result["val_loss_start"] == pytest.approx(same, rel=1e-6)) == starts_at_backbone
    findings = verify.verify(run.path)
    assert {finding.outcome for finding in findings} == {"ok"}, findings


def test_loss_sequence(root: Path) -> None:
    """If these numbers move, so do all results: raise `plan.VERSION` and say why."""
    run = done(root, tiny.spec("zero-init"))
    losses = [record["loss"] for record in run.metrics() if "loss" in record]
    expected = json.loads(Path(__file__).with_name("loss_sequence.json").read_text())
    assert losses == pytest.approx(expected, rel=1e-5)


def test_an_interrupted_run_ends_bitwise_like_another(root: Path) -> None:
    spec = tiny.spec("zero-init")
    straight = done(root, spec)

    def interrupt(fields: dict[str, Any]) -> None:
        if fields["step"] == 4:
            os.kill(os.getpid(), signal.SIGINT)

    other = root / "interrupted"
    assert run_one(spec, other, interrupt).state == "preempted"
    assert run_one(spec, other).state == "done"
    resumed = stored.load(other / spec.experiment / spec.folder_name)
    assert len(resumed.status["attempts"]) == 2
    for name in (stored.METRICS, stored.PREDICTIONS, stored.ADAPTER):
        assert (resumed.path / name).read_bytes() == (straight.path / name).read_bytes()
    of_machine = ("train_seconds", "peak_memory_bytes")
    assert {k: v for k, v in resumed.result.items() if k not in of_machine} == {
        k: v for k, v in straight.result.items() if k not in of_machine
    }


def test_the_follow_up_is_zero_init_but_for_its_gates(root: Path) -> None:
    specs = [tiny.spec(method) for method in GATED]
    models = [methods.prepare(bare(spec)[0], spec.method, spec.settings) for spec in specs]
    zero, one = map(zero_init_layers, models)
    assert len(zero) == len(one) == tiny.LAYERS
    for ours, other in zip(zero, one, strict=True):
        assert replace(ours.config, gate_init=1.0, gate_activation="identity") == other.config
        assert ours.gate.eq(0).all()
        assert other.gate.eq(1).all()


@pytest.mark.parametrize("method", EXPERIMENT.methods)
def test_an_adapter_on_a_fresh_encoder_gives_the_same_answers(root: Path, method: str) -> None:
    spec = tiny.spec(method)
    run = done(root, spec)
    model, tokenizer, _ = bare(spec)
    questions = select(spec.task, spec.data).dev
    dataset = features(questions, tokenizer, WindowSettings(96, 24, 24))
    if method in GATED:
        load_adapter(model, run.path)
    else:
        identity = backbone_identity(model)
        methods.prepare(model, method, spec.settings)
        load_trained(model, run.path / stored.ADAPTER, identity)
    found = list(answered(model.eval(), questions, dataset, spec.settings))
    assert [
        {"id": each.id, "text": each.best, "null_odds": each.null_odds} for each in found
    ] == run.predictions()


def test_v2_is_scored_by_kind_with_a_threshold_that_ignores_the_dev_answers(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny.spec("zero-init", plan.V2)
    run = done(root, spec)
    result = run.result
    assert result["null_threshold"] is not None
    unanswerable = sum(not question.answers for question in select(plan.V2, "full").dev)
    assert 0 < unanswerable < 8
    for name in ("exact", "f1"):
        kinds = result[f"has_answer_{name}"], result[f"no_answer_{name}"]
        weighted = (8 - unanswerable) * kinds[0] + unanswerable * kinds[1]
        assert result[name] == pytest.approx(weighted / 8)
    assert {finding.outcome for finding in verify.verify(run.path)} == {"ok"}

    # If every answer were right, so would be a threshold that lets them all through.
    said = {p["id"]: p["text"] for p in run.predictions()}
    highest = max(p["null_odds"] for p in run.predictions())
    (tmp_path / "data").mkdir()
    tiny.write_squad(tmp_path / "data", "2.0", said)
    monkeypatch.setenv("ZIA_DATA", str(tmp_path / "data"))
    assert run_one(spec, tmp_path / "runs").state == "done"
    other = stored.load(tmp_path / "runs" / spec.experiment / spec.folder_name)
    assert other.predictions() == run.predictions()
    assert other.result["null_threshold"] == result["null_threshold"] < highest
    assert other.result["no_answer_exact"] is None


def test_scores_need_squad_and_do_not_fit_other_predictions(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny.spec("zero-init")
    run = done(root, spec)
    assert run.result["f1"] < 100.0
    copy = tmp_path / spec.experiment / spec.folder_name
    shutil.copytree(run.path, copy)
    right = right_answers(select(spec.task, spec.data).dev)
    predictions = [p | {"text": right[p["id"]][0]} for p in run.predictions()]
    monkeypatch.setattr(stored.StoredRun, "predictions", lambda self: predictions)
    failed = [finding for finding in verify.verify(copy) if finding.outcome == "failed"]
    assert [finding.check for finding in failed] == ["metrics"]
    monkeypatch.setenv("ZIA_DATA", str(tmp_path))
    assert EXPERIMENT.rescore is not None
    with pytest.raises(NeedsData, match=r"exact and f1: no SQuAD data: .*dev-v1\.1\.json"):
        EXPERIMENT.rescore(copy)


def test_a_rate_that_is_not_given_is_chosen_by_validation_loss(root: Path) -> None:
    spec = tiny.spec(
        "lora", seed=1, peak_lr=None, candidates=(1e-5, 0.02, 3.0), selection_epochs=1.0
    )
    refused = run_one(spec, root / "runs")
    assert refused.state == "failed"
    assert refused.reason.endswith("whose result is needed, is not done: do it first")

    assert run_all([spec], root / "runs", retry_failed=True) == 0
    final = stored.load(folder_of(root, spec))
    tried = [stored.load(folder_of(root, each)) for each in plan.requires(spec)]
    assert [each.result["peak_lr"] for each in tried] == [1e-5, 0.02, 3.0]
    losses = [each.result["val_loss"] for each in tried]
    assert final.result["peak_lr"] == tried[losses.index(min(losses))].result["peak_lr"] == 0.02
    assert final.result["candidates"] == 3
    held_out = {question.id for question in select(spec.task, "full").validation}
    for each in tried:
        assert each.config["seed"] == 0
        assert each.result["steps"] == final.result["steps"] / 2
        assert each.result["evaluated_on"] == "validation"
        assert {p["id"] for p in each.predictions()} == held_out
        assert not (each.path / stored.ADAPTER).exists()
        assert {finding.outcome for finding in verify.verify(each.path)} == {"ok"}


def test_a_run_without_any_rate_says_what_to_set(root: Path) -> None:
    outcome = run_one(tiny.spec("lora", peak_lr=None), root / "runs")
    assert outcome.reason == "no learning rate: set peak_lr, or candidates to choose it from"
