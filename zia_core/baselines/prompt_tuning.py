"""Prompt tuning (Lester et al., arXiv 2104.08691) of a text encoder with a task head.

PEFT's version returns logits of prompts and words for question answering, so that spans are off by
K, drops BERT's segments, and gives sequence classification the first prompt instead of CLS. Here
the prompts' outputs are removed after the last layer; otherwise the function is PEFT's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zia_core.attachment import Model
from zia_core.baselines.encoders import TextEncoder, text_encoder
from zia_core.baselines.fine_tuning import linear_probe
from zia_core.errors import ZiaError
from zia_core.families import parameter_dtype
from zia_core.rollback import all_or_nothing


class SoftPrompt(nn.Module):
    """Learned word embeddings before the input; at `<base model>.soft_prompt`.

    Parameters (float32 or more):
        prompt: [K, C].
    """

    def __init__(self, length: int, encoder: TextEncoder) -> None:
        super().__init__()
        words = encoder.words
        device, dtype = parameter_dtype(words)
        chosen = torch.randperm(words.num_embeddings, device=device)[:length]
        self.prompt = nn.Parameter(words.weight.detach()[chosen].to(dtype))
        self.most_words = encoder.most_tokens - length

    def insert(
        self, base: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[()], dict[str, Any]]:
        """Pre-hook of the base model: put K embeddings, visible and in segment 0, first."""
        kwargs = dict(kwargs)
        ids = args[0] if args else kwargs.pop("input_ids", None)
        words = kwargs.get("inputs_embeds")
        words_BTC: Tensor = base.get_input_embeddings()(ids) if words is None else words
        batch, length, K = *words_BTC.shape[:2], len(self.prompt)
        if len(args) > 1 or kwargs.get("position_ids") is not None:
            raise ZiaError("Prompt tuning numbers the positions itself; leave position_ids out.")
        if length > self.most_words:
            raise ZiaError(
                f"The model has too few positions for {K} prompts and {length} words; use at most "
                f"{self.most_words} words."
            )
        mask = kwargs.get("attention_mask")
        mask_BT = words_BTC.new_ones(batch, length, dtype=torch.long) if mask is None else mask
        kwargs["attention_mask"] = nn.functional.pad(mask_BT, (K, 0), value=1)
        if kwargs.get("token_type_ids") is not None:
            kwargs["token_type_ids"] = nn.functional.pad(kwargs["token_type_ids"], (K, 0))
        prompt_BKC = self.prompt.to(words_BTC.dtype).expand(batch, -1, -1)
        kwargs["inputs_embeds"] = torch.cat([prompt_BKC, words_BTC], dim=1)
        return (), kwargs

    def remove(self, encoder: nn.Module, args: Any, output: Any) -> Any:
        """Hook after the last layer: keep the words' hidden states, [B, K + T, C] -> [B, T, C]."""
        output.last_hidden_state = output.last_hidden_state[:, len(self.prompt) :]
        return output


@all_or_nothing
def prompt_tuning(model: Model, prompt_length: int = 20) -> Model:
    """Train K input embeddings and the task head (arXiv 2104.08691).

    Prompts start at the embeddings of words sampled from the vocabulary, one of the paper's
    options. They have positions and segments like words, which shifts the words' positions by K; it
    does not start at the pretrained model.

    Args:
        model: a transformers BERT, RoBERTa, XLM-R, CamemBERT, ELECTRA, DistilBERT or ModernBERT
            with a task head.
        prompt_length: K; the paper's default is 100.

    Raises:
        ZiaError: another kind of model, or one without a task head.
    """
    encoder = text_encoder(model)
    linear_probe(model)
    prompt = SoftPrompt(prompt_length, encoder)
    encoder.base.soft_prompt = prompt
    encoder.base.register_forward_pre_hook(prompt.insert, with_kwargs=True)
    encoder.last.register_forward_hook(prompt.remove)
    return model
