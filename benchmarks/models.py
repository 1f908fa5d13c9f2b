"""Random backbones, and the same prompts and gates in every method that has them."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zia_core import zero_init_layers
from zia_core.errors import ZiaError
from zia_core.layer import ZeroInit

STRENGTH = 0.3  # a(g) of every head, so that no method can leave the prompts out


@dataclass(frozen=True)
class LlamaShape:
    """The sizes of a LLaMA-architecture model, and what it runs on."""

    width: int = 768
    layers: int = 8
    heads: int = 12
    kv_heads: int = 4
    mlp: int = 2048
    vocabulary: int = 8192
    prompt_length: int = 10
    adapted_layers: int = 8
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Raises ZiaError where no LLaMA has these sizes."""
        if self.width % (2 * self.heads):  # rotary embeddings turn pairs
            raise ZiaError(
                f"the width {self.width} must be an even multiple of the {self.heads} heads"
            )
        if self.heads % self.kv_heads:
            raise ZiaError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.adapted_layers > self.layers:
            raise ZiaError(
                f"adapted_layers ({self.adapted_layers}) must be at most layers ({self.layers})"
            )


def random_llama(shape: LlamaShape) -> Any:
    """A LLaMA with random weights, drawn where it is to run and in its own precision."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=2048,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, shape.dtype))
    try:
        with torch.device(shape.device):
            return LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)


def check_vit(width: int, heads: int, image_size: int, patch_size: int) -> None:
    """Raise ZiaError where no ViT has these sizes."""
    if width % heads:
        raise ZiaError(f"the ViT's width {width} must be a multiple of its {heads} heads")
    if image_size % patch_size:
        raise ZiaError(f"image_size {image_size} must be a multiple of patch_size {patch_size}")


class Floor(nn.Module):
    """A frozen backbone with the backward pass that any method in the same layers needs.

    What the lowest adapted layer's attention gives to its output projection, where the prompts'
    term is added too, gets a trained shift, zero at the start.
    """

    def __init__(self, model: Any, projection: nn.Module) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        weight = next(projection.parameters())
        self.shift = nn.Parameter(torch.zeros(weight.shape[1], device=weight.device))
        projection.register_forward_pre_hook(self._add)

    def _add(self, projection: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        return (args[0] + self.shift.to(args[0].dtype),)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the backbone gives."""
        return self.model(*args, **kwargs)

    def get_base_model(self) -> nn.Module:
        """What `causal_lm_loss` runs."""
        return self.model


def open_gates(*models: nn.Module) -> None:
    """Give all models the first one's prompts, and gates of the same strength to all heads.

    The first has zero-init attention with hidden prompts; the others that, or PEFT's, whose one
    gate a layer is then the same function.
    """
    prompts = [layer.prompt.detach().clone() for layer in zero_init_layers(models[0])]
    for model in models:
        adapted: list[Any] = [
            m for m in model.modules() if isinstance(m, ZeroInit) or hasattr(m, "adaption_gate")
        ]
        with torch.no_grad():
            for layer, prompt in zip(adapted, prompts, strict=True):
                if isinstance(layer, ZeroInit):
                    layer.prompt.copy_(prompt)
                    layer.gate.fill_(math.atanh(STRENGTH))
                else:
                    layer.adaption_prompt.copy_(prompt[None])
                    layer.adaption_gate.fill_(STRENGTH)


def reference_concatenation(
    q_BHTD: Tensor,
    k_BHTD: Tensor,
    v_BHTD: Tensor,
    prompt_key_HKD: Tensor,
    prompt_value_HKD: Tensor,
    strength_H: Tensor,
) -> Tensor:
    """Eqs 4-8 as they are written: one score matrix over [prompts; words], two softmaxes, one sum.

    Causal, softmaxes in float32; [B, H, T, D].
    """
    batch, _, T, D = q_BHTD.shape
    K = prompt_key_HKD.shape[-2]
    keys = torch.cat([prompt_key_HKD.expand(batch, -1, -1, -1), k_BHTD], dim=2)
    values = torch.cat([prompt_value_HKD.expand(batch, -1, -1, -1), v_BHTD], dim=2)
    scores = q_BHTD @ keys.transpose(-1, -2) / math.sqrt(D)
    hidden = torch.ones(T, T, dtype=torch.bool, device=q_BHTD.device).triu(1)
    words = scores[..., K:].masked_fill(hidden, -math.inf)
    wide = torch.promote_types(scores.dtype, torch.float32)
    weights = torch.cat(
        [
            scores[..., :K].softmax(-1, dtype=wide) * strength_H[:, None, None],
            words.softmax(-1, dtype=wide),
        ],
        dim=-1,
    )
    return weights.to(values.dtype) @ values
