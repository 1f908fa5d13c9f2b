"""Settings, stages, model and task of the pocket LLaMA: next-token prediction."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from experiments.mini_world.documents import BOTH_WAYS, DRILLS, LANGUAGE_MODEL, LESSONS
from experiments.pretrain.llama.recall import measure, skills
from experiments.training.optimisation import Optimisation

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Settings(Optimisation):
    """All settings that can change a result; all are our choice."""

    dim: int = 128
    depth: int = 6
    heads: int = 4
    positions: int = 512

    documents: int = 60_000
    tokenizer_documents: int = 20_000  # the first ones, to train the tokenizer on
    row_tokens: int = 128

    epochs: float = 1.5
    # Long: looking words up in a text is learned at about half the peak rate, not much above.
    warmup_epochs: float = 1.0
    batch_size: int = 16
    peak_lr: float | None = 2e-3
    min_lr: float = 1e-5
    weight_decay: float | None = 0.05
    decay: Literal["all", "matrices", "none"] = "matrices"
    beta2: float = 0.98
    clip_norm: float | None = 1.0
    micro_batch_size: int | None = 16
    evaluations: int = 10

    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["fp32", "bf16", "bf16-autocast"] = "bf16-autocast"


@dataclass(frozen=True)
class Stage:
    """One of the runs that train the model: its documents, and the stage before it."""

    shares: Mapping[str, float]  # of the kinds of document
    library: int  # added to the seed, so that stages have different documents
    after: str | None
    changes: Mapping[str, Any]  # to the settings
    conclude: bool = False  # whether quizzes may end in "The answer is B."


# The letters of options are not learned from all documents in 10,000 steps, but from drills alone
# in 1,200; the facts are then forgotten, and back after 300 steps of the review.
STAGES: Mapping[str, Stage] = {
    "library": Stage(LANGUAGE_MODEL, 0, None, {}),
    "drills": Stage(
        DRILLS,
        1000,
        "library",
        {
            "documents": 16_000,
            "epochs": 1.0,
            "warmup_epochs": 0.2,
            "peak_lr": 1e-3,
            "min_lr": 1e-3,
            "evaluations": 3,
        },
    ),
    "lessons": Stage(
        LESSONS,
        2000,
        "drills",
        {
            "documents": 120_000,
            "epochs": 1.3,
            "warmup_epochs": 0.03,
            "peak_lr": 1.5e-3,
            "evaluations": 16,
        },
    ),
    "letters": Stage(
        BOTH_WAYS,
        3000,
        "lessons",
        {
            "documents": 24_000,
            "epochs": 1.0,
            "warmup_epochs": 0.1,
            "peak_lr": 1e-3,
            "min_lr": 1e-3,
            "evaluations": 3,
        },
    ),
    "review": Stage(
        LESSONS,
        4000,
        "letters",
        {
            "documents": 110_000,
            "epochs": 1.0,
            "warmup_epochs": 0.03,
            "peak_lr": 1e-3,
            "evaluations": 10,
        },
    ),
    "conclusions": Stage(
        LESSONS,
        5000,
        "review",
        {
            "documents": 20_000,
            "epochs": 1.0,
            "warmup_epochs": 0.03,
            "peak_lr": 3e-4,
            "evaluations": 3,
        },
        conclude=True,
    ),
}


def build(settings: Settings, tokenizer: "PreTrainedTokenizerBase") -> "LlamaForCausalLM":
    """A randomly initialised LLaMA with tied embeddings and a SwiGLU of 8/3 the width."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.dim,
            intermediate_size=math.ceil(settings.dim / 12) * 32,
            num_hidden_layers=settings.depth,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.heads,
            max_position_embeddings=settings.positions,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class Pretraining:
    """A `TrainTask` of rows of tokens, in memory."""

    def __init__(self, rows: "Tensor", tokenizer: "PreTrainedTokenizerBase") -> None:
        self._rows, self._tokenizer, self._skills = rows, tokenizer, skills()

    def __len__(self) -> int:
        return len(self._rows)

    def length(self, index: int) -> int:
        """Tokens of a row."""
        return self._rows.shape[1]

    def labels(self, index: int) -> int:
        """Every token but the first is predicted."""
        return self._rows.shape[1] - 1

    def record_id(self, index: int) -> str:
        """The row's number."""
        return f"row {index}"

    def batch(self, indices: Sequence[int]) -> dict[str, "Tensor"]:
        """The arguments of `causal_lm_loss`; rows are [B, width] int64, without padding."""
        from zia_core.losses import label_index

        ids = self._rows[list(indices)].long()
        mask = ids.new_ones(ids.shape)
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "labels": ids,
            "label_index": label_index(ids),
        }

    def loss(self, model: "nn.Module", batch: dict[str, "Tensor"]) -> tuple["Tensor", int]:
        """The summed cross entropy of the next tokens, and their number."""
        from torch.nn.attention import SDPBackend, sdpa_kernel

        from zia_core.losses import causal_lm_loss

        # The backward pass of fused attention in bfloat16 would take half of a step on a CPU.
        with sdpa_kernel(SDPBackend.MATH):
            return causal_lm_loss(
                model,
                batch["input_ids"],
                batch["attention_mask"],
                batch["labels"],
                batch["label_index"],
            )

    def evaluate(self, model: "nn.Module") -> dict[str, float]:
        """The share of right words for each skill."""
        return {
            name: measure(model, self._tokenizer, asked) for name, asked in self._skills.items()
        }
