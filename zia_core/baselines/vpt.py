"""Visual prompt tuning, shallow and deep (Jia et al., arXiv 2203.12119)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from zia_core.attachment import Model
from zia_core.baselines.encoders import ImageEncoder, image_encoder
from zia_core.baselines.fine_tuning import linear_probe
from zia_core.families import parameter_dtype
from zia_core.rollback import all_or_nothing


class VisualPrompt(nn.Module):
    """The prompts of one block; at `<block>.visual_prompt`.

    Parameters (float32 or more):
        prompt: [K, C].
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        length: int,
        dropout: float,
        replaces: bool,
        place: tuple[torch.device, torch.dtype],
    ) -> None:
        super().__init__()
        device, dtype = place
        self.prompt = nn.Parameter(torch.empty(length, encoder.width, device=device, dtype=dtype))
        # Xavier's bound for a patch projection: fan-in 3*p*p, fan-out C (the paper's appendix A).
        fan_in = encoder.channels * math.prod(encoder.patch_size)
        bound = math.sqrt(6.0 / (fan_in + encoder.width))
        nn.init.uniform_(self.prompt, -bound, bound)
        self.dropout = nn.Dropout(dropout)
        self.start, self.replaces = encoder.prefix_tokens, replaces

    def install(self, block: nn.Module) -> None:
        """Hook a block, with a bound method, which deepcopy rebinds to the copy."""
        block.add_module("visual_prompt", self)
        block.register_forward_pre_hook(self.insert)

    def insert(self, block: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Pre-hook of the block: [B, N, C] -> [CLS; prompts; patches], [B, N + K, C].

        With `replaces`, the prompts take the place of the lower block's prompt outputs.
        """
        hidden_BNC: Tensor = args[0]
        prompt_BKC = self.prompt.to(hidden_BNC.dtype).expand(len(hidden_BNC), -1, -1)
        patches = self.start + (len(self.prompt) if self.replaces else 0)
        parts = [hidden_BNC[:, : self.start], self.dropout(prompt_BKC), hidden_BNC[:, patches:]]
        return (torch.cat(parts, dim=1), *args[1:])

    def remove(self, norm: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        """Pre-hook of the final norm: remove the prompts, so that pooling does not see them."""
        hidden_BNC = args[0]
        patches = self.start + len(self.prompt)
        return (torch.cat([hidden_BNC[:, : self.start], hidden_BNC[:, patches:]], dim=1),)


@all_or_nothing
def vpt(model: Model, prompt_length: int = 50, *, deep: bool, dropout: float = 0.1) -> Model:
    """Prompts between CLS and patches, in the first block or in all (arXiv 2203.12119).

    Trains the prompts and the task head. It does not start at the pretrained model. 50 prompts in a
    ViT-B/16 are 38,400 parameters shallow and 460,800 deep (the paper's section 3.2: 0.038M and
    0.46M).

    Args:
        model: a timm or transformers ViT with a task head.
        prompt_length: K; the paper chooses it per task, between 1 and 200.
        deep: new prompts before every block (VPT-deep), or only before the first (VPT-shallow).
        dropout: of the prompts, with a mask per sample.

    Raises:
        ZiaError: not a ViT, or no task head.
    """
    encoder = image_encoder(model)
    linear_probe(model)
    place = parameter_dtype(encoder.blocks[0])
    first, *others = encoder.blocks if deep else encoder.blocks[:1]
    below = VisualPrompt(encoder, prompt_length, dropout, False, place)
    below.install(first)
    for block in others:
        VisualPrompt(encoder, prompt_length, dropout, True, place).install(block)
    encoder.norm.register_forward_pre_hook(below.remove)
    return model
