"""How well the adapted model still predicts plain text, in nats per token [ours].

The paper says that the backbone's knowledge is preserved and gives no number. This is the mean
next-token loss on text that nobody trained on: in `mini`, articles of the generated world; in the
other profiles, 64 paragraphs of SQuAD's official dev-v1.1, if $ZIA_DATA has it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.data.files import DATA_VARIABLE, official_file, text_field
from experiments.data.subsets import sample
from experiments.harness.rehearsal import is_rehearsal
from experiments.io.files import canonical_json
from experiments.language.examples import Examples
from experiments.language.losses import example_losses
from experiments.language.tokens import prompt_ids
from experiments.metrics.squad.official import entries
from experiments.mini_world.documents import Library
from experiments.mini_world.provided import PROFILE as MINI
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

SET = "language"  # the set of these predictions
TEXTS = 64
MAX_TOKENS = 512  # of a text, BOS included; the rest is not read
# The pocket backbones were trained on documents from number 0, at most 120,000 in a stage.
FIRST_ARTICLE = 10_000_000
FILE = "squad/dev-v1.1.json"
# Of the chosen paragraphs: losses on other texts cannot be compared.
FINGERPRINT = "ed10c8ecc198c060c3d1c07a98c60c084f5455ff7c88e2734865417b1c51fb19"


@dataclass(frozen=True)
class HeldOut:
    """Texts by id, and a description of them; without texts, the reason."""

    texts: Mapping[str, str]
    about: str


def held_out_texts(profile: str) -> HeldOut:
    """The texts for a profile; none if SQuAD's official file is missing or damaged."""
    if profile == MINI:
        library = Library(0, {"article": 1.0})
        numbers = range(FIRST_ARTICLE, FIRST_ARTICLE + TEXTS)
        articles = {str(number): library.document(number) for number in numbers}
        return HeldOut(articles, f"{TEXTS} articles of the generated world")
    if (path := official_file(FILE)) is None:
        return HeldOut({}, f"not measured: ${DATA_VARIABLE} has no {FILE}")
    try:
        contexts = {
            text_field(entry.paragraph, "context", entry.where) for entry in entries(path, "1.1")
        }
    except ZiaError:
        return HeldOut({}, f"not measured: {FILE} in ${DATA_VARIABLE} is damaged")
    paragraphs = {_digest(text): text for text in contexts}
    chosen = {digest: paragraphs[digest] for digest in sorted(paragraphs)[:TEXTS]}
    if is_rehearsal(profile):  # whose SQuAD may be generated
        return HeldOut(dict(sample(list(chosen.items()))), f"the first paragraphs of {FILE}")
    if _digest(canonical_json(list(chosen))) != FINGERPRINT:
        return HeldOut({}, f"not measured: {FILE} in ${DATA_VARIABLE} is not the official file")
    return HeldOut(chosen, f"{TEXTS} paragraphs of SQuAD dev-v1.1")


def language_losses(
    model: "nn.Module",
    tokenizer: "PreTrainedTokenizerBase",
    texts: Mapping[str, str],
    token_budget: int,
    chunk: int | None = None,
) -> list[dict[str, Any]]:
    """Return a prediction for every text: its id, its summed loss, and its number of labels.

    Every token but the first, which is BOS if the tokenizer has one, is a label.
    """
    ids = prompt_ids(tokenizer, list(texts.values()))
    examples = Examples.of_texts([tokens[:MAX_TOKENS] for tokens in ids])
    losses = example_losses(model, examples, token_budget, chunk)
    return [
        {"set": SET, "id": name, "loss": loss, "labels": labels}
        for name, (loss, labels) in zip(texts, losses, strict=True)
    ]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
