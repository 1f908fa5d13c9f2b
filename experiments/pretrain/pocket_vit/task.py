"""Settings and task of the pocket ViT: name what is in pictures of the generated world.

The model learns to name every thing with its colour, the ground, and the number of things. It is
never asked for places, or for the bars, textures and crowds of the image-classification tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from experiments.backbones.small_vit import TOKEN_PIXELS, ViTShape
from experiments.mini_world.captions import COLOURS, GROUNDS, SHAPES, Scene, draw_scene
from experiments.mini_world.dice import Dice
from experiments.mini_world.scenes import draw_picture
from experiments.pretrain.vit.task import augmented, normalised
from experiments.training.optimisation import Optimisation

if TYPE_CHECKING:
    from torch import Tensor, nn

# Outputs: one for the presence of each coloured shape; then classes of ground and number.
PAIRS = [(colour, shape) for colour in COLOURS for shape in SHAPES]
MOST = 3  # things in a picture, at most
OUTPUTS = len(PAIRS) + len(GROUNDS) + MOST
BATCH = 500  # images, in evaluation


@dataclass(frozen=True)
class Settings(Optimisation):
    """All settings that can change a result; all are our choice."""

    dim: int = 128
    depth: int = 6
    heads: int = 4
    mlp_ratio: int = 4

    images: int = 40_000
    development: int = 1_000  # further ones, for evaluation during training
    epochs: float = 5.0
    warmup_epochs: float = 0.2
    batch_size: int = 64
    peak_lr: float | None = 1e-3
    min_lr: float = 1e-5
    weight_decay: float | None = 0.05
    decay: Literal["all", "matrices", "none"] = "matrices"
    beta2: float = 0.999
    clip_norm: float | None = 1.0
    micro_batch_size: int | None = 64
    crop_padding: int = 2  # pixels, reflected at the edge; things stay whole
    gray_probability: float = 0.0

    protocol: str = "vpt"
    evaluations: int = 10

    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["fp32", "bf16", "bf16-autocast"] = "fp32"

    @property
    def shape(self) -> ViTShape:
        """The model's sizes."""
        return ViTShape(self.dim, self.depth, self.heads, self.mlp_ratio, classes=OUTPUTS)


@dataclass(frozen=True)
class Pictures:
    """Images [N, 3, 32, 32], uint8, and their contents."""

    images: "Tensor"
    pairs: "Tensor"  # [N, 48] 0 or 1
    ground: "Tensor"  # [N]
    number: "Tensor"  # [N], from 0 for one thing


def pictures(name: str, seed: int, n: int) -> Pictures:
    """The first `n` pictures of a stream; streams of different names are independent."""
    import numpy as np
    import torch

    images, scenes = [], []
    for i in range(n):
        dice = Dice(name, seed, i)
        scenes.append(draw_scene(dice))
        images.append(draw_picture(scenes[-1], dice))
    return Pictures(
        torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),
        torch.tensor([_pairs(scene) for scene in scenes]),
        torch.tensor([GROUNDS.index(scene.ground) for scene in scenes]),
        torch.tensor([len(scene.things) - 1 for scene in scenes]),
    )


def _pairs(scene: Scene) -> list[float]:
    there = {(thing.colour, thing.shape) for thing in scene.things}
    return [float(pair in there) for pair in PAIRS]


class Pretraining:
    """A `TrainTask` of pictures in memory, shifted at random by up to two pixels."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.settings = settings
        self._train = pictures("pretraining pictures", seed, settings.images)
        self._development = pictures("development pictures", seed, settings.development)

    def __len__(self) -> int:
        return len(self._train.images)

    def length(self, index: int) -> int:
        """Tokens of an image, the class token included."""
        return (self.settings.shape.image_size // TOKEN_PIXELS) ** 2 + 1

    def labels(self, index: int) -> int:
        """One label per image: its contents."""
        return 1

    def record_id(self, index: int) -> str:
        """The picture's number."""
        return f"picture {index}"

    def batch(self, indices: Sequence[int]) -> dict[str, "Tensor"]:
        """Normalised images [B, 3, S, S], and their contents."""
        settings, train, chosen = self.settings, self._train, list(indices)
        images = augmented(train.images[chosen], settings.crop_padding, settings.gray_probability)
        return {
            "images": normalised(images, settings.protocol),
            "pairs": train.pairs[chosen],
            "ground": train.ground[chosen],
            "number": train.number[chosen],
        }

    def loss(self, model: "nn.Module", batch: dict[str, "Tensor"]) -> tuple["Tensor", int]:
        """The summed cross entropy of all contents, and the number of images."""
        from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

        pairs, ground, number = parts(model(batch["images"]).float())
        loss = binary_cross_entropy_with_logits(pairs, batch["pairs"], reduction="sum")
        loss = loss + cross_entropy(ground, batch["ground"], reduction="sum")
        loss = loss + cross_entropy(number, batch["number"], reduction="sum")
        return loss, len(pairs)

    def evaluate(self, model: "nn.Module") -> dict[str, float]:
        """The shares of right answers on the development pictures."""
        return measure(model, self._development, self.settings)


def parts(logits: "Tensor") -> "Sequence[Tensor]":
    """The outputs for coloured shapes, ground and number: [B, 48], [B, 3], [B, 3]."""
    return logits.split([len(PAIRS), len(GROUNDS), MOST], dim=-1)


def measure(model: "nn.Module", seen: Pictures, settings: Settings) -> dict[str, float]:
    """Shares of pictures whose things, colour, shape, ground or number are all right."""
    import torch

    found: list[Any] = []
    with torch.no_grad():
        for images in seen.images.split(BATCH):
            pixels = normalised(images, settings.protocol).to(settings.device)
            found.append(model(pixels).float().cpu())
    pairs, ground, number = parts(torch.cat(found))
    all_right = ((pairs > 0) == (seen.pairs > 0)).all(dim=-1)
    single = seen.number == 0
    best, true = pairs.argmax(dim=-1)[single], seen.pairs.argmax(dim=-1)[single]
    shapes = len(SHAPES)
    shares = {
        "things": all_right,
        "colour": best // shapes == true // shapes,  # of single things
        "shape": best % shapes == true % shapes,
        "ground": ground.argmax(dim=-1) == seen.ground,
        "number": number.argmax(dim=-1) == seen.number,
    }
    return {name: right.float().mean().item() for name, right in shares.items()}
