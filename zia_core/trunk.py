"""Cache the part of a frozen ViT below its lowest adapted block instead of recomputing it.

Without augmentation, an image has the same hidden states there at every step. They come from the
model's own forward pass, stopped at the lowest adapted block; training continues from them through
the model's own blocks, norm and head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zia_core.errors import ZiaError


@dataclass(frozen=True)
class Trunk:
    """The part of a model whose outputs never change in training; found by `trunk`.

    Attributes:
        depth: the number of its blocks, from 0 (patch embedding only) to all.
    """

    depth: int

    def features(self, model: nn.Module, images: Tensor, batch_size: int) -> Tensor:
        """The hidden states that enter the lowest adapted block: [N, 3, H, W] -> [N, T, C].

        They are on the CPU and take N*T*C*4 bytes in float32: for 1,000 images, 9 MB with 17 tokens
        of width 128, or 605 MB with ViT-B/16's 197 tokens of width 768.

        Args:
            model: the one that the trunk was found in.
            images: preprocessed for the model.
            batch_size: of training. Every pass is padded to it, since matrix products of other
                sizes may sum in another order; which images share a batch does not matter.
        """
        device = next(model.parameters()).device
        found = []
        for part in images.split(batch_size):
            filling = part[:1].expand(batch_size - len(part), -1, -1, -1)
            whole = torch.cat([part, filling]) if len(filling) else part
            found.append(self._entering(model, whole.to(device))[: len(part)].cpu())
        return torch.cat(found)

    def logits(self, model: Any, features_BTC: Tensor) -> Tensor:
        """The output of `model(images)`, from the images' features: [B, T, C] -> [B, classes]."""
        hidden_BTC = model.norm(model.blocks[self.depth :](features_BTC))
        return model.forward_head(hidden_BTC)

    def _entering(self, model: Any, images: Tensor) -> Tensor:
        """Run the model up to the lowest adapted block."""
        above = [*model.blocks[self.depth :], model.norm][0]
        # Before a method's own hooks on that block, which must run at every step.
        handle = above.register_forward_pre_hook(_stop, prepend=True)
        stopping = _STOPPING.set(True)
        try:
            with torch.no_grad():
                model(images)
        except _ReachedError as reached:
            return reached.hidden
        finally:
            _STOPPING.reset(stopping)
            handle.remove()
        raise AssertionError("the forward pass did not come to the lowest adapted block")


def trunk(model: nn.Module) -> Trunk:
    """Find the trunk of an adapted timm ViT.

    Raises:
        ZiaError: caching would not be exact, because something below the lowest adapted block is
            trained, hooked or random, or the model is not a plain timm VisionTransformer.
    """
    vit = _plain_vit(model)
    untouched = [not _is_touched(block) for block in vit.blocks]
    depth = untouched.index(False) if False in untouched else len(untouched)
    above = [*vit.blocks[depth:], vit.norm, vit.attn_pool, vit.fc_norm, vit.head_drop, vit.head]
    redone = {id(module) for part in above if part is not None for module in part.modules()}
    for name, module in vit.named_modules():
        if id(module) in redone:
            continue
        trained = [n for n, p in module.named_parameters(recurse=False) if p.requires_grad]
        if trained or _is_hooked(module) or _is_random(module):
            why = "is trained" if trained else "is hooked" if _is_hooked(module) else "is random"
            full_name = ".".join([*filter(None, [name]), *trained[:1]]) or type(vit).__name__
            raise ZiaError(
                f"hidden states below the lowest adapted block change from step to step, since "
                f"{full_name} {why}; train without reusing them"
            )
    return Trunk(depth)


class _ReachedError(Exception):
    """Ends a forward pass at the end of the trunk; not an error."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


# Whether this thread's forward pass should end there: other threads may use the same model.
_STOPPING: ContextVar[bool] = ContextVar("trunk_stopping", default=False)


def _stop(module: nn.Module, args: tuple[Tensor, ...]) -> None:
    if _STOPPING.get():
        raise _ReachedError(args[0])


def _plain_vit(model: nn.Module) -> Any:
    from timm.models import VisionTransformer

    methods = ("forward", "forward_features")
    if isinstance(model, VisionTransformer) and all(
        getattr(type(model), name) is getattr(VisionTransformer, name) for name in methods
    ):
        return model
    raise ZiaError(
        f"the trunk of a {type(model).__name__} cannot be reused; that takes a plain timm "
        "VisionTransformer"
    )


def _is_touched(block: nn.Module) -> bool:
    trained = any(parameter.requires_grad for parameter in block.parameters())
    return trained or any(_is_hooked(module) for module in block.modules())


def _is_hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _is_random(module: nn.Module) -> bool:
    """Whether its output in train mode is random or depends on the rest of the batch."""
    return isinstance(module, nn.modules.batchnorm._NormBase) or any(_rates(module))


def _rates(module: nn.Module) -> Iterator[float]:
    from timm.layers.drop import DropPath
    from timm.layers.patch_dropout import PatchDropout

    kinds: tuple[tuple[type, str], ...] = (
        (nn.modules.dropout._DropoutNd, "p"),
        (DropPath, "drop_prob"),
        (PatchDropout, "prob"),
    )
    return (getattr(module, rate) or 0.0 for kind, rate in kinds if isinstance(module, kind))
