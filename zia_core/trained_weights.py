"""Save and load the trained parameters of any method.

For zero-init attention the file is one that `load_adapter` reads; baselines use the same format,
with their method's name in the header.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, distributed, nn

from zia_core.adapters import about_adapter, packed, unpacked
from zia_core.attachment import zero_init_layers
from zia_core.errors import ZiaError
from zia_core.identity import check_backbone
from zia_core.sharding import is_sharded, whole


def pack_trained(model: nn.Module, method: str, backbone: Mapping[str, Any]) -> bytes:
    """The contents of a file of the trainable parameters; empty if there are none.

    If the model is sharded, every rank must call this, and only the first gets the contents.

    Args:
        model: after training.
        method: name for the header.
        backbone: `backbone_identity` of the bare model, before the method changed it.
    """
    trained: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if is_sharded(model):
        first = distributed.get_rank() == 0
        gathered = ((name, whole(p.detach())) for name, p in trained.items())
        trained = {name: tensor.cpu() for name, tensor in gathered if first}
    if not trained:
        return b""
    if zero_init_layers(model):
        return packed(trained, about_adapter(model, backbone))
    return packed(trained, {"method": method, "backbone": backbone})


def load_trained(model: nn.Module, path: Path, backbone: Mapping[str, Any]) -> None:
    """Load such a file into a model prepared for the same method.

    Raises:
        ZiaError: the file is missing or damaged, or of another backbone or method.
    """
    about, tensors = unpacked(path)
    check_backbone(path, about, backbone)
    trained = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}
    if trained != {name: tensor.shape for name, tensor in tensors.items()}:
        raise ZiaError(f"{path} does not hold the parameters of this run; do the run again")
    model.load_state_dict(tensors, strict=False)
