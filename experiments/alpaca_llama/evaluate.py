"""Validation loss, and answers to instructions."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from experiments.alpaca_llama.features import prompt_ids
from experiments.alpaca_llama.templates import Asked, prompt_text
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

# How the paper's samples were decoded (section 4.1), beside the deterministic way.
DECODINGS: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "sampled": {"do_sample": True, "top_p": 0.75, "temperature": 0.1},
}
GENERATION_BATCH = 16  # prompts answered together


class Labelled(Protocol):
    """Tokenised texts with labels, numbered from 0."""

    def __len__(self) -> int: ...

    def length(self, i: int) -> int:
        """Tokens of a text."""

    def batch(self, indices: Sequence[int]) -> dict[str, "Tensor"]:
        """input_ids, attention_mask and labels, [B, T] each."""


def label_losses(
    model: "nn.Module", dataset: Labelled, token_budget: int, chunk: int | None = None
) -> list[tuple[float, int]]:
    """Return, for every example, the sum of its labels' cross entropies and their number."""
    import torch

    from zia_core.batching import token_micro_batches
    from zia_core.losses import causal_lm_losses, label_positions

    device = next(model.parameters()).device
    found = [(0.0, 0)] * len(dataset)
    lengths = [dataset.length(i) for i in range(len(dataset))]
    for group in token_micro_batches(lengths, token_budget):
        batch = {name: value.to(device) for name, value in dataset.batch(group).items()}
        with torch.no_grad():
            losses = causal_lm_losses(model, **batch, chunk=chunk)
        counts = label_positions(batch["labels"]).sum(1).tolist()
        for i, part in zip(group, losses.double().split(counts), strict=True):
            found[i] = (part.sum().item(), len(part))
    return found


def mean_loss(losses: Sequence[tuple[float, int]]) -> float:
    """Return the loss per response token, over all examples."""
    if not (labels := sum(labels for _, labels in losses)):
        raise ZiaError("the predictions are of no response token: do the run again")
    return sum(loss for loss, _ in losses) / labels


def answers(
    model: "nn.Module",
    tokenizer: "PreTrainedTokenizerBase",
    asked: Sequence[Asked],
    decoding: str,
    new_tokens: int,
    seed: int = 0,
) -> Iterator[str]:
    """Yield the model's answers in order; sampling is a function of `seed` and the batch size."""
    import torch
    from transformers import GenerationConfig

    generator: Any = model
    device = next(model.parameters()).device
    pad = tokenizer.pad_token_id
    config = GenerationConfig(
        max_new_tokens=new_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        # LLaMA has no padding token; what is padded is masked, so any id does.
        pad_token_id=tokenizer.eos_token_id if pad is None else pad,
        **DECODINGS[decoding],
    )
    torch.manual_seed(seed)
    for start in range(0, len(asked), GENERATION_BATCH):
        prompts = prompt_ids(
            tokenizer, [prompt_text(each) for each in asked[start : start + GENERATION_BATCH]]
        )
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), config.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):  # on the left, so that all prompts end together
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        output = generator.generate(
            input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=config
        )
        for text in tokenizer.batch_decode(output[:, width:], skip_special_tokens=True):
            yield text.strip()
