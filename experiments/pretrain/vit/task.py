"""Settings and task of the small ViT: CIFAR-10 with augmentation."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from experiments.backbones.small_vit import TOKEN_PIXELS, ViTShape
from experiments.images import protocols
from experiments.images.image_files import read_rgb
from experiments.images.jpeg_arrays import JpegArrays
from experiments.training.optimisation import Optimisation

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Settings(Optimisation):
    """All settings that can change a result; all are our choice."""

    dim: int = 128
    depth: int = 6
    heads: int = 4
    mlp_ratio: int = 4

    epochs: float = 32.0
    warmup_epochs: float = 2.0
    batch_size: int = 128
    peak_lr: float | None = 2e-3
    min_lr: float = 1e-5
    weight_decay: float | None = 0.05
    decay: Literal["all", "matrices", "none"] = "matrices"
    beta2: float = 0.999
    clip_norm: float | None = 1.0
    micro_batch_size: int | None = 128

    crop_padding: int = 4  # pixels, reflected at the edge
    gray_probability: float = 0.1  # of an image, so that the model knows images without colour
    mixup_alpha: float = 0.2
    cutmix_alpha: float = 1.0
    mix_probability: float = 0.2  # of a batch; half of these use CutMix
    label_smoothing: float = 0.1

    protocol: str = "vpt"  # at 32 pixels it only normalises
    held_out: int = 1000  # first images in the order of the hash: the task `cifar10`'s own
    development: int = 1000  # the next ones
    evaluations: int = 10

    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["fp32", "bf16", "bf16-autocast"] = "fp32"

    @property
    def shape(self) -> ViTShape:
        """The model's sizes."""
        return ViTShape(self.dim, self.depth, self.heads, self.mlp_ratio)


class Pretraining:
    """A `TrainTask` of CIFAR-10 in memory, augmented batch by batch.

    Augmentation draws from torch's and NumPy's global generators, which the engine seeds,
    checkpoints and restores.
    """

    def __init__(self, arrays: JpegArrays, settings: Settings) -> None:
        from timm.data.mixup import Mixup

        order = arrays.order.tolist()[settings.held_out :]
        self.settings = settings
        self._indices = order[settings.development :]
        self._images, self._labels = decode(arrays, self._indices)
        self._development = decode(arrays, order[: settings.development])
        self._mix = Mixup(
            mixup_alpha=settings.mixup_alpha,
            cutmix_alpha=settings.cutmix_alpha,
            prob=settings.mix_probability,
            label_smoothing=settings.label_smoothing,
            num_classes=settings.shape.classes,
        )

    def __len__(self) -> int:
        return len(self._indices)

    def length(self, index: int) -> int:
        """Tokens of an image, the class token included."""
        return (self.settings.shape.image_size // TOKEN_PIXELS) ** 2 + 1

    def labels(self, index: int) -> int:
        """One label per image."""
        return 1

    def record_id(self, index: int) -> str:
        """The image's row in the training file."""
        return f"train/{self._indices[index]:05d}"

    def batch(self, indices: Sequence[int]) -> dict[str, "Tensor"]:
        """Augmented, normalised and mixed images [B, 3, S, S] and target distributions [B, C]."""
        settings = self.settings
        images = augmented(
            self._images[list(indices)], settings.crop_padding, settings.gray_probability
        )
        mixed, targets = self._mix(
            normalised(images, settings.protocol), self._labels[list(indices)]
        )
        return {"images": mixed, "targets": targets}

    def loss(self, model: "nn.Module", batch: dict[str, "Tensor"]) -> tuple["Tensor", int]:
        """The summed cross entropy with the target distributions, and the number of images."""
        logits = model(batch["images"]).float()
        loss = -(batch["targets"] * logits.log_softmax(dim=-1)).sum()
        return loss, len(batch["images"])

    def evaluate(self, model: "nn.Module") -> dict[str, float]:
        """Accuracy on the development images."""
        images, labels = self._development
        right = guesses(model, images, self.settings) == labels
        return {"development_accuracy": right.float().mean().item()}


def decode(arrays: JpegArrays, indices: Sequence[int]) -> tuple["Tensor", "Tensor"]:
    """The images [N, 3, H, W], uint8, and labels [N] of some rows."""
    import numpy as np
    import torch

    images = [
        np.array(read_rgb(io.BytesIO(arrays.file(i)), f"CIFAR-10's image {i}")) for i in indices
    ]
    labels = torch.tensor([int(arrays.labels[i]) for i in indices])
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), labels


def normalised(images: "Tensor", protocol: str) -> "Tensor":
    """Images [N, 3, H, W] normalised as in the protocol, without resizing."""
    import torch

    chosen = protocols.get(protocol)
    mean, std = (torch.tensor(rgb).view(3, 1, 1) for rgb in (chosen.mean, chosen.std))
    return (images / 255 - mean) / std


def augmented(images: "Tensor", padding: int, gray_probability: float) -> "Tensor":
    """Random crops of the padded images [N, 3, S, S], half of them mirrored; float32, 0 to 255.

    A share of `gray_probability` loses its colours.
    """
    import torch
    from torch.nn.functional import pad

    n, side = len(images), images.shape[-1]
    padded = pad(images.float(), (padding,) * 4, mode="reflect")
    top, left = torch.randint(0, 2 * padding + 1, (2, n, 1))
    rows, columns = top + torch.arange(side), left + torch.arange(side)
    columns = torch.where(torch.rand(n, 1) < 0.5, columns.flip(1), columns)
    cropped = padded.permute(0, 2, 3, 1)[
        torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]
    ]
    channels_first = cropped.permute(0, 3, 1, 2).contiguous()
    gray = channels_first.mean(dim=1, keepdim=True)
    return torch.where(torch.rand(n, 1, 1, 1) < gray_probability, gray, channels_first)


def guesses(model: "nn.Module", images: "Tensor", settings: Settings) -> "Tensor":
    """The most likely class of each image, [N]."""
    import torch

    found = []
    with torch.no_grad():
        for part in images.split(500):
            pixels = normalised(part, settings.protocol).to(settings.device)
            found.append(model(pixels).argmax(dim=-1).cpu())
    return torch.cat(found)
