"""Whole runs of the experiment on a tiny LLaMA, through the same code as the real one."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from experiments.alpaca_llama import language_loss, plan
from experiments.alpaca_llama.experiment import EXPERIMENT
from experiments.backbones import language_models
from experiments.dispatch.in_process import run_one
from experiments.harness import seal, stored, verify
from experiments.report.document import markdown
from experiments.report.runs import read_runs
from experiments.report.tables.write import document
from experiments.training.method_training import TrainedModel
from tests.alpaca_llama import world
from tests.language.passes import noted
from zia_core import ZiaError, load_adapter, zero_init_layers
from zia_core.engine import Interrupted


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        world.prepare(folder, patch)
        yield folder


def done(root: Path, method: str, **changes: object) -> stored.StoredRun:
    spec = world.spec(method, **changes)
    outcome = run_one(spec, root / "runs")
    assert outcome.state == "done", outcome.reason
    return stored.load(root / "runs" / spec.experiment / spec.folder_name)


@pytest.mark.parametrize("method", plan.METHODS)
def test_every_method(root: Path, method: str) -> None:
    run = done(root, method)
    result = run.result
    layers, width, heads = 2, 32, 4
    expected = {
        "zero-init": layers * (3 * width + heads),
        "random-init": layers * 3 * width,
        "random-init-gate": layers * (3 * width + heads),
        "adaption-prompt": layers * (3 * width + 1),
        # rank 8 on q (32 x 32) and v (32 x 16) of all three layers
        "lora": 3 * 8 * (32 + 32 + 32 + 16),
        "full": sum(p.numel() for p in _bare().parameters()),
        "frozen": 0,
    }
    assert result["tuned_parameters"] == expected[method]
    assert 0 <= result["adapter_bytes"] - 4 * expected[method] < 6000
    if method == "frozen":
        assert result["val_loss"] == result["val_loss_start"]
    else:
        assert result["val_loss"] != result["val_loss_start"]
        assert result["steps"] == len(run.timing()) > 0
    starts_at_backbone = method not in ("random-init", "random-init-gate")
    frozen = done(root, "frozen").result["val_loss"]
    assert (result["val_loss_start"] == pytest.approx(frozen, rel=1e-6)) == starts_at_backbone
    findings = verify.verify(run.path)
    assert {f.outcome for f in findings} == {"ok"}, findings
    assert {p["set"] for p in run.predictions()} == {"validation", "nine", "alpaca"}
    gated = method in ("zero-init", "random-init-gate")
    assert (run.path / "prompt_share.json").exists() == gated
    assert all(("gates" in record) == gated for record in run.metrics() if "eval" in record)


def _bare() -> torch.nn.Module:
    backbone = language_models.get("smollm2-135m-instruct")
    return language_models.load(backbone, torch.float32, "cpu")[0]


def test_loss_sequence(root: Path) -> None:
    """If these numbers move, so do all results: raise `plan.VERSION` and say why."""
    run = done(root, "zero-init")
    losses = [record["loss"] for record in run.metrics() if "loss" in record]
    stored_losses = json.loads(Path(__file__).with_name("loss_sequence.json").read_text())
    assert losses == pytest.approx(stored_losses, rel=1e-5)


def test_second_time_nothing_is_done(root: Path) -> None:
    before = done(root, "zero-init")
    done(root, "zero-init")
    assert len(stored.load(before.path).status["attempts"]) == 1


def test_released_recipe_means_over_micro_batches(root: Path) -> None:
    paper = done(root, "zero-init")
    released = done(
        root,
        "zero-init",
        loss_reduction="micro_batch_mean",
        token_budget=None,
        micro_batch_size=2,
    )
    ours, theirs = (r.metrics()[1]["grad_norm"] for r in (paper, released))
    assert ours != pytest.approx(theirs, rel=1e-3)  # labels a record differ, so the means do
    assert paper.metrics()[1]["loss"] == pytest.approx(released.metrics()[1]["loss"], rel=1e-5)


def test_adapter_of_a_run_loads_in_three_lines(root: Path) -> None:
    run = done(root, "zero-init")
    model = load_adapter(_bare(), run.path)
    tensors = load_file(run.path / stored.ADAPTER)
    assert torch.equal(
        zero_init_layers(model)[0].gate, tensors["model.layers.1.self_attn.zero_init.gate"]
    )
    assert zero_init_layers(model)[0].gate.abs().min() > 0


@pytest.mark.parametrize("method", ["zero-init", "lora"])
def test_generate_with_and_without_adapter(root: Path, method: str) -> None:
    run = done(root, method, peak_lr=1.0)  # far enough from the backbone to answer differently
    assert EXPERIMENT.generate is not None
    answers = list(EXPERIMENT.generate(run.path, [], "cpu"))
    assert len(answers) == 9
    kept = [
        p["output"] for p in run.predictions() if p["set"] == "nine" and p["decoding"] == "greedy"
    ]
    assert [answer.adapted for answer in answers] == kept
    assert [answer.backbone for answer in answers] != kept


def test_only_a_run_with_an_adapter_is_tried_out(root: Path) -> None:
    assert EXPERIMENT.generate is not None
    frozen, bare = done(root, "frozen"), root / "bare"
    with pytest.raises(ZiaError, match=r"frozen-.* trained nothing: take one of another method"):
        list(EXPERIMENT.generate(frozen.path, [], "cpu"))
    shutil.copytree(done(root, "zero-init").path, bare)
    (bare / stored.ADAPTER).unlink()
    with pytest.raises(ZiaError, match=r"adapter\.safetensors is missing, but listed in files"):
        list(EXPERIMENT.generate(bare, [], "cpu"))
    seal.write(bare)
    with pytest.raises(ZiaError, match=r"bare has no adapter\.safetensors, which published runs"):
        list(EXPERIMENT.generate(bare, [], "cpu"))
    status = json.loads((bare / stored.STATUS).read_text()) | {"state": "preempted"}
    (bare / stored.STATUS).write_text(json.dumps(status))
    with pytest.raises(ZiaError, match=r"bare is preempted, not done: finish it first"):
        list(EXPERIMENT.generate(bare, [], "cpu"))


def test_another_backbone_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = done(root, "zero-init")
    world.write_weights(root / "other" / "smollm2-135m-instruct", seed=1)
    monkeypatch.setenv("ZIA_WEIGHTS", str(root / "other"))
    assert EXPERIMENT.generate is not None
    with pytest.raises(ZiaError, match=r"trained on LlamaForCausalLM.*different: fingerprint"):
        list(EXPERIMENT.generate(run.path, ["Hello"], "cpu"))


def test_the_table(root: Path) -> None:
    for method in ("zero-init", "lora", "frozen"):
        done(root, method)
    table = markdown(document("efficiency", read_runs([root / "runs"])))
    line = next(line for line in table.splitlines() if line.startswith("| zero-init"))
    assert "1.2M" in line
    assert "200" in line  # 2 layers of 3 prompts of width 32 and 4 gates


def test_a_nan_loss_fails_the_run_with_its_records(root: Path) -> None:
    spec = world.spec("zero-init", peak_lr=1e30, warmup_epochs=0.0)
    outcome = run_one(spec, root / "runs")
    assert outcome.state == "failed"
    assert re.search(r"nan at step \d, records \d+, ", outcome.reason)
    folder = root / "runs" / spec.experiment / spec.folder_name
    assert not (folder / stored.RESULT).exists()


def test_missing_and_damaged_weights(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = root / "none"
    monkeypatch.setenv("ZIA_WEIGHTS", str(bare))
    with pytest.raises(ZiaError, match=r"no weights of llama-7b: .*hub.*cannot be reached"):
        language_models.load(language_models.get("llama-7b"), torch.float32, "cpu")
    with pytest.raises(ZiaError, match=r"holds 0 GGUF files.*run `make smollm2`"):
        language_models.load(
            language_models.get("smollm2-135m-instruct-q4_1"), torch.float32, "cpu"
        )
    folder = bare / "smollm2-135m-instruct"
    shutil.copytree(root / "weights" / "smollm2-135m-instruct", folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ZiaError, match=r"weights of smollm2-135m-instruct in .* cannot be loaded"):
        _bare()
    weights.unlink()
    with pytest.raises(ZiaError, match=r"has no \*\.safetensors"):
        _bare()
    (folder / "config.json").unlink()
    (folder / "a.gguf").write_bytes(b"GGUF but not really")
    assert language_models.smollm2() == "smollm2-135m-instruct-q4_1"
    with pytest.raises(ZiaError, match="cannot be loaded"):
        language_models.load(
            language_models.get("smollm2-135m-instruct-q4_1"), torch.float32, "cpu"
        )


def test_plans() -> None:
    paper = plan.plan("paper", "cuda")
    zero_init = next(spec for spec in paper if spec.method == "zero-init")
    assert zero_init.settings.peak_lr == pytest.approx(9e-3 * 64 / 256)
    released = next(spec for spec in paper if spec.task == plan.TASK_RELEASED)
    assert released.settings.peak_lr == pytest.approx(1.125e-3)
    assert released.settings.batch_size == 32
    assert {spec.method for spec in paper} == set(plan.METHODS)
    for profile in plan.PROFILES:
        for device in ("cpu", "cuda"):
            specs = plan.plan(profile, device)
            assert len({spec.identity for spec in specs}) == len(specs)


def test_every_pass_is_in_the_precision_of_the_training(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers and the losses that are reported, too, and those measured again by a resumed run."""
    held_out = language_loss.HeldOut({"1": "A text that is no instruction."}, "one text")
    monkeypatch.setattr(language_loss, "held_out_texts", lambda profile: held_out)
    spec = world.spec("zero-init", precision="bf16-autocast")

    def stop(model: TrainedModel) -> None:
        raise Interrupted("asked to", model.summary.steps)

    with noted() as passes:
        with monkeypatch.context() as patch:  # after the training, before the first answer
            patch.setattr(TrainedModel, "stop_if_requested", stop)
            assert run_one(spec, tmp_path).state == "preempted"
        assert run_one(spec, tmp_path).state == "done"
    resumed = stored.load(tmp_path / spec.experiment / spec.folder_name)
    assert resumed.result["language_loss"] is not None
    assert resumed.metrics()[-1]["eval"]["val_loss"] == resumed.result["val_loss"]
    assert passes
    assert all(passes)
