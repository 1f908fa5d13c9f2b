"""Whole runs of the experiment in a tiny world, and `zia generate --image`."""

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from typer.testing import CliRunner

from experiments.backbones.vision_models import CLIP
from experiments.cli import main
from experiments.coco_caption import plan
from experiments.coco_caption.captions import asked_examples, training_examples
from experiments.coco_caption.data import load_captions
from experiments.coco_caption.estimate import estimate
from experiments.coco_caption.experiment import EXPERIMENT
from experiments.coco_caption.settings import Settings
from experiments.dispatch.in_process import run_one
from experiments.harness import seal, stored, verify
from experiments.language import image_features
from experiments.language.methods import sees_images
from experiments.metrics.coco.files import score_files
from experiments.training.method_training import TrainedModel
from tests.coco_caption import world
from tests.language.passes import noted
from tests.language.tokenizers_by_hand import byte_level
from zia_core import ZiaError
from zia_core.engine import Interrupted


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        world.prepare(folder, patch)
        yield folder


def done(root: Path, method: str, task: str = "flickr8k", **changes: Any) -> stored.StoredRun:
    spec = world.spec(method, task, **changes)
    outcome = run_one(spec, root / "runs")
    assert outcome.state == "done", outcome.reason
    return stored.load(root / "runs" / spec.experiment / spec.folder_name)


@pytest.mark.parametrize("method", plan.PLANNED)
def test_every_planned_method(root: Path, method: str) -> None:
    run = done(root, method)
    assert run.result["images"] == 4
    assert (run.result["projection_parameters"] > 0) == (method != "zero-init-text")
    assert run.result["val_loss"] != run.result["val_loss_start"]
    assert (run.path / "prompt_share.json").exists() == method.startswith("zero-init")
    assert run.result["steps"] == 2  # 20 captions in batches of 8
    findings = verify.verify(run.path)
    assert {f.outcome for f in findings} == {"ok"}, findings
    weights = json.loads((run.path / "environment.json").read_text())["weights"]
    encoder = {"encoder/model.safetensors"} if method != "zero-init-text" else set()
    assert weights.keys() == {"model.safetensors"} | encoder
    captions = {p["id"]: p["caption"] for p in run.predictions() if p["set"] == "test"}
    assert list(captions) == [each.id for each in load_captions("flickr8k").test]


def test_coco_scores_with_the_official_tool(root: Path, tmp_path: Path) -> None:
    run = done(root, "zero-init", "coco", evaluated_on="val")
    rows = [
        {"image_id": p["id"], "caption": p["caption"]}
        for p in run.predictions()
        if p["set"] == "val"
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(rows))
    found, _ = score_files(path, root / "data/coco/annotations/captions_val2014.json")
    assert len(rows) == 3
    for name, value in found.items():
        assert run.result[name] == pytest.approx(value, abs=1e-12)


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


def test_resumed_is_uninterrupted(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped behind the training, with captions that are drawn: the draw starts again."""
    changes = {"decoding": "sampled", "new_tokens": 9}
    spec, whole = world.spec("zero-init", **changes), done(root, "zero-init", **changes)
    with monkeypatch.context() as patch:
        patch.setattr(
            TrainedModel, "stop_if_requested", mock.Mock(side_effect=Interrupted("test", 2))
        )
        assert run_one(spec, tmp_path).state == "preempted"
    assert run_one(spec, tmp_path).state == "done"
    again = stored.load(tmp_path / spec.experiment / spec.folder_name)
    assert again.metrics() == whole.metrics()
    assert again.predictions() == whole.predictions()
    assert again.result["adapter_sha256"] == whole.result["adapter_sha256"]


def test_identities_do_not_move() -> None:
    """A new setting must keep them: its default is the old behaviour."""
    spec = next(s for s in plan.plan("paper", "cuda") if s.method == "zero-init")
    assert spec.settings == Settings(token_budget=2048, bottleneck=54)
    assert spec.identity == "6f28a3200ba55693"


@pytest.mark.parametrize("method", ["zero-init", "lora"])
@pytest.mark.parametrize("decoding", ["sampled", "beam"])
def test_decodings(root: Path, method: str, decoding: str) -> None:
    run = done(root, method, decoding=decoding, epochs=0.0, warmup_epochs=0.0, new_tokens=9)
    assert run.result["images"] == 4


def test_several_captions_are_several_examples(root: Path) -> None:
    tokenizer, images = byte_level(), load_captions("flickr8k").val
    rows = {images[1].image: 7}
    examples, cut = training_examples(images, tokenizer, "demo", 60, rows.get)
    assert [example.id for example in examples[:2]] == [f"{images[0].id}#0", f"{images[0].id}#1"]
    assert [example.image for example in examples] == [None, None, 7, 7, None, None]
    text = tokenizer.decode(examples[2].prompt + examples[2].response)
    assert text == f"<s>Generate caption of this image : {images[1].captions[0]}</s>"
    assert cut == 0
    shorter, cut = training_examples(images, tokenizer, "demo", 44, rows.get)
    assert cut == sum(len(e.prompt) + len(e.response) > 44 for e in examples) > 0
    assert max(len(e.prompt) + len(e.response) for e in shorter) == 44
    prompt = len(examples[0].prompt)
    for room in (0, -1, -5):
        with pytest.raises(
            ZiaError, match=rf"takes {prompt} tokens, so max_length={prompt + room}"
        ):
            training_examples(images, tokenizer, "demo", prompt + room, rows.get)
    assert (
        len(training_examples(images, tokenizer, "demo", prompt + 1, rows.get)[0][0].response) == 1
    )
    asked = asked_examples(images, tokenizer, "alpaca", rows.get)
    assert tokenizer.decode(asked[0].prompt).endswith("image\n\n### Response:")
    assert (asked[1].image, asked[1].response) == (7, [])


def test_a_broken_image_is_named(root: Path) -> None:
    path = root / "data/flickr8k/Flicker8k_Dataset/015_red.jpg"
    content = path.read_bytes()
    try:
        for damage, sentence in ((None, "does not exist"), (b"text", "cannot be read as an image")):
            path.unlink() if damage is None else path.write_bytes(damage)
            outcome = run_one(world.spec("zero-init", prompt_length=2), root / "broken")
            assert outcome.state == "failed"
            assert "015_red.jpg" in outcome.reason
            assert sentence in outcome.reason
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("method", ["zero-init", "lora"])
def test_generate_with_an_image(root: Path, method: str) -> None:
    run = done(root, method, peak_lr=0.5)
    image = load_captions("flickr8k").test[2]
    assert EXPERIMENT.generate_image is not None
    (answer,) = EXPERIMENT.generate_image(run.path, image.image, [], "cpu")
    kept = {p["id"]: p["caption"] for p in run.predictions() if p["set"] == "test"}
    assert answer.adapted.partition("\n")[0].strip() == kept[image.id]
    assert answer.prompt == "Generate caption of this image :"
    assert answer.adapted != answer.backbone
    (asked,) = EXPERIMENT.generate_image(run.path, image.image, ["Which colour?"], "cpu")
    assert asked.prompt == "Which colour?"
    with pytest.raises(ZiaError, match="does not exist"):
        list(EXPERIMENT.generate_image(run.path, root / "no.jpg", [], "cpu"))
    blind = done(root, "zero-init-text")
    with pytest.raises(ZiaError, match=r"zero-init-text of .* sees no images: take a run whose"):
        list(EXPERIMENT.generate_image(blind.path, image.image, [], "cpu"))


def test_the_encoder_runs_where_the_question_is_asked(root: Path) -> None:
    """The run's features were computed on a GPU; the command says CPU."""
    run = done(root, "zero-init", encoder_device="cpu")
    copy = root / "from-a-gpu"
    shutil.copytree(run.path, copy)
    config = json.loads((copy / "config.json").read_text())
    config["settings"]["encoder_device"] = "cuda"
    (copy / "config.json").write_text(json.dumps(config))
    seal.write(copy)
    image = load_captions("flickr8k").test[2].image
    assert EXPERIMENT.generate_image is not None
    with mock.patch.object(
        image_features, "image_features", wraps=image_features.image_features
    ) as computed:
        (answer,) = EXPERIMENT.generate_image(copy, image, [], "cpu")
    assert computed.call_args.kwargs["device"] == "cpu"
    assert (answer,) == tuple(EXPERIMENT.generate_image(run.path, image, [], "cpu"))


def test_the_command_takes_an_image(root: Path) -> None:
    run = done(root, "zero-init")
    image = load_captions("flickr8k").test[0].image
    command = ["generate", str(run.path), "--device", "cpu"]
    shown = CliRunner().invoke(main.app, [*command, "--image", str(image)])
    assert shown.exit_code == 0, shown.output
    assert shown.output.startswith("Generate caption of this image :")
    blind = CliRunner().invoke(main.app, command)
    assert str(blind.exception) == (
        "coco_caption has nothing to generate without an image: give --image, and a run whose "
        "method sees images"
    )


def test_plans() -> None:
    for profile, task in (("paper", "coco"), ("small", "flickr8k")):
        for device in ("cpu", "cuda"):
            specs = plan.plan(profile, device)
            assert {spec.task for spec in specs} == {task}
            assert [s.seed for s in specs if s.method == "zero-init"] == [0, 1, 2, 3, 4]
            assert [s.seed for s in specs if s.method == "zero-init-text"] == [0, 1, 2, 3, 4]
            assert len({spec.identity for spec in specs}) == len(specs)
    for spec in plan.plan("small", "cpu"):
        assert spec.settings.encoder == (CLIP.name if sees_images(spec.method) else "small-vit")
    assert {s.data for s in plan.plan("small", "cpu")} == {"reduced-300"}
    assert {s.data for s in plan.plan("small", "cuda")} == {"full"}


def test_estimates_are_of_what_was_measured() -> None:
    assert all(estimate(spec).hours for spec in plan.plan("small", "cpu"))
    assert not any(estimate(spec).hours for spec in plan.plan("small", "cuda"))


def test_every_pass_is_in_the_precision_of_the_training(root: Path) -> None:
    """Answers and the losses that are reported, too."""
    with noted() as passes:
        done(root, "zero-init", precision="bf16-autocast")
    assert passes
    assert all(passes)
