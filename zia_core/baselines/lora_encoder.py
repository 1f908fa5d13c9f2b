"""LoRA (arXiv 2106.09685) on the query and value projections of an encoder.

PEFT's, if queries and values have a linear layer each. timm and ModernBERT fuse queries, keys and
values in one; a LoRA on it would adapt the keys too and share A, so here queries and values get
low-rank terms of their own, added to their thirds of the fused output.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from zia_core.attachment import Model
from zia_core.baselines.fine_tuning import linear_probe
from zia_core.errors import ZiaError
from zia_core.families import Layer, attention_layers, parameter_dtype
from zia_core.four_bit import without_kernel_warning
from zia_core.head import task_head, train_head
from zia_core.rollback import all_or_nothing


class LowRank(nn.Module):
    """(alpha / r) * B A x; A is initialised as in PEFT, B to zero."""

    def __init__(
        self,
        width: tuple[int, int],
        rank: int,
        alpha: float,
        dropout: float,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.lora_A = nn.Linear(width[0], rank, bias=False, device=device, dtype=dtype)
        self.lora_B = nn.Linear(rank, width[1], bias=False, device=device, dtype=dtype)
        self.dropout = nn.Dropout(dropout)
        self.scaling = alpha / rank
        nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5))
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """[B, N, C] -> [B, N, H*D], in float32 or more."""
        wide = self.dropout(x_BNC.to(self.lora_A.weight.dtype))
        low_rank: Tensor = self.lora_B(self.lora_A(wide))
        return low_rank * self.scaling


class FusedLora(nn.Module):
    """Low-rank terms on the query and value thirds of a layer [queries | keys | values]."""

    def __init__(self, qkv: nn.Linear, rank: int, alpha: int, dropout: float) -> None:
        super().__init__()
        width = (qkv.in_features, qkv.out_features // 3)
        options = (rank, alpha, dropout, *parameter_dtype(qkv))
        self.query, self.value = LowRank(width, *options), LowRank(width, *options)

    def add(self, qkv: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        """Forward hook on the layer: [B, N, 3*H*D]."""
        query, key, value = output.chunk(3, dim=-1)
        query = (query + self.query(args[0])).to(output.dtype)
        value = (value + self.value(args[0])).to(output.dtype)
        return torch.cat([query, key, value], dim=-1)


@all_or_nothing
def lora_encoder(model: Model, rank: int = 8, alpha: int = 16, dropout: float = 0.0) -> Model:
    """LoRA on q and v of every layer of an encoder, and the task head (arXiv 2106.09685).

    Starts at the pretrained model, since B is zero. A and B are float32 whatever the backbone's
    precision. Rank 8 is 294,912 parameters in a ViT-B/16 or BERT-base and 786,432 in RoBERTa-large
    (the paper's Table 2: 0.3M and 0.8M).

    Args:
        model: a ViT of timm or transformers, or an encoder that `prompt_tuning` takes, with a task
            head.
        rank: r.
        alpha: low-rank terms are scaled by alpha / r.
        dropout: on the input of A.

    Raises:
        ZiaError: unsupported model, or one without a task head.
    """
    layers = attention_layers(model)
    task_head(model)  # refuse a model without one before changing it
    fused = "qkv" if layers[0].timm else "Wqkv"
    if hasattr(layers[0].attention, fused):
        linear_probe(model)
        for layer in layers:
            attention: Any = layer.attention
            qkv = getattr(attention, fused)
            attention.lora = FusedLora(qkv, rank, alpha, dropout)
            qkv.register_forward_hook(attention.lora.add)
        return model
    _inject(model, [name for layer in layers for name in _query_value(layer)], rank, alpha, dropout)
    return train_head(model)  # PEFT froze everything but A and B


def _query_value(layer: Layer) -> list[str]:
    """Full names of a transformers layer's query and value projections."""
    for query, value in (("query", "value"), ("q_proj", "v_proj"), ("q_lin", "v_lin")):
        if hasattr(layer.attention, query):
            return [f"{layer.name}.{query}", f"{layer.name}.{value}"]
    raise ZiaError(f"{layer.name} has no query and value projections that LoRA knows.")


def _inject(model: nn.Module, targets: list[str], rank: int, alpha: int, dropout: float) -> None:
    with without_kernel_warning():
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.tuners_utils import cast_adapter_dtype

    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets)
    inject_adapter_in_model(config, model)
    cast_adapter_dtype(model, "default")
