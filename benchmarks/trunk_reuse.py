"""Training on fixed images with all blocks, or only from the lowest adapted block on.

    python -m benchmarks.trunk_reuse --out FILE.json

The blocks below are computed once, for about one forward pass per image. The fewer blocks are
adapted, the more of an epoch that saves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks import command
from benchmarks.measure import Part, interleaved, part, record, synchronizer
from benchmarks.models import check_vit
from zia_core import ZeroInitConfig, attach, train_head
from zia_core.errors import ZiaError
from zia_core.trunk import Trunk, trunk

ROUNDS = 7
WHOLE, REUSED, ONCE = "whole model", "from the trunk's features", "making the features, once"


@dataclass(frozen=True)
class Shape:
    """A timm ViT, the images of a step, and the steps of an epoch."""

    width: int = 192
    layers: int = 12
    heads: int = 3
    image_size: int = 224
    patch_size: int = 16
    images: int = 4
    prompt_length: int = 10
    adapted_layers: tuple[int, ...] = (1, 3, 6, 9, 12)
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Raises ZiaError if the sizes are inconsistent."""
        check_vit(self.width, self.heads, self.image_size, self.patch_size)
        if not self.adapted_layers or max(self.adapted_layers) > self.layers:
            raise ZiaError(
                f"adapted_layers {list(self.adapted_layers)} must name numbers of the "
                f"{self.layers} layers"
            )


def adapted(shape: Shape, layers: int) -> tuple[Any, Trunk]:
    """A ViT with prompts in its topmost layers, and the trunk below them."""
    from timm.models import VisionTransformer

    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=shape.image_size,
        patch_size=shape.patch_size,
        num_classes=10,
        embed_dim=shape.width,
        depth=shape.layers,
        num_heads=shape.heads,
    ).to(shape.device)
    train_head(attach(model, ZeroInitConfig(shape.prompt_length, layers)))
    for name, parameter in model.named_parameters():
        if name.endswith("gate"):
            torch.nn.init.normal_(parameter)
    return model.train(), trunk(model)


def images(shape: Shape) -> Tensor:
    """A batch of noise."""
    drawn = torch.Generator().manual_seed(0)
    size = (shape.images, 3, shape.image_size, shape.image_size)
    return torch.randn(size, generator=drawn).to(shape.device)


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    """Time a step both ways, for each number of adapted layers."""
    parts = {}
    for layers in shape.adapted_layers:
        title = f"{layers} of {shape.layers} layers adapted"
        parts[title] = _either_way(shape, layers, rounds)
    return record("trunk_reuse", shape, parts)


def _either_way(shape: Shape, layers: int, rounds: int) -> Part:
    batch = images(shape)
    model, below = adapted(shape, layers)
    features = below.features(model, batch, shape.images).to(shape.device)
    calls: dict[str, Callable[[], object]] = {
        WHOLE: _step(shape, model, lambda: model(batch)),
        REUSED: _step(shape, model, lambda: below.logits(model, features)),
        ONCE: lambda: below.features(model, batch, shape.images),
    }
    return part(interleaved(calls, rounds), WHOLE, work={"images": shape.images})


def _step(shape: Shape, model: Any, logits: Callable[[], Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    classes = torch.arange(shape.images, device=shape.device) % 10
    done = synchronizer(shape.device)

    def call() -> None:
        cross_entropy(logits(), classes).backward()
        optimizer.step()
        optimizer.zero_grad()
        done()

    return call


if __name__ == "__main__":
    command.main("trunk_reuse")
