"""Generate a model's answers to prompts, a batch at a time."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from experiments.language.examples import Examples
from experiments.language.multimodal import generate

if TYPE_CHECKING:
    from torch import nn
    from transformers import GenerationConfig, PreTrainedTokenizerBase


def answers(
    model: "nn.Module",
    tokenizer: "PreTrainedTokenizerBase",
    examples: Examples,
    batch_size: int,
    ends: Sequence[int] = (),
    **decoding: Any,
) -> Iterator[str]:
    """Yield the answer to each example's prompt, in order, without the space around it.

    `decoding` goes to transformers' GenerationConfig: max_new_tokens, do_sample, num_beams, ...
    `ends` are the tokens that end an answer, by default EOS. Sampling draws from torch's generator,
    and what it draws depends on the batch size.
    """
    import torch

    device = next(model.parameters()).device
    config = generation_config(tokenizer, ends, **decoding)
    for start in range(0, len(examples), batch_size):
        indices = range(start, min(start + batch_size, len(examples)))
        batch = examples.prompts(indices, config.pad_token_id)
        batch = {name: value.to(device) for name, value in batch.items()}
        with torch.no_grad():
            generated = generate(model, batch, config)
        for text in tokenizer.batch_decode(generated, skip_special_tokens=True):
            yield text.strip()


def generation_config(
    tokenizer: "PreTrainedTokenizerBase", ends: Sequence[int] = (), **decoding: Any
) -> "GenerationConfig":
    """The tokenizer's special tokens, with values of `decoding`; `ends` as in `answers`."""
    from transformers import GenerationConfig

    ends = list(ends) or [tokenizer.eos_token_id]
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends,
        # LLaMA has no padding token; any id does, since padding is masked.
        pad_token_id=ends[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        **decoding,
    )
