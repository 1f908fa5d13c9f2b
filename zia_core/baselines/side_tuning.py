"""Side-tuning (Zhang et al., arXiv 1912.13503) of an image classifier."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from zia_core.attachment import Model
from zia_core.baselines.encoders import image_encoder
from zia_core.baselines.fine_tuning import linear_probe
from zia_core.errors import ZiaError
from zia_core.families import parameter_dtype
from zia_core.head import task_head
from zia_core.rollback import all_or_nothing

_CHANNELS = (32, 64, 128, 256)
# The images of running forward passes in this thread or task; others may share the model.
_IMAGES: ContextVar[Mapping[SideTuning, Tensor]] = ContextVar(
    "side_tuning_images", default=MappingProxyType({})
)


class SideTuning(nn.Module):
    """alpha * B(x) + (1 - alpha) * W S(x), alpha = sigmoid(a); at `<model>.side_tuning`.

    Parameters:
        network: S, from images to features.
        projection: W, [C, features], no bias.
        alpha: a, a scalar.
    """

    def __init__(self, network: nn.Module, features: int, width: int) -> None:
        super().__init__()
        self.network = network
        device, dtype = parameter_dtype(network)
        self.projection = nn.Linear(features, width, bias=False, device=device, dtype=dtype)
        self.alpha = nn.Parameter(torch.zeros((), device=device, dtype=dtype))

    def see_image(self, patches: nn.Module, args: tuple[Tensor]) -> None:
        """Pre-hook of the patch projection: record the images [B, channels, H, W]."""
        _IMAGES.set({**_IMAGES.get(), self: args[0]})

    def blend(self, head: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Pre-hook of the head: blend the backbone's pooled features [B, C] with the side's."""
        images = dict(_IMAGES.get())
        image = images.pop(self)
        _IMAGES.set(images)
        side: Tensor = self.projection(self.network(image.to(self.alpha.dtype)).flatten(1))
        share = torch.sigmoid(self.alpha)
        return (share * args[0] + (1.0 - share) * side, *args[1:])


@all_or_nothing
def side_tuning(model: Model, network: nn.Module | None = None) -> Model:
    """A small network beside the frozen backbone, and the head on a blend (arXiv 1912.13503).

    The blend starts at one half of each, not at the pretrained model. VPT's SIDETUNE row uses the
    convolutions of an ImageNet-pretrained AlexNet, 9.5M parameters with the projection; the default
    here is a small, untrained network for images of any size.

    Args:
        model: a timm or transformers ViT with a task head.
        network: maps images to features [B, ...]; four convolutions if None. It is trained and must
            not have buffers.

    Raises:
        ZiaError: not a ViT, no task head, or a side network with buffers.
    """
    encoder = image_encoder(model)
    if network is not None and any(True for _ in network.buffers()):
        raise ZiaError(
            f"The side network {type(network).__name__} has buffers, which are not saved with the "
            "trained parameters; use one without batch norm."
        )
    linear_probe(model)
    device, dtype = parameter_dtype(encoder.patches)
    side = network or _convolutions(encoder.channels)
    side = side.to(device=device, dtype=dtype).requires_grad_(True)
    with torch.no_grad():
        size = (1, encoder.channels, *encoder.image_size)
        features = side(torch.zeros(size, device=device, dtype=dtype)).numel()
    tuning = SideTuning(side, features, encoder.width)
    encoder.patches.register_forward_pre_hook(tuning.see_image)
    task_head(model).register_forward_pre_hook(tuning.blend)
    model.add_module("side_tuning", tuning.train(model.training))
    return model


def _convolutions(channels: int) -> nn.Module:
    """[B, channels, H, W] -> [B, 256, 1, 1]: four strided convolutions, then the mean."""
    layers: list[nn.Module] = []
    for width in _CHANNELS:
        layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
