"""Every setting of the experiment that can change a number. The defaults are for SQuAD v1.1.

The paper states none (section 4.4: "built on P-tuning v2"). Sources: [PT2] P-tuning v2's SQuAD
scripts with the defaults of the Hugging Face Trainer that they use, or [ours].
"""

from dataclasses import dataclass
from typing import Literal

from experiments.training.selection import Selection


@dataclass(frozen=True)
class Settings(Selection):
    """Settings of one run; `plan` has what methods, tasks and profiles change.

    Rates are chosen by the loss on the held-out questions; the dev set is scored once.
    """

    # The method.
    prompt_length: int = 16  # K [PT2]; 8 for v2.0
    prefix_dropout: float = 0.2  # [PT2]
    hidden_dropout: float | None = None  # None: the encoder's own; prefixes: 0.2 [PT2]
    lora_rank: int = 8  # LoRA's scripts for RoBERTa-large, like alpha
    lora_alpha: int = 16
    lora_dropout: float = 0.0  # on top of the encoder's own [ours]

    # The optimisation.
    batch_size: int = 8  # windows [PT2]
    epochs: float = 30.0  # [PT2]; 10 for v2.0
    warmup_epochs: float = 0.0  # [PT2]: the Trainer's default
    peak_lr: float | None = 5e-3  # [PT2]
    # The Trainer's schedule is linear [PT2]; the engine's is a cosine, to the same end [ours].
    min_lr: float = 0.0
    weight_decay: float | None = 0.0  # [PT2]: the Trainer's default, like the next three
    beta1: float = 0.9
    beta2: float = 0.999
    clip_norm: float | None = 1.0
    token_budget: int | None = 3072  # padded tokens of a micro-batch: 8 full windows [ours]
    evaluations: int = 1  # of the validation loss, besides that at step 0; the last is kept [ours]
    precision: Literal["fp32", "bf16", "bf16-autocast"] = "bf16-autocast"  # [ours]; fp32 in [PT2]

    # Windows and answers, as in P-tuning v2's code.
    max_length: int = 384  # tokens of a window [PT2]
    stride: int = 128  # tokens that neighbours share [PT2]
    max_question: int = 64  # tokens [ours]; not cut there, where hardly any is longer
    n_best: int = 20  # answers kept of a window [PT2]
    max_answer_tokens: int = 30  # [PT2]
    eval_tokens: int = 16384  # padded tokens of an evaluation batch [ours]
