"""A ViT's adapted blocks, and the trunk below them, in float32 and under bfloat16 autocast.

    python -m benchmarks.trunk_precision --out FILE.json

What autocast saves in a training step, and what it moves: the trunk's class tokens of handwritten
digits. The profile `small` of `vtab_vit` takes autocast for the blocks and float32 for the trunk.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks import command
from benchmarks.measure import Part, interleaved, part, record, synchronizer
from benchmarks.models import open_gates
from experiments.backbones import vision_models
from experiments.images import protocols
from experiments.images.digits import INSTALLED, digits
from experiments.images.tasks import Task
from zia_core import ZeroInitConfig, attach, train_head
from zia_core.errors import ZiaError
from zia_core.trunk import Trunk, trunk

ROUNDS = 5
DIGITS = Task("digits", "digits 8x8", "small", classes=10, test=797)  # as `vtab_vit` has it
EXACT, ROUGH = "float32", "bfloat16 autocast"


@dataclass(frozen=True)
class Shape:
    """A ViT of `vtab_vit` by its name, and the images of a step."""

    backbone: str = vision_models.CLIP.name
    protocol: str = "clip"
    resolution: int = 96
    images: int = 32
    digits: int = 200  # whose class tokens are compared
    adapted_layers: int = 2
    prompt_length: int = 10
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Raises ZiaError for an unknown backbone or protocol, or more layers than it has."""
        protocols.get(self.protocol, self.resolution)
        if self.adapted_layers > (layers := vision_models.get(self.backbone).layers):
            raise ZiaError(f"{self.backbone} has {layers} layers, not {self.adapted_layers}")


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    """Time both precisions, and compare the features."""
    model, below = adapted(shape)
    below_title = f"the {below.depth} blocks below, on {shape.images} images"
    parts = {
        f"a step of {shape.adapted_layers} adapted blocks": _step(shape, model, below, rounds),
        below_title: _trunk(shape, model, below, rounds),
    }
    return record("trunk_precision", shape, parts)


def adapted(shape: Shape) -> tuple[Any, Trunk]:
    """The ViT with prompts in its topmost layers, gates open, and the trunk below them."""
    known = vision_models.get(shape.backbone)
    model, _ = vision_models.load(known, shape.resolution)
    torch.manual_seed(0)
    model.reset_classifier(10)
    config = ZeroInitConfig(shape.prompt_length, shape.adapted_layers)
    train_head(attach(model.to(shape.device), config))
    open_gates(model)
    return model.train(), trunk(model)


def images(shape: Shape) -> Tensor:
    """Handwritten digits as the ViT gets them, [N, 3, R, R]."""
    from PIL import Image

    protocol = protocols.get(shape.protocol, shape.resolution)
    drawn = digits(Path(INSTALLED), DIGITS).test[: max(shape.digits, shape.images)]
    opened = [Image.open(io.BytesIO(each.content)).convert("RGB") for each in drawn]
    return torch.stack([protocol(image) for image in opened])


def features(shape: Shape, model: Any, below: Trunk, batch: Tensor, precision: str) -> Tensor:
    """The trunk's output [N, T, C]."""
    with _autocast(shape, precision), torch.no_grad():
        return below.features(model, batch, shape.images)


def _autocast(shape: Shape, precision: str) -> Any:
    kind = torch.device(shape.device).type
    return torch.autocast(kind, torch.bfloat16, enabled=precision == ROUGH)


def _step(shape: Shape, model: Any, below: Trunk, rounds: int) -> Part:
    batch = features(shape, model, below, images(shape)[: shape.images], EXACT).to(shape.device)
    classes = torch.arange(len(batch), device=shape.device) % 10
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    done = synchronizer(shape.device)

    def step(precision: str) -> Callable[[], None]:
        def call() -> None:
            with _autocast(shape, precision):
                loss = cross_entropy(below.logits(model, batch).float(), classes)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            done()

        return call

    calls = {precision: step(precision) for precision in (EXACT, ROUGH)}
    return part(interleaved(calls, rounds), EXACT, work={"images": len(batch)})


def _trunk(shape: Shape, model: Any, below: Trunk, rounds: int) -> Part:
    drawn = images(shape)
    made = {p: features(shape, model, below, drawn, p).float() for p in (EXACT, ROUGH)}
    exact, rough = (made[precision][:, 0] for precision in (EXACT, ROUGH))
    moved = (rough - exact).norm(dim=-1) / exact.norm(dim=-1)
    figures = {
        ROUGH: {
            "class tokens moved by, % of their length": 100 * moved.mean().item(),
            "at worst, %": 100 * moved.max().item(),
        }
    }
    batch = drawn[: shape.images]
    calls: dict[str, Callable[[], object]] = {
        EXACT: lambda: features(shape, model, below, batch, EXACT),
        ROUGH: lambda: features(shape, model, below, batch, ROUGH),
    }
    return part(interleaved(calls, rounds), EXACT, figures=figures, work={"images": len(batch)})


if __name__ == "__main__":
    command.main("trunk_precision")
