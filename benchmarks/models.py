"""Random backbones, with the same prompts and gates for every method."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zia_core import zero_init_layers
from zia_core.errors import ZiaError
from zia_core.layer import ZeroInit

STRENGTH = 0.3  # a(g) of every head, so that no method can skip the prompts


@dataclass(frozen=True)
class LlamaShape:
    """Sizes of a LLaMA, and its device and dtype."""

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
        """Raises ZiaError if the sizes are inconsistent."""
        if self.width % (2 * self.heads):  # rotary embeddings rotate pairs
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
    """A LLaMA with random weights, initialised on its device and in its dtype."""
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
    """Raise ZiaError if the sizes of a ViT are inconsistent."""
    if width % heads:
        raise ZiaError(f"the ViT's width {width} must be a multiple of its {heads} heads")
    if image_size % patch_size:
        raise ZiaError(f"image_size {image_size} must be a multiple of patch_size {patch_size}")


class Floor(nn.Module):
    """A frozen backbone with the backward pass that any method in the same layers needs.

    It trains a shift, initially zero, of the input of the output projection in the lowest adapted
    layer, where the prompt term is added too.
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
        """The backbone's forward pass."""
        return self.model(*args, **kwargs)

    def get_base_model(self) -> nn.Module:
        """The model that `causal_lm_loss` calls."""
        return self.model


def open_gates(*models: nn.Module) -> None:
    """Copy the first model's prompts to all, and set the gates of all heads to the same strength.

    The first has zero-init attention with hidden prompts; the others have that or PEFT's, which
    then computes the same function with its one gate per layer.
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
    """Eqs 4-8 as printed: one score matrix over [prompts; words], two softmaxes, one sum.

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
