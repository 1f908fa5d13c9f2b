"""The feature cache: computed once, invalidated by what matters, safe with damage and company."""

import json
import multiprocessing
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.images import feature_cache
from experiments.images.encoders import Encoder, load
from experiments.images.feature_cache import FeatureTable, image_features
from experiments.images.image_files import read_rgb
from experiments.language.image_features import run_images
from experiments.language.settings import ImageTextSettings
from tests.images.world import write_encoders, write_images
from zia_core import ZiaError


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoders")
    write_encoders(folder)
    return folder


@pytest.fixture
def encoder(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Encoder:
    monkeypatch.setenv("ZIA_WEIGHTS", str(weights))
    return load("clip")


def all_rows(table: FeatureTable) -> torch.Tensor:
    return table.rows(range(len(table)))


def count_computed() -> Any:
    """Counts the images that are decoded."""
    return mock.patch.object(feature_cache, "read_rgb", wraps=read_rgb)


def test_features_are_the_encoder_s(encoder: Encoder, tmp_path: Path) -> None:
    paths = write_images(tmp_path / "images", 5)
    pixels = torch.stack([encoder.protocol(read_rgb(p, str(p))) for p in paths])
    with torch.no_grad():
        tokens = encoder.tokens(pixels, [1, -1])
    both = image_features(encoder, paths, "global", (1, -1), root=tmp_path / "cache")
    assert both.shape == (32,)
    expected = torch.cat([tokens[0][:, 0], tokens[1][:, 0]], dim=1)
    torch.testing.assert_close(all_rows(both), expected)
    torch.testing.assert_close(both.rows([3, 0]), expected[[3, 0]])
    last = image_features(encoder, paths, "global", (-1,), root=tmp_path / "cache")
    torch.testing.assert_close(all_rows(last), tokens[1][:, 0])
    every = image_features(encoder, paths, "tokens", root=tmp_path / "cache")
    assert every.shape == (5, 16)
    assert all_rows(every).dtype == torch.float32
    torch.testing.assert_close(all_rows(every), tokens[1], rtol=1e-3, atol=1e-3)


def test_computed_once_and_only_what_is_missing(encoder: Encoder, tmp_path: Path) -> None:
    paths, root = write_images(tmp_path / "images", 6), tmp_path / "cache"
    with count_computed() as decoded:
        first = image_features(encoder, paths[:4], "global", root=root)
        assert decoded.call_count == 4
        second = image_features(encoder, paths, "global", root=root)
        assert decoded.call_count == 6
        third = image_features(encoder, paths, "global", root=root)
        assert decoded.call_count == 6
    assert torch.equal(all_rows(third), all_rows(second))
    assert torch.equal(all_rows(third)[:4], all_rows(first))
    assert third.fingerprint == second.fingerprint != first.fingerprint


def test_neighbours_and_order_change_no_bit(encoder: Encoder, tmp_path: Path) -> None:
    paths = write_images(tmp_path / "images", 40)
    whole = all_rows(image_features(encoder, paths, "global", root=tmp_path / "whole"))
    # A tiny encoder's products round alike in every shape, so the shape is looked at as well.
    with mock.patch.object(Encoder, "tokens", autospec=True, side_effect=Encoder.tokens) as seen:
        some = image_features(encoder, paths[39:20:-3], "global", root=tmp_path / "some")
    assert torch.equal(all_rows(some), whole[list(range(39, 20, -3))])
    assert [len(call.args[1]) for call in seen.call_args_list] == [feature_cache.BATCH]


def test_many_images_are_many_shards(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_images(tmp_path / "images", 11)
    expected = all_rows(image_features(encoder, paths, "global", root=tmp_path / "one"))
    monkeypatch.setattr(feature_cache, "SHARD", 4)
    monkeypatch.setattr(feature_cache, "BATCH", 32)
    parts: list[int] = []
    write = feature_cache._write

    def noting(folder: Path, digests: list[str], features: torch.Tensor) -> None:
        parts.append(len(features))
        write(folder, digests, features)

    monkeypatch.setattr(feature_cache, "_write", noting)
    table = image_features(encoder, paths, "global", root=tmp_path / "many")
    assert parts == [4, 4, 3]  # nothing more is ever held
    assert torch.equal(all_rows(table), expected)


def test_equal_files_are_one_image(encoder: Encoder, tmp_path: Path) -> None:
    paths = write_images(tmp_path / "images", 2)
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(paths[0].read_bytes())
    with count_computed() as decoded:
        table = image_features(encoder, [*paths, copy], "global", root=tmp_path / "cache")
    assert decoded.call_count == 2
    assert torch.equal(table.rows([2]), table.rows([0]))


def test_another_machine_computes_again_but_has_the_same_data(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, root = write_images(tmp_path / "images", 2), tmp_path / "cache"
    here = image_features(encoder, paths, "global", root=root)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    with count_computed() as decoded:
        there = image_features(encoder, paths, "global", root=root)
    assert decoded.call_count == 2
    assert there.fingerprint == here.fingerprint
    written = [json.loads(path.read_text())["computed"] for path in root.glob("*/what.json")]
    assert sorted("7 threads" in computed for computed in written) == [False, True]


def test_an_encoder_on_the_cpu_has_the_threads_of_the_settings(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZIA_WEIGHTS", str(weights))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    images = write_images(tmp_path / "images", 1)
    settings = ImageTextSettings(
        encoder="clip", depths=(-1,), encoder_device="cpu", device="cuda", threads=1
    )
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        run_images("zero-init", settings, images)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_changed_image_is_computed_again(encoder: Encoder, tmp_path: Path) -> None:
    paths, root = write_images(tmp_path / "images", 3), tmp_path / "cache"
    before = image_features(encoder, paths, "global", root=root)
    Image.new("RGB", (20, 20), (200, 30, 30)).save(paths[1])
    after = image_features(encoder, paths, "global", root=root)
    assert torch.equal(after.rows([0, 2]), before.rows([0, 2]))
    assert not torch.allclose(after.rows([1]), before.rows([1]))
    assert after.fingerprint != before.fingerprint


def test_another_encoder_depth_or_kind_has_its_own_features(
    encoder: Encoder, tmp_path: Path
) -> None:
    paths, root = write_images(tmp_path / "images", 2), tmp_path / "cache"
    tables = [image_features(encoder, paths, "global", (depth,), root=root) for depth in (1, 2, 3)]
    assert torch.equal(
        all_rows(image_features(encoder, paths, "global", (-1,), root=root)), all_rows(tables[2])
    )
    with torch.no_grad():
        encoder.model.get_parameter("post_layernorm.bias").add_(1.0)
    changed = image_features(encoder, paths, "global", (3,), root=root)
    torch.testing.assert_close(all_rows(changed), all_rows(tables[2]) + 1)
    assert len({t.fingerprint for t in [*tables, changed]}) == 4
    assert len(list(root.iterdir())) == 4


@pytest.mark.parametrize("damage", ["cut", "flipped", "half-written"])
def test_a_damaged_shard_is_made_again(encoder: Encoder, tmp_path: Path, damage: str) -> None:
    paths, root = write_images(tmp_path / "images", 3), tmp_path / "cache"
    before = all_rows(image_features(encoder, paths, "global", root=root))
    (shard,) = root.glob("*/*.safetensors")
    content = bytearray(shard.read_bytes())
    if damage == "half-written":
        shard.rename(shard.with_name(f".0123.{shard.name}"))
    elif damage == "cut":
        shard.write_bytes(content[:-20])
    else:
        content[-5] ^= 1
        shard.write_bytes(content)
    with count_computed() as decoded:
        after = image_features(encoder, paths, "global", root=root)
    assert decoded.call_count == 3
    assert torch.equal(all_rows(after), before)


def test_processes_at_the_same_time(encoder: Encoder, tmp_path: Path) -> None:
    paths, root = write_images(tmp_path / "images", 12), tmp_path / "cache"
    forked = multiprocessing.get_context("fork")
    # Different, overlapping parts at the same time.
    parts = [paths, paths[:8], paths[4:], paths[::2]]
    workers = [
        forked.Process(target=image_features, args=(encoder, p, "global"), kwargs={"root": root})
        for p in parts
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    with count_computed() as decoded:
        table = image_features(encoder, paths, "global", root=root)
    assert decoded.call_count == 0
    fresh = image_features(encoder, paths, "global", root=tmp_path / "fresh")
    assert torch.equal(all_rows(table), all_rows(fresh))
    assert not [p for p in root.glob("*/*") if p.name.startswith(".")]


def test_a_folder_is_readable_while_another_process_writes(
    encoder: Encoder, tmp_path: Path
) -> None:
    """A reader sees whole shards or none."""
    paths, root = write_images(tmp_path / "images", 4), tmp_path / "cache"
    image_features(encoder, paths[:2], "global", root=root)
    (folder,) = root.iterdir()
    # A temporary file that was renamed between the listing and its reading.
    (folder / ".0123.safetensors").symlink_to(folder / "nowhere")
    writing = threading.Event()
    real = feature_cache.replacing

    def slow(path: Path) -> object:
        writing.set()
        time.sleep(0.2)
        return real(path)

    with mock.patch.object(feature_cache, "replacing", slow):
        writer = threading.Thread(
            target=image_features, args=(encoder, paths, "global"), kwargs={"root": root}
        )
        writer.start()
        assert writing.wait(10)
        assert len(image_features(encoder, paths[:2], "global", root=root)) == 2
        writer.join()


def test_broken_and_missing_images_are_named(encoder: Encoder, tmp_path: Path) -> None:
    paths, root = write_images(tmp_path / "images", 2), tmp_path / "cache"
    text = tmp_path / "images" / "text.png"
    text.write_text("this is a text file")
    cut = tmp_path / "images" / "cut.jpg"
    cut.write_bytes(paths[0].read_bytes()[:-120])
    empty = tmp_path / "images" / "empty.png"
    empty.write_bytes(b"")
    for broken in (text, cut, empty):
        with pytest.raises(ZiaError, match=rf"images/{broken.name} cannot be read as an image"):
            image_features(encoder, [*paths, broken], "global", root=root)
    assert not list(root.glob("*/*.safetensors"))
    missing = tmp_path / "images" / "gone.png"
    with pytest.raises(ZiaError, match=r"the image .*gone\.png does not exist"):
        image_features(encoder, [*paths, missing], "global", root=root)
    with pytest.raises(ZiaError, match="no record has an image"):
        image_features(encoder, [], "global", root=root)
    with pytest.raises(ZiaError, match="those of one depth, not of 2"):
        image_features(encoder, paths, "tokens", (1, 2), root=root)


def test_a_cache_that_cannot_be_written_is_named(encoder: Encoder, tmp_path: Path) -> None:
    paths = write_images(tmp_path / "images", 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(ZiaError, match=r"cannot write the image features .*HF_DATASETS_CACHE"):
        image_features(encoder, paths, "global", root=tmp_path / "file" / "below")


def test_features_are_those_of_the_values_that_a_file_has(encoder: Encoder, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (20, 24), np.uint8)
    eight, sixteen, floats = (tmp_path / name for name in ("8.png", "16.png", "f.tif"))
    Image.fromarray(values).save(eight)
    Image.fromarray(values * np.uint16(257)).save(sixteen)
    table = image_features(encoder, [eight, sixteen], "global", root=tmp_path / "cache")
    assert torch.equal(table.rows([0]), table.rows([1]))
    Image.fromarray(values / np.float32(255)).save(floats)
    with pytest.raises(ZiaError, match=r"f\.tif has pixels of Pillow's mode F"):
        image_features(encoder, [floats], "global", root=tmp_path / "cache")
