"""One layer of frozen causal attention with prompts, on random weights: it needs torch alone."""

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, scaled_dot_product_attention

from zia_core.attention import PromptKV, prompt_term

VOCABULARY, HEADS, WIDTH, PROMPTS = 64, 2, 8, 4


class TinyModel(nn.Module):
    """[B, T] tokens to [B, T, VOCABULARY] logits; prompts and gates are trained, nothing else."""

    def __init__(self, seed: int, p: float) -> None:
        super().__init__()
        self.p = p
        frozen = torch.Generator().manual_seed(7)
        shapes = {
            "embedding": (VOCABULARY, HEADS * WIDTH),
            "projections": (3, HEADS * WIDTH, HEADS * WIDTH),
            "out": (HEADS * WIDTH, VOCABULARY),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.randn(shape, generator=frozen) / 4)
        own = torch.Generator().manual_seed(seed)
        for name in ("prompt_key", "prompt_value"):
            random = torch.randn(HEADS, PROMPTS, WIDTH, generator=own)
            self.register_parameter(name, nn.Parameter(random))
        # A closed gate would hide what the prompts do.
        self.gate = nn.Parameter(torch.randn(HEADS, 1, 1, generator=own))

    def forward(self, tokens: Tensor) -> Tensor:
        x_BTC = self.embedding[tokens]
        q, k, v = (
            (x_BTC @ projection).unflatten(-1, (HEADS, WIDTH)).transpose(1, 2)
            for projection in self.projections
        )
        prompts = PromptKV(self.prompt_key, self.prompt_value * torch.tanh(self.gate))
        mixed_BHTD = scaled_dot_product_attention(q, k, v, is_causal=True)
        mixed_BHTD = mixed_BHTD + prompt_term(q, prompts, scale=WIDTH**-0.5)
        mixed_BTC = mixed_BHTD.transpose(1, 2).flatten(2)
        return (x_BTC + dropout(mixed_BTC, self.p, self.training)) @ self.out
