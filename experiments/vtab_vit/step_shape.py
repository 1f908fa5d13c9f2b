"""The largest micro-batch of a run, on torch's meta device."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from experiments.backbones import shapes, vision_models
from experiments.harness.spec import RunSpec
from experiments.training.step_cost import MicroBatch
from experiments.training.step_cost import micro_batch as _micro_batch
from experiments.vtab_vit import methods
from experiments.vtab_vit.methods import has_trunk
from experiments.vtab_vit.settings import Settings
from experiments.vtab_vit.task import logits

if TYPE_CHECKING:
    from torch import Tensor, nn

CLASSES = 397  # the most that a task has, SUN397


def micro_batch(spec: RunSpec, device: str = "meta") -> MicroBatch:
    """A full micro-batch of images or, if the trunk is reused, of its features."""
    import torch
    from torch.nn.functional import cross_entropy

    from zia_core.trunk import trunk

    settings: Settings = spec.settings
    backbone: Any = shapes.vit(vision_models.get(spec.backbone), device, settings.resolution)
    with torch.device(device):
        model: Any = methods.prepare(backbone, spec.method, CLASSES, settings, spec.seed)
    rows = min(settings.batch_size, settings.micro_batch_size or settings.batch_size)
    reused = settings.reuse_trunk and has_trunk(spec.method, settings)
    found = trunk(model) if reused else None
    if found is None:
        inputs = torch.zeros(rows, 3, settings.resolution, settings.resolution)
    else:
        tokens = backbone.patch_embed.num_patches + 1
        inputs = torch.zeros(rows, tokens, backbone.embed_dim)

    def loss(model: "nn.Module", batch: "dict[str, Tensor]") -> "tuple[Tensor, int]":
        scores = logits(model, batch["inputs"], found)
        return cross_entropy(scores.float(), batch["labels"], reduction="sum"), rows

    batch = {"inputs": inputs, "labels": torch.zeros(rows, dtype=torch.int64)}
    step = _micro_batch(model, settings, batch, loss, rows)
    # Images that are scored pass through the whole model.
    images = torch.zeros(rows, 3, settings.resolution, settings.resolution, device=device)
    return replace(step, forward=lambda: model(images))
