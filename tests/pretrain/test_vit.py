import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.backbones import small_vit
from experiments.backbones.small_vit import ViTShape
from experiments.backbones.weights import CARD, WEIGHTS
from experiments.harness.folder import RunFolder
from experiments.harness.stored import load
from experiments.images.jpeg_arrays import read_jpeg_arrays
from experiments.images.protocols import get
from experiments.images.task_folder import load_task, read_image
from experiments.images.task_writing import write_task
from experiments.images.tasks import Task
from experiments.pretrain.vit.experiment import EXPERIMENT
from experiments.pretrain.vit.run import RECIPE, run
from experiments.pretrain.vit.task import (
    Pretraining,
    Settings,
    augmented,
    decode,
    guesses,
    normalised,
)
from experiments.vtab_vit.sources import cifar10
from tests.pretrain import tiny_runs
from zia_core import ZeroInitConfig, attach
from zia_core.errors import ZiaError

TINY = Settings(
    dim=16,
    depth=2,
    heads=2,
    mlp_ratio=2,
    epochs=2.0,
    warmup_epochs=0.5,
    batch_size=8,
    held_out=10,
    development=10,
    evaluations=2,
    threads=1,
)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-10 with 60 training and 20 test images."""
    monkeypatch.setenv("ZIA_DATA", str(tmp_path))
    (tmp_path / "cifar10").mkdir()
    generator = np.random.default_rng(0)
    for part, n in (("train", 60), ("test", 20)):
        jpegs = []
        for _ in range(n):
            buffer = io.BytesIO()
            coarse = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(coarse.repeat(8, 0).repeat(8, 1)).save(buffer, "JPEG")
            jpegs.append(buffer.getvalue())
        np.savez(
            tmp_path / "cifar10" / f"cifar10_{part}_jpeg",
            jpeg=np.frombuffer(b"".join(jpegs), np.uint8),
            offsets=np.cumsum([0, *map(len, jpegs)]),
            labels=(np.arange(n) % 10).astype(np.uint8),
            order_sha256=generator.permutation(n).astype(np.int32),
        )
    return tmp_path / "cifar10"


def attempt(runs: Path, stop_at: int | None = None) -> RunFolder:
    return tiny_runs.attempt(runs, RECIPE.spec(3, TINY), run, RECIPE.result_fields, stop_at)


def test_a_run_ends_with_tested_weights_and_their_card(files: Path, tmp_path: Path) -> None:
    path = attempt(tmp_path / "runs").path
    model, card = small_vit.load(path)
    result = json.loads((path / "result.json").read_text())
    assert result["steps"] == 10  # 60 - 10 - 10 = 40 images, 5 steps of 8, twice
    assert card["sha256"] == result["weights_sha256"]
    assert card["recipe"]["epochs"] == 2.0
    assert "not an ImageNet-21k model" in card["what"]
    assert set(card["data_sha256"]) == {"cifar10_train_jpeg.npz", "cifar10_test_jpeg.npz"}
    # The test accuracy is that of the file, not of the float32 weights before it.
    images, labels = decode(read_jpeg_arrays(files / "cifar10_test_jpeg.npz"), range(20))
    guessed = guesses(model, images, TINY)
    stored = load(path).predictions()
    assert [each["label"] for each in stored] == guessed.tolist()
    assert stored[7]["id"] == "test/00007"
    accuracy = (guessed == labels).float().mean().item()
    assert accuracy == result["test_accuracy"] == card["test_accuracy"]


def test_an_interrupted_run_ends_as_an_undisturbed_one(files: Path, tmp_path: Path) -> None:
    """Augmentation included: its draws go on where they stood."""
    whole = attempt(tmp_path / "whole").path
    attempt(tmp_path / "parts", stop_at=3)
    parts = attempt(tmp_path / "parts").path
    for name in ("metrics.jsonl", WEIGHTS, CARD, "predictions.jsonl.gz"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name


def test_nothing_of_the_task_is_trained_on(files: Path, tmp_path: Path) -> None:
    arrays = read_jpeg_arrays(files / "cifar10_train_jpeg.npz")
    task = Task("cifar10", "CIFAR-10", "small", classes=10, test=20, train=8, val=2)
    lists = cifar10(files, task)
    theirs = {each.name.removesuffix(".jpg") for each in lists.train + lists.val}
    pretraining_task = Pretraining(arrays, TINY)
    ours = {pretraining_task.record_id(i) for i in range(len(pretraining_task))}
    assert (len(ours), len(theirs)) == (40, 10)
    assert not ours & theirs
    # And the model gets what the protocol gives for the same image.
    data = load_task(task, write_task(task, lists, tmp_path / "vtab").folder)
    images, _ = decode(arrays, [int(data.train[0].path.stem)])
    expected = get("vpt", 32)(read_image(data.train[0]))
    torch.testing.assert_close(normalised(images, "vpt")[0], expected, rtol=0, atol=1e-6)


def test_missing_files_say_where_they_belong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZIA_DATA", str(tmp_path))
    spec = RECIPE.spec(3, TINY)
    folder = RunFolder.claim(tmp_path / "runs", spec, RECIPE.result_fields)
    assert folder is not None
    with folder, pytest.raises(ZiaError, match=r"put cifar10_train_jpeg\.npz into the folder cif"):
        run(spec, folder)


def test_every_augmented_image_is_a_crop_of_the_padded_one() -> None:
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (200, 3, 8, 8), generator=generator, dtype=torch.uint8)
    padded = torch.nn.functional.pad(images.float(), (2, 2, 2, 2), mode="reflect")
    torch.manual_seed(0)
    seen = set()
    for image, whole in zip(augmented(images, 2, 0.0), padded, strict=True):
        found = [
            (top, left, mirrored)
            for top in range(5)
            for left in range(5)
            for mirrored in (False, True)
            if torch.equal(
                image.flip(2) if mirrored else image, whole[:, top : top + 8, left : left + 8]
            )
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) > 45  # of 50, in 200 draws


def test_the_stated_share_of_images_is_gray() -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (400, 3, 8, 8), dtype=torch.uint8)
    gray = (augmented(images, 2, 0.25).std(dim=1) < 1e-3).all(dim=(1, 2))
    assert 70 < gray.sum() < 130  # of 400
    assert not (augmented(images, 2, 0.0).std(dim=1) < 1e-3).all(dim=(1, 2)).any()


def test_mixing_keeps_target_distributions(files: Path) -> None:
    mixing = replace(TINY, mix_probability=0.5)
    task = Pretraining(read_jpeg_arrays(files / "cifar10_train_jpeg.npz"), mixing)
    np.random.seed(0)
    torch.manual_seed(0)
    sizes = set()
    for _ in range(12):
        batch = task.batch(range(8))
        assert batch["images"].shape == (8, 3, 32, 32)
        torch.testing.assert_close(batch["targets"].sum(dim=1), torch.ones(8))
        # Unmixed: 0.9 + 0.1 / 10 on the class.
        sizes.add(round(batch["targets"].max().item(), 4))
    assert 0.91 in sizes
    assert len(sizes) > 3
    model = small_vit.build(TINY.shape)
    loss, n = task.loss(model, batch)
    assert n == 8
    expected = torch.nn.functional.cross_entropy(
        model(batch["images"]), batch["targets"], reduction="sum"
    )
    torch.testing.assert_close(loss, expected)


def test_the_default_model_fits_a_release_and_takes_zero_init(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = small_vit.build(ViTShape()).eval()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    # Stem of 3 x 3 convolutions, 2 x 2 projection; class token, positions of 16 tokens and it;
    # a block 12*128^2 + 13*128; last norm; head.
    stem = (3 * 32 * 9 + 32) + (32 * 64 * 9 + 64) + (64 * 128 * 9 + 128)
    tokens = (4 * 128 * 128 + 128) + 128 + 17 * 128
    blocks = 6 * (12 * 128**2 + 13 * 128)
    assert parameters == stem + tokens + blocks + 256 + 1_290 == 1_352_394
    small_vit.write_weights(model, tmp_path / WEIGHTS)
    assert (tmp_path / WEIGHTS).stat().st_size < 2.8e6
    images = torch.randn(2, 3, 32, 32)
    before = model(images)
    assert torch.equal(attach(model, ZeroInitConfig(num_layers=4, prompt_length=5))(images), before)


def test_a_release_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    shape = TINY.shape
    weights = tmp_path / WEIGHTS
    small_vit.write_weights(small_vit.build(shape), weights)
    content = weights.read_bytes()
    card = small_vit.card(shape, weights, {})
    (tmp_path / CARD).write_text(card)
    small_vit.load(tmp_path)
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ZiaError, match=r"model\.safetensors is not the file that .*card\.json"):
        small_vit.load(tmp_path)
    weights.write_bytes(content)
    (tmp_path / CARD).write_text(card.replace('"depth": 2', '"depth": 3'))
    with pytest.raises(ZiaError, match=r"does not hold the weights of ViTShape\(dim=16, depth=3"):
        small_vit.load(tmp_path)
    (tmp_path / CARD).write_text("{}")
    with pytest.raises(ZiaError, match=r"card\.json"):
        small_vit.load(tmp_path)
    with pytest.raises(ZiaError, match="more than the 6,000,000 of a release: lower dim or depth"):
        small_vit.write_weights(small_vit.build(ViTShape(dim=256)), weights)


def test_the_identity_of_the_released_run_stays() -> None:
    assert EXPERIMENT.plan("pretrain", "cpu")[0].identity == "67ce3c8dd67b5f6e"
    assert EXPERIMENT.plan("pretrain", "cuda")[0].settings.device == "cuda"
