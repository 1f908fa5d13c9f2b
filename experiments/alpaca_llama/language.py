"""How well the adapted model still predicts text that is no instruction: nats a token [ours].

The paper says that the backbone's knowledge is preserved and gives no number. Here it is the mean
next-token loss on text that nobody trained on: in `mini`, articles of the generated world; in the
other profiles, 64 paragraphs of SQuAD's dev-v1.1, the official file, where $ZIA_DATA has it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.alpaca_llama.evaluate import label_losses
from experiments.alpaca_llama.features import IGNORED, prompt_ids
from experiments.data.files import DATA_VARIABLE, official_file
from experiments.io.files import canonical_json
from experiments.language.token_rows import TokenRows
from experiments.mini_world.documents import Library
from experiments.mini_world.provided import PROFILE as MINI
from experiments.squad_roberta.data import load_squad
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

SET = "language"  # of these predictions
TEXTS = 64
MAX_TOKENS = 512  # of a text, BOS included; what comes after them is not read
# The pocket backbones read documents from number 0 on, at most 120,000 in a stage.
FIRST_ARTICLE = 10_000_000
FILE = "squad/dev-v1.1.json"
# Of the chosen paragraphs: those of another file are other texts, and no loss on them compares.
FINGERPRINT = "ed10c8ecc198c060c3d1c07a98c60c084f5455ff7c88e2734865417b1c51fb19"


@dataclass(frozen=True)
class HeldOut:
    """Texts by id, and what they are; or none, and why."""

    texts: Mapping[str, str]
    about: str


def held_out_texts(profile: str) -> HeldOut:
    """The texts for the runs of a profile: none where the official file of SQuAD is not there."""
    if profile == MINI:
        library = Library(0, {"article": 1.0})
        numbers = range(FIRST_ARTICLE, FIRST_ARTICLE + TEXTS)
        articles = {str(number): library.document(number) for number in numbers}
        return HeldOut(articles, f"{TEXTS} articles of the generated world")
    if official_file(FILE) is None:
        return HeldOut({}, f"not measured: ${DATA_VARIABLE} has no {FILE}")
    try:
        questions = load_squad("1.1", "dev")
    except ZiaError:
        return HeldOut({}, f"not measured: {FILE} in ${DATA_VARIABLE} is damaged")
    paragraphs = {_digest(text): text for text in {each.context for each in questions}}
    chosen = {digest: paragraphs[digest] for digest in sorted(paragraphs)[:TEXTS]}
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
    """For every text a prediction: its id, its loss summed over the tokens, and their number.

    Every token but the first is predicted; that is BOS, where the tokenizer has one.
    """
    rows = Rows([ids[:MAX_TOKENS] for ids in prompt_ids(tokenizer, list(texts.values()))])
    losses = label_losses(model, rows, token_budget, chunk)
    return [
        {"set": SET, "id": name, "loss": loss, "labels": labels}
        for name, (loss, labels) in zip(texts, losses, strict=True)
    ]


class Rows:
    """Tokenised texts, and batches of them padded on the right."""

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self._rows = TokenRows.of(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def length(self, i: int) -> int:
        """Tokens of a text."""
        return self._rows.length(i)

    def batch(self, indices: Sequence[int]) -> dict[str, "Tensor"]:
        """Return input_ids, attention_mask and labels, [B, T] int64; labels are not shifted."""
        ids, mask = self._rows.padded(indices)
        labels = ids.masked_fill(mask == 0, IGNORED)
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
