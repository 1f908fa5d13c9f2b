"""Named protocols of preprocessing an image.

Published VTAB-1k numbers come from at least these four and are not comparable across them, so a
table names the protocol of its rows. None augments.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from zia_core.errors import ZiaError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import Tensor

RGB = tuple[float, float, float]
IMAGENET_MEAN: RGB = (0.485, 0.456, 0.406)
IMAGENET_STD: RGB = (0.229, 0.224, 0.225)
CLIP_MEAN: RGB = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: RGB = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Protocol:
    """Resizing, crop and normalisation: a pixel becomes (value / 255 - mean) / std."""

    name: str
    source: str  # who uses it
    # "pillow": antialiased when shrinking, rounded to whole values as in an image file.
    # "tensorflow1": bilinear between the four nearest pixels, corner-aligned, not rounded.
    resize: Literal["pillow-bicubic", "tensorflow1-bilinear"]
    # None: both sides are squashed to the resolution. Otherwise the shorter side becomes
    # floor(resolution / crop_fraction) and the centre is cropped.
    crop_fraction: float | None
    mean: RGB
    std: RGB
    resolution: int = 224

    def describe(self) -> str:
        """One line for the notes of a table."""
        size = f"{self.resolution}x{self.resolution}"
        if self.crop_fraction is None:
            shape = f"squashed to {size}"
        else:
            shape = f"shorter side to {self._shorter_side()}, middle {size}"
        norm = "[0, 1]" if self.mean == (0, 0, 0) else f"mean {self.mean}, std {self.std}"
        return f"{self.name} ({self.source}): {shape}, {self.resize}; {norm}"

    def __call__(self, image: "Image") -> "Tensor":
        """Return the RGB image as (3, resolution, resolution) float32."""
        import torch

        if self.resize == "tensorflow1-bilinear":
            pixels = _tensorflow1_bilinear(_to_tensor(image), self.resolution)
        else:
            pixels = _to_tensor(self._pillow(image))
        mean, std = (torch.tensor(rgb).view(3, 1, 1) for rgb in (self.mean, self.std))
        return (pixels / 255 - mean) / std

    def _shorter_side(self) -> int:
        assert self.crop_fraction is not None
        return math.floor(self.resolution / self.crop_fraction)

    def _pillow(self, image: "Image") -> "Image":
        from PIL.Image import Resampling

        side = self.resolution
        if self.crop_fraction is None:
            return image.resize((side, side), Resampling.BICUBIC)
        shorter, (width, height) = self._shorter_side(), image.size
        # torchvision's rounding: the longer side down, the corner to the nearest even on a tie.
        if width <= height:
            width, height = shorter, int(shorter * height / width)
        else:
            width, height = int(shorter * width / height), shorter
        left, top = round((width - side) / 2), round((height - side) / 2)
        resized = image.resize((width, height), Resampling.BICUBIC)
        return resized.crop((left, top, left + side, top + side))


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        # VPT calls TensorFlow 1's resize, through its compatibility module.
        Protocol("vpt", "VPT", "tensorflow1-bilinear", None, mean=IMAGENET_MEAN, std=IMAGENET_STD),
        Protocol("fact", "FacT", "pillow-bicubic", None, mean=IMAGENET_MEAN, std=IMAGENET_STD),
        # That of timm's ViT-B/16 of ImageNet-21k, in training and evaluation.
        Protocol("half", "timm", "pillow-bicubic", 0.9, mean=(0.5,) * 3, std=(0.5,) * 3),
        Protocol("raw", "Bi-Adapter", "pillow-bicubic", None, mean=(0.0,) * 3, std=(1.0,) * 3),
        # CLIP's mean and standard deviation; squashed, as the others, so that nothing is cut off.
        Protocol("clip", "CLIP's colours", "pillow-bicubic", None, mean=CLIP_MEAN, std=CLIP_STD),
    )
}


def get(name: str, resolution: int = 224) -> Protocol:
    """The protocol of that name at `resolution` pixels a side; ZiaError lists the known names."""
    if name not in PROTOCOLS:
        raise ZiaError(f"there is no protocol {name!r:.60}; choose from: {', '.join(PROTOCOLS)}")
    if resolution < 1:
        raise ZiaError(f"resolution={resolution} is not a number of pixels: give 1 or more")
    return replace(PROTOCOLS[name], resolution=resolution)


def _to_tensor(image: "Image") -> "Tensor":
    import numpy as np
    import torch

    return torch.from_numpy(np.array(image, np.float32)).permute(2, 0, 1)


def _tensorflow1_bilinear(image: "Tensor", side: int) -> "Tensor":
    """Resize (3, H, W) to (3, side, side): output pixel i is at i * (input size / side).

    The first pixels coincide, and the last output pixels repeat the edge.
    """
    for axis in (2, 1):
        size = image.shape[axis]
        lower, upper, weight = _neighbours(size, side)
        if axis == 1:
            weight = weight[:, None]
        low, high = image.index_select(axis, lower), image.index_select(axis, upper)
        image = low + (high - low) * weight
    return image


def _neighbours(size: int, side: int) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    import torch

    position = torch.arange(side) * (size / side)
    lower = position.floor().long()
    return lower, (lower + 1).clamp(max=size - 1), position - lower
