"""Captions as examples, and the scores of generated captions."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.coco_caption.data import Captioned
from experiments.language.alpaca_prompt import PROMPT_NO_INPUT
from experiments.language.examples import Example
from experiments.language.tokens import prompt_ids, response_ids
from experiments.metrics.coco.ptb import tokenize
from experiments.metrics.coco.scorer import degenerate, score
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPTS = {
    "demo": "Generate caption of this image :",
    "alpaca": PROMPT_NO_INPUT.format(instruction="Generate caption for this image"),
}
# Between prompt and caption: Alpaca's template has no space after its colon.
SEPARATOR = {"demo": " ", "alpaca": ""}
DECODINGS: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "sampled": {"do_sample": True, "temperature": 0.1, "top_p": 0.75},
    "beam": {"do_sample": False, "num_beams": 5, "min_new_tokens": 8},
}
SCORES: Mapping[str, Any] = {
    **{f"Bleu_{n}": float for n in range(1, 5)},  # as officially: [0, 1]
    "ROUGE_L": float,
    "CIDEr": float,  # in [0, 10]; a paper's 122.2 is 1.222 here
    "images": int,  # captioned and scored
    "empty_captions": int,  # of these
}


def training_examples(
    images: Sequence[Captioned],
    tokenizer: "PreTrainedTokenizerBase",
    prompt: str,
    max_length: int,
    image_row: Callable[[Path], int | None],
) -> tuple[list[Example], int]:
    """One example for every caption of every image, and the number of captions that were cut.

    A caption that is too long loses its last tokens, EOS included. ZiaError if the prompt leaves no
    room for a caption.
    """
    (start,) = prompt_ids(tokenizer, [PROMPTS[prompt]])
    texts = [SEPARATOR[prompt] + caption for each in images for caption in each.captions]
    owners = [each for each in images for _ in each.captions]
    room = max_length - len(start)
    if room < 1:
        raise ZiaError(
            f"the prompt {prompt!r} takes {len(start)} tokens, so max_length={max_length} leaves "
            f"none for a caption: set max_length above {len(start)}"
        )
    responses = response_ids(tokenizer, texts)
    examples = [
        Example(identity, start, response[:room], image_row(each.image))
        for identity, each, response in zip(caption_ids(images), owners, responses, strict=True)
    ]
    return examples, sum(len(response) > room for response in responses)


def caption_ids(images: Sequence[Captioned]) -> list[str]:
    """The id of every caption of every image: the image's id and a number."""
    return [f"{each.id}#{place}" for each in images for place in range(len(each.captions))]


def asked_examples(
    images: Sequence[Captioned],
    tokenizer: "PreTrainedTokenizerBase",
    prompt: str,
    image_row: Callable[[Path], int | None],
) -> list[Example]:
    """One prompt for every image."""
    (start,) = prompt_ids(tokenizer, [PROMPTS[prompt]])
    return [Example(str(each.id), start, [], image_row(each.image)) for each in images]


def scores(images: Sequence[Captioned], captions: Mapping[Any, str]) -> dict[str, Any]:
    """`SCORES` of the captions by image id."""
    written = [captions[each.id] for each in images]
    candidates = [tokenize(caption) for caption in written]
    references = [[tokenize(text) for text in each.captions] for each in images]
    found = score(candidates, references)
    for remark in degenerate(candidates, references):
        warnings.warn(remark, stacklevel=2)
    empty = sum(not caption for caption in written)
    return {**found, "images": len(images), "empty_captions": empty}
