"""Every setting of the experiment that can change a number. The defaults are the paper's recipe.

Sources: [paper] section 4.1 and [code] the released training script, which differ; what neither
says is [ours].
"""

from dataclasses import dataclass
from typing import Literal

from experiments.training.selection import Selection


@dataclass(frozen=True)
class Settings(Selection):
    """Settings of one run; see `plan` for the recipes and profiles that change them."""

    # The method.
    prompt_length: int = 10  # K [paper]
    num_layers: int = 30  # L, of LLaMA-7B's 32 [paper]
    gate_per: Literal["head", "layer"] = "head"  # [paper]
    gate_activation: Literal["tanh", "identity"] = "tanh"  # [code]; the paper's v1 has none
    gate_init: float = 0.0  # [paper]
    softmax: Literal["separate", "joint"] = "separate"  # [paper]; joint: the rand-init ablation
    lora_rank: int = 8  # Alpaca-LoRA's 4.2M [paper]
    lora_alpha: float = 16.0  # Alpaca-LoRA's default, as are dropout and targets
    lora_dropout: float = 0.05

    # The optimisation.
    batch_size: int = 64  # [paper]; 32 in [code]
    epochs: float = 5.0  # [paper]
    warmup_epochs: float = 2.0  # [paper]
    peak_lr: float | None = 2.25e-3  # the paper's 9e-3 is for a batch of 256: 9e-3 * 64 / 256
    # Inherited: min_lr 0, decay of prompts and gates alike, betas, no clipping [code]; weight_decay
    # 0.02 [paper]; loss_reduction [ours]; micro_batch_size, 4 a GPU in [code].
    token_budget: int | None = 8192  # padded tokens of a micro-batch [ours]
    loss_chunk: int | None = None  # labels whose logits there are at a time; None: all of them

    # The data and the evaluation.
    max_length: int = 512  # tokens of prompt and response [code]
    # Rates are chosen by the loss on `development`; what is reported is on `validation` [ours].
    validate_on: Literal["validation", "development"] = "validation"
    eval_tokens: int = 8192  # padded tokens of an evaluation batch [ours]
    new_tokens: int = 512  # at most, of a generated answer [code]
    answered: int = 200  # validation records that are answered, for ROUGE-L [ours]
    user_oriented: bool = True  # answer Self-Instruct's 252 user-oriented instructions too [ours]
    vicuna: bool = False  # answer Vicuna's 80 questions too, for a judge [paper, Figs. 5, 6]
    # Inherited too: 5 evaluations of the validation loss, and bf16, which is fp16 in [code].
