"""Bottleneck adapters (Houlsby et al., arXiv 1902.00751)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zia_core.attachment import Model
from zia_core.baselines.encoders import blocks, sublayer_outputs
from zia_core.baselines.fine_tuning import linear_probe
from zia_core.errors import ZiaError
from zia_core.families import parameter_dtype
from zia_core.precision import compute_in_float32
from zia_core.rollback import all_or_nothing

_INIT_STD = 0.01  # the paper: 1e-2, truncated at two standard deviations


class Bottleneck(nn.Module):
    """h + up(gelu(down(h))): 2*m*C + m + C parameters, in float32 or more."""

    def __init__(
        self, width: int, bottleneck: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck, device=device, dtype=dtype)
        self.up = nn.Linear(bottleneck, width, device=device, dtype=dtype)
        for linear in (self.down, self.up):
            # Not both zero, or neither matrix would ever get a gradient.
            nn.init.trunc_normal_(linear.weight, std=_INIT_STD, a=-2 * _INIT_STD, b=2 * _INIT_STD)
            nn.init.zeros_(linear.bias)

    def forward(self, hidden_BTC: Tensor) -> Tensor:
        """[B, T, C] in the input's dtype."""
        wide = hidden_BTC.to(self.down.weight.dtype)
        added: Tensor = self.up(nn.functional.gelu(self.down(wide)))
        return hidden_BTC + added.to(hidden_BTC.dtype)

    def adapt(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        """Forward hook; a bound method, which deepcopy rebinds to the copy."""
        return self(output)


@all_or_nothing
def houlsby(model: Model, bottleneck: int = 64, *, train_norms: bool = True) -> Model:
    """Two bottleneck adapters per block, on attention's and MLP's outputs (arXiv 1902.00751).

    They come before the skip connections. Trains the adapters, the layer norms (as in the paper)
    and the task head. It starts near the
    pretrained model, not at it. The code behind VTAB's usual Adapter row differs: one adapter per
    block, frozen norms, and both matrices start at zero, so that neither gets a gradient and only
    the outer bias learns.

    Args:
        model: a timm ViT or a transformers ViT, BERT or RoBERTa, with a task head.
        bottleneck: m, the adapters' inner width.
        train_norms: train the layer norms too; the counts in LoRA's and VTAB's tables are without.

    Raises:
        ZiaError: another kind of model, or one without a task head.
    """
    found = blocks(model)
    linear_probe(model)
    device, dtype = parameter_dtype(found[0])
    for block in found:
        norm = next((m for m in block.modules() if isinstance(m, nn.LayerNorm)), None)
        if norm is None:
            raise ZiaError(
                f"{type(model).__name__} has a block without an nn.LayerNorm, from which an "
                "adapter takes its width; use a model that has one in every block."
            )
        for name, output in zip(("attention", "mlp"), sublayer_outputs(block), strict=True):
            adapter = Bottleneck(norm.normalized_shape[0], bottleneck, device, dtype)
            block.add_module(f"adapter_{name}", adapter)
            output.register_forward_hook(adapter.adapt)
    if train_norms:
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                compute_in_float32(module, back=True)
                module.requires_grad_(True)
    return model
