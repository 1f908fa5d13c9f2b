"""Read an encoder's preprocessing from its own files."""

from pathlib import Path
from typing import Any

from experiments.harness.needs import CONFIG
from experiments.images.protocols import IMAGENET_MEAN, IMAGENET_STD, RGB, Protocol
from experiments.io.files import read_json
from zia_core.errors import ZiaError

PREPROCESSOR = "preprocessor_config.json"


def protocol_of(folder: Path, name: str) -> Protocol:
    """The protocol of a model of timm or transformers in the hub's format."""
    config = read_json(folder / CONFIG)
    if "architecture" in config:
        return timm_protocol(config, name)
    return transformers_protocol(folder)


def timm_protocol(config: dict[str, Any], name: str) -> Protocol:
    """The protocol of `pretrained_cfg` in a timm model's config.json, with bicubic resizing."""
    pretrained = config.get("pretrained_cfg", {})
    return Protocol(
        name.rpartition("/")[2].partition("@")[0],
        "timm",
        "pillow-bicubic",
        float(pretrained.get("crop_pct") or 1.0),
        _rgb(pretrained.get("mean", IMAGENET_MEAN), name),
        _rgb(pretrained.get("std", IMAGENET_STD), name),
        int(pretrained.get("input_size", (3, 224, 224))[-1]),
    )


def transformers_protocol(folder: Path) -> Protocol:
    """The protocol of a transformers model's preprocessor_config.json, with bicubic resizing."""
    path = folder / PREPROCESSOR
    given = read_json(path)
    size, crop = given.get("size", 224), None
    if isinstance(size, dict):
        size = size.get("shortest_edge") or size.get("height")
    resolution = size
    if given.get("do_center_crop"):
        resolution = given.get("crop_size", size)
        if isinstance(resolution, dict):
            resolution = resolution.get("height")
        crop = resolution / size if isinstance(size, int) and isinstance(resolution, int) else None
    if not isinstance(resolution, int) or resolution < 1:
        raise ZiaError(f"{path} names no size of the images: give 'size' or 'crop_size'")
    return Protocol(
        folder.name,
        "transformers",
        "pillow-bicubic",
        crop,
        _rgb(given.get("image_mean"), path),
        _rgb(given.get("image_std"), path),
        resolution,
    )


def _rgb(values: Any, where: object) -> RGB:
    if not isinstance(values, (list, tuple)) or len(values) != 3:
        raise ZiaError(f"{where}: mean and std of the images must be three numbers each")
    red, green, blue = (float(value) for value in values)
    return red, green, blue
