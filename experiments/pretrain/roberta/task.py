"""Settings, model and task of the pocket RoBERTa: masked-word prediction on its library."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from experiments.mini_world.documents import ENCODER, Library
from experiments.mini_world.tokenizer import SPECIAL, encoded
from experiments.pretrain.roberta.masks import IGNORED, corrupted, fact_tokens
from experiments.pretrain.roberta.recall import measure, skills
from experiments.training.optimisation import Optimisation

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerFast, RobertaForMaskedLM


@dataclass(frozen=True)
class Settings(Optimisation):
    """All settings that can change a result; all are our choice."""

    dim: int = 128
    depth: int = 6
    heads: int = 4
    positions: int = 256
    dropout: float = 0.0  # documents are seen too rarely to be memorised

    documents: int = 120_000
    tokenizer_documents: int = 20_000  # the first ones, to train the tokenizer on

    epochs: float = 3.0
    warmup_epochs: float = 0.4
    batch_size: int = 32
    peak_lr: float | None = 1.5e-3
    min_lr: float = 1e-5
    weight_decay: float | None = 0.05
    decay: Literal["all", "matrices", "none"] = "matrices"
    beta2: float = 0.98
    clip_norm: float | None = 1.0
    token_budget: int | None = 4096
    evaluations: int = 16

    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["fp32", "bf16", "bf16-autocast"] = "bf16-autocast"


def build(settings: Settings, tokenizer: "PreTrainedTokenizerFast") -> "RobertaForMaskedLM":
    """A randomly initialised RoBERTa for the tokenizer, with its post-norm blocks."""
    from transformers import RobertaConfig, RobertaForMaskedLM

    return RobertaForMaskedLM(
        RobertaConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.dim,
            intermediate_size=4 * settings.dim,
            num_hidden_layers=settings.depth,
            num_attention_heads=settings.heads,
            hidden_dropout_prob=settings.dropout,
            attention_probs_dropout_prob=settings.dropout,
            # RoBERTa counts positions from after its padding index.
            max_position_embeddings=settings.positions + tokenizer.pad_token_id + 1,
            type_vocab_size=1,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class Pretraining:
    """A `TrainTask` of documents with masked words, in memory.

    The masks are a function of the seed, so the number of labels is known in advance.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerFast", settings: Settings, seed: int) -> None:
        import numpy as np
        import torch

        self._tokenizer, self._skills = tokenizer, skills()
        documents = map(Library(seed, ENCODER).document, range(settings.documents))
        ids, lengths = encoded(tokenizer, documents)
        self._ends = np.cumsum([0, *lengths])
        inputs, labels = corrupted(
            ids.long(),
            fact_tokens(tokenizer),
            tokenizer.mask_token_id,
            len(SPECIAL),
            torch.Generator().manual_seed(seed),
        )
        self._inputs, self._labels = inputs.short(), labels.short()
        before = np.cumsum([0, *(self._labels != IGNORED).tolist()])
        self._masked = np.diff(before[self._ends])

    def __len__(self) -> int:
        return len(self._masked)

    def length(self, index: int) -> int:
        """Tokens of a document."""
        return int(self._ends[index + 1] - self._ends[index])

    def labels(self, index: int) -> int:
        """Masked words of a document."""
        return int(self._masked[index])

    def record_id(self, index: int) -> str:
        """The document's number."""
        return f"document {index}"

    def batch(self, indices: Sequence[int]) -> dict[str, "Tensor"]:
        """input_ids, attention_mask and labels, [B, longest] int64.

        masked: positions of the labels in the flattened [B * longest].
        """
        import torch

        shape = len(indices), max(map(self.length, indices))
        input_ids = torch.full(shape, self._tokenizer.pad_token_id)
        labels = torch.full(shape, IGNORED)
        for row, index in enumerate(indices):
            own = slice(self._ends[index], self._ends[index + 1])
            input_ids[row, : self.length(index)] = self._inputs[own]
            labels[row, : self.length(index)] = self._labels[own]
        mask = (input_ids != self._tokenizer.pad_token_id).long()
        masked = (labels != IGNORED).flatten().nonzero().squeeze(1)
        batch = {"input_ids": input_ids, "attention_mask": mask, "labels": labels}
        return batch | {"masked": masked}

    def loss(self, model: "nn.Module", batch: dict[str, "Tensor"]) -> tuple["Tensor", int]:
        """The summed cross entropy of the masked words, and their number.

        The head runs on masked positions only; on all it would cost as much as two blocks.
        """
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.nn.functional import cross_entropy

        outer: Any = model
        with sdpa_kernel(SDPBackend.MATH):  # as for the pocket LLaMA
            hidden = outer.base_model(batch["input_ids"], batch["attention_mask"]).last_hidden_state
        chosen = hidden.flatten(0, 1).index_select(0, batch["masked"])
        logits = outer.lm_head(chosen).float()
        labels = batch["labels"].flatten().index_select(0, batch["masked"])
        return cross_entropy(logits, labels, reduction="sum"), len(logits)

    def evaluate(self, model: "nn.Module") -> dict[str, float]:
        """The share of right words for each skill."""
        return {
            name: measure(model, self._tokenizer, asked) for name, asked in self._skills.items()
        }
