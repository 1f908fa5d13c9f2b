"""Whole runs of the experiment in a tiny world, through the same code as the real ones."""

import gzip
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from experiments.backbones.vision_models import CLIP
from experiments.coco_caption import plan as captions
from experiments.dispatch.in_process import run_one
from experiments.harness import stored, verify
from experiments.io.files import sha256_file
from experiments.language.methods import METHODS, prepare, projection_parameters, sees_images
from experiments.metrics.scienceqa.files import score_files
from experiments.scienceqa import plan
from experiments.scienceqa.estimate import estimate
from experiments.scienceqa.experiment import EXPERIMENT
from experiments.scienceqa.run import last_epoch
from experiments.scienceqa.settings import Settings
from tests.language.passes import noted
from tests.scienceqa import world
from zia_core import ZiaError
from zia_core.engine import Interrupted


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        world.prepare(folder, patch)
        yield folder


def done(root: Path, method: str, **changes: Any) -> stored.StoredRun:
    spec = world.spec(method, **changes)
    outcome = run_one(spec, root / "runs")
    assert outcome.state == "done", outcome.reason
    return stored.load(root / "runs" / spec.experiment / spec.folder_name)


PROJECTION = 16 * 4 + 4 + 4 * 32 + 32  # two depths of width 8, bottleneck 4, to 32 channels
PROMPTS, GATES, LORA = 2 * 3 * 32, 2 * 4, 3 * 8 * (32 + 32 + 32 + 16)


@pytest.mark.parametrize("method", METHODS)
def test_every_method(root: Path, method: str) -> None:
    run = done(root, method)
    result = run.result
    expected = {
        "zero-init": PROMPTS + GATES + PROJECTION,
        "zero-init-text": PROMPTS + GATES,
        "random-init": PROMPTS + PROJECTION,
        "random-init-text": PROMPTS,
        "lora": LORA + PROJECTION,
        "lora-text": LORA,
        "frozen": 0,
    }
    if method != "zero-init-queries":
        assert result["tuned_parameters"] == expected[method]
        sees = method in ("zero-init", "random-init", "lora")
        assert result["projection_parameters"] == (PROJECTION if sees else 0)
    else:
        assert result["projection_parameters"] == result["tuned_parameters"] - PROMPTS - GATES > 0
    assert result["questions"] == 9
    assert result["image_questions"] == 6
    assert (run.path / "prompt_share.json").exists() == method.startswith("zero-init")
    assert (result["val_loss"] == result["val_loss_start"]) == (method == "frozen")
    frozen = done(root, "frozen").result["val_loss"]
    starts_at_backbone = method.startswith(("zero-init", "frozen", "lora-text"))
    assert (result["val_loss_start"] == pytest.approx(frozen, rel=1e-6)) == starts_at_backbone
    findings = verify.verify(run.path)
    assert {f.outcome for f in findings} == {"ok"}, findings
    environment = json.loads((run.path / "environment.json").read_text())
    assert ("images" in environment["data"]) == (result["projection_parameters"] > 0)
    files = {"model.safetensors": root / "weights" / "smollm2-135m-instruct" / "model.safetensors"}
    if result["projection_parameters"]:
        files["encoder/model.safetensors"] = root / "weights" / "small-vit" / "model.safetensors"
    assert environment["weights"] == {name: sha256_file(path) for name, path in files.items()}


def test_training_moves_the_projection(root: Path) -> None:
    moved, still = (
        load_file(done(root, "zero-init", **changes).path / stored.ADAPTER)
        for changes in ({}, {"peak_lr": 1e-12})
    )
    for name in moved:
        assert not torch.equal(moved[name], still[name]), name


def test_the_projection_can_have_a_rate_of_its_own(root: Path) -> None:
    usual, same, still, untrained = (
        load_file(done(root, "zero-init", **changes).path / stored.ADAPTER)
        for changes in (
            {},
            {"projection_lr": 0.01},  # which is that of everything
            {"projection_lr": 0.0},
            {"epochs": 0.0, "warmup_epochs": 0.0},
        )
    )
    for name, value in still.items():
        assert torch.equal(value, untrained[name]) == ("visual_projection" in name), name
        assert torch.equal(same[name], usual[name]), name


def test_a_rate_is_chosen_by_validation_and_no_trial_sees_the_test(root: Path) -> None:
    rates = (1e-3, 0.03)
    spec = world.spec("zero-init", peak_lr=None, candidates=rates, selection_seed=7)
    trials = plan.requires(spec)
    assert [trial.settings.peak_lr for trial in trials] == list(rates)
    for each in (*trials, spec):
        outcome = run_one(each, root / "runs")
        assert outcome.state == "done", outcome.reason
    tried = [stored.load(root / "runs" / each.experiment / each.folder_name) for each in trials]
    losses = [trial.result["val_loss"] for trial in tried]
    result = stored.load(root / "runs" / spec.experiment / spec.folder_name).result
    assert result["peak_lr"] == rates[losses.index(min(losses))]
    assert [each["val_loss"] for each in result["tried"]] == losses
    for trial in tried:
        assert {prediction["set"] for prediction in trial.predictions()} == {"val-loss", "val"}
        assert not (trial.path / stored.ADAPTER).exists()


def test_text_only_questions_do_not_notice_the_projection(root: Path) -> None:
    """At the first evaluation (gates open in random-init) only image questions differ."""
    text = done(root, "random-init-text", epochs=0.0, warmup_epochs=0.0)
    both = done(root, "random-init", epochs=0.0, warmup_epochs=0.0)
    problems = json.loads((root / "data" / "scienceqa" / "problems.json").read_text())
    losses = [
        {p["id"]: p["loss"] for p in run.predictions() if p["set"] == "val-loss"}
        for run in (text, both)
    ]
    for pid, loss in losses[0].items():
        same = losses[1][pid] == pytest.approx(loss, rel=1e-6)
        assert same == (problems[pid]["image"] is None), pid


def test_predictions_score_with_the_official_tool(root: Path, tmp_path: Path) -> None:
    run = done(root, "zero-init")
    answers = {p["id"]: p["output"] for p in run.predictions() if p["set"] == "test"}
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"outputs": answers}))
    found, remarks = score_files(path, root / "data" / "scienceqa" / "problems.json")
    assert remarks == []
    for key in ("acc_natural", "acc_has_image", "acc_grade_1_6", "acc_average"):
        assert found[key] == pytest.approx(run.result[key], abs=0.005)
    assert found["unparsable"] == run.result["unparsable"]


def test_loss_of_the_last_epoch(root: Path) -> None:
    run = done(root, "zero-init")
    losses = [record["loss"] for record in run.metrics() if "loss" in record]
    assert len(losses) == 6
    assert run.result["train_loss_epoch"] == pytest.approx(sum(losses[3:]) / 3)
    evaluations = [record for record in run.metrics() if "eval" in record]
    assert [record["step"] for record in evaluations] == [0, 3, 6]
    assert last_epoch([{"loss": 1.0, "epoch": 0.5, "step": 1}]) == 1.0
    assert last_epoch([]) is None


def test_validation_instead_of_test(root: Path) -> None:
    run = done(root, "zero-init-text", evaluated_on="val")
    assert run.result["questions"] == 6
    assert {p["set"] for p in run.predictions()} == {"val", "val-loss"}
    assert verify.verify(run.path)[-1].outcome == "ok"


@pytest.mark.parametrize("which", ["test", "val-loss"])
@pytest.mark.parametrize("damage", ["missing", "extra", "twice", "other"])
def test_predictions_of_other_records_fail_the_check(
    root: Path, tmp_path: Path, which: str, damage: str
) -> None:
    run = done(root, "zero-init-text")
    copy = tmp_path / run.path.parent.name / run.path.name
    shutil.copytree(run.path, copy)
    records = run.predictions()
    place = next(i for i, record in enumerate(records) if record["set"] == which)
    if damage == "missing":
        del records[place]
    elif damage == "other":
        records[place]["id"] = "other"
    else:
        records.append(records[place] | ({"id": "other"} if damage == "extra" else {}))
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (copy / stored.PREDICTIONS).write_bytes(gzip.compress(lines.encode()))
    (found,) = [each for each in verify.verify(copy) if each.check == "metrics"]
    assert found.outcome == "failed"
    assert f"the predictions of the set '{which}' are not one for each of the" in found.detail


def test_other_problems_are_not_those_of_the_run(root: Path) -> None:
    run, path = done(root, "zero-init-text"), root / "data/scienceqa/problems.json"
    content = path.read_text()
    try:
        path.write_text(content.replace("Which colour has picture 3?", "Which?", 1))
        (found,) = [each for each in verify.verify(run.path) if each.check == "metrics"]
    finally:
        path.write_text(content)
    assert found.outcome == "needs data"
    assert "does not hold the problems that the run was made with" in found.detail


@pytest.mark.parametrize("method", ["zero-init", "lora"])
def test_resumed_is_uninterrupted(
    root: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = world.spec(method)
    whole = done(root, method)
    import experiments.scienceqa.run as module

    answered = module._answers

    def stopped(*args: Any) -> Any:
        raise Interrupted("test", 6)

    monkeypatch.setattr(module, "_answers", stopped)
    assert run_one(spec, tmp_path).state != "done"
    monkeypatch.setattr(module, "_answers", answered)
    assert run_one(spec, tmp_path).state == "done"
    again = stored.load(tmp_path / spec.experiment / spec.folder_name)
    assert again.metrics() == whole.metrics()
    assert again.predictions() == whole.predictions()
    assert again.result["adapter_sha256"] == whole.result["adapter_sha256"]


def test_the_adapter_holds_the_projection(root: Path) -> None:
    tensors = load_file(done(root, "zero-init").path / stored.ADAPTER)
    assert tensors["visual_projection.down.weight"].shape == (4, 16)
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [("missing", "does not exist"), ("text", "cannot be read as an image")],
)
def test_a_broken_image_is_named(
    root: Path, damage: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = root / "data" / "scienceqa" / "images" / "test" / "32" / "image.png"
    content = path.read_bytes()
    try:
        path.unlink() if damage == "missing" else path.write_text("not a picture")
        outcome = run_one(world.spec("zero-init", prompt_length=4), root / "broken")
        assert outcome.state == "failed"
        assert "images/test/32/image.png" in outcome.reason
        assert sentence in outcome.reason
        fine = run_one(world.spec("zero-init-text", epochs=0.0, warmup_epochs=0.0), root / "broken")
        assert fine.state == "done"  # it does not look
    finally:
        path.write_bytes(content)


def test_a_question_about_an_image(root: Path) -> None:
    run, image = done(root, "zero-init"), root / "data/scienceqa/images/test/32/image.png"
    assert EXPERIMENT.generate_image is not None
    asked = ["Which colour is it?|red|green"]
    (answer,) = EXPERIMENT.generate_image(run.path, image, asked, "cpu")
    assert "Options: (A) red (B) green\nAnswer:" in answer.prompt
    with pytest.raises(ZiaError, match="nothing is asked"):
        EXPERIMENT.generate_image(run.path, image, [], "cpu")


def test_plans() -> None:
    paper = plan.plan("paper", "cuda")
    assert {spec.task for spec in paper} == set(plan.TASKS) - {plan.OWN}
    ablations = [s for s in paper if s.task == plan.ABLATION]
    assert [(s.method, s.settings.num_layers, s.settings.epochs) for s in ablations] == [
        ("zero-init", 10, 30.0),
        ("zero-init", 20, 30.0),
        ("zero-init", 30, 30.0),
        ("zero-init", 32, 30.0),
        ("random-init", 30, 30.0),
        ("zero-init", 30, 15.0),
        ("zero-init", 30, 60.0),
    ]
    assert {(s.settings.evaluated_on, s.seed) for s in ablations} == {("val", 0)}
    main = next(s for s in paper if s.task == plan.TASK)
    assert main.settings.peak_lr == pytest.approx(9e-3 * 64 / 256)
    for device in ("cpu", "cuda"):
        small = plan.plan("small", device)
        pair = [s.seed for s in small if s.task == plan.OWN and s.method == "zero-init"]
        assert pair == [0, 1, 2, 3, 4]
        assert pair == [
            s.seed for s in small if s.task == plan.OWN and s.method == "zero-init-text"
        ]
        assert {s.settings.encoder for s in small if sees_images(s.method)} == {CLIP.name}
        # Images for training are in the own split alone.
        others = {s.method for s in small if s.task != plan.OWN}
        assert others <= {"zero-init-text", "random-init-text", "lora-text", "frozen"}
    for profile in plan.PROFILES:
        for device in ("cpu", "cuda"):
            specs = plan.plan(profile, device)
            assert len({spec.identity for spec in specs}) == len(specs)


@pytest.mark.parametrize("planned", [plan.plan, captions.plan])
def test_the_paper_s_number_of_parameters(planned: Any) -> None:
    """LLaMA-7B, which is the default configuration, and features of CLIP ViT-L/14."""
    spec = next(s for s in planned("paper", "cuda") if s.method == "zero-init")
    assert spec.settings.encoder == "clip-vit-l-14"
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig())
    model = prepare(model, spec.method, spec.settings, 1024)
    assert projection_parameters(model) == 557_110
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 1_786_870


def test_runs_that_see_no_image_stay_those_that_are_published() -> None:
    """Their settings name the encoder of then, which they do not read."""
    specs = [s for s in plan.plan("small", "cpu") if s.task == plan.OWN]
    text = next(s for s in specs if s.method == "zero-init-text")
    assert text.settings.encoder == "small-vit"
    assert replace(text, backbone="smollm2-135m-instruct-q4_1").identity == "000a57dc4deed8fe"


def test_identities_do_not_move() -> None:
    """A new setting must keep them: its default is the old behaviour."""
    spec = next(s for s in plan.plan("paper", "cuda") if s.method == "zero-init")
    assert spec.settings == Settings(token_budget=2048, bottleneck=54)
    assert spec.identity == "36d98fc9183439bd"


def test_the_scores_are_percentages(root: Path) -> None:
    result = done(root, "frozen").result
    assert result["likelihood_accuracy"] == pytest.approx(
        100 * round(result["likelihood_accuracy"] * 9 / 100) / 9
    )
    assert result["correct"] == round(result["acc_average"] * 9 / 100)
    assert math.isfinite(result["acc_average"])


def test_estimates_are_of_what_was_measured() -> None:
    small = plan.plan("small", "cpu")
    hours = {spec.identity: estimate(spec).hours for spec in small}
    assert all(hours.values())
    ablations = {s.settings.epochs: hours[s.identity] for s in small if s.task == plan.ABLATION}
    assert ablations[1.5] < ablations[3.0] < ablations[6.0]
    own = [hours[s.identity] for s in small if s.task == plan.OWN and s.method == "zero-init"]
    assert own[0] == pytest.approx((75 + 3 * 105) / 3600)
    assert all(estimate(spec).hours for spec in plan.plan("paper", "cuda"))


def test_every_pass_is_in_the_precision_of_the_training(root: Path) -> None:
    """Answers and the losses that are reported, too."""
    with noted() as passes:
        done(root, "zero-init", precision="bf16-autocast")
    assert passes
    assert all(passes)
