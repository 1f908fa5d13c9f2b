"""Settings of the experiments on language models, with and without images.

Sources: [paper], [code] the released training script, or, where both are silent, [ours].
"""

from dataclasses import dataclass
from typing import Literal

from experiments.training.selection import Selection


@dataclass(frozen=True)
class LanguageSettings(Selection):
    """Settings of the methods and of learning to respond to prompts."""

    # The method.
    prompt_length: int = 10  # K [paper]
    num_layers: int = 30  # L, of LLaMA-7B's 32 [paper]
    # The layers of a model that is not in the project's list, of which num_layers are a share.
    backbone_layers: int | None = None
    gate_per: Literal["head", "layer"] = "head"  # [paper]
    gate_activation: Literal["tanh", "identity"] = "tanh"  # [paper] since v3, [code]
    gate_init: float = 0.0  # [paper]
    softmax: Literal["separate", "joint"] = "separate"  # [paper]; joint: our reading of rand-init
    lora_rank: int = 8  # Alpaca-LoRA's 4.2M [paper]
    lora_alpha: float = 16.0  # Alpaca-LoRA's default, like dropout and targets
    lora_dropout: float = 0.05

    # The optimisation: the paper's for Alpaca, which its other experiments share. min_lr 0, decay
    # of prompts and gates alike, betas and no clipping are [code], a weight decay of 0.02 is
    # [paper], loss_reduction is [ours]; micro_batch_size is 4 a GPU in [code].
    batch_size: int = 64  # [paper]; 32 in [code]
    epochs: float = 5.0  # [paper]
    warmup_epochs: float = 2.0  # [paper]
    peak_lr: float | None = 2.25e-3  # the paper's 9e-3 is for a batch of 256: 9e-3 * 64 / 256
    token_budget: int | None = 8192  # padded tokens of a micro-batch [ours]
    loss_chunk: int | None = None  # labels whose logits are in memory at a time; None: all

    # The data and the evaluation. Precision is fp16 in [code].
    max_length: int = 512  # tokens of prompt and response [code]
    eval_tokens: int = 8192  # padded tokens of an evaluation batch [ours]


@dataclass(frozen=True)
class ImageTextSettings(LanguageSettings):
    """Settings of the experiments whose prompts may have an image."""

    # The projection. The paper has "multi-scale global features" and "a simple bottleneck MLP".
    # [paper] global; queries: the released code, but without CLIP's own projection of the tokens.
    projection: Literal["global", "queries"] = "global"
    depths: tuple[int, ...] = (4, 8, 12, 16, 20, 24)  # of CLIP ViT-L/14's 24 layers [ours]
    bottleneck: int = 64  # [ours]; the profile `paper` has one that fits the paper's 1.8M
    activation: Literal["gelu", "relu", "silu"] = "gelu"  # [ours]
    query_width: int = 512  # of `queries`, like the next two: the released caption demo
    blocks: int = 2
    query_heads: int = 16  # the later release
    # The peak rate of the projection's parameters, on the same schedule [ours]; None: peak_lr.
    projection_lr: float | None = None

    # The encoder.
    encoder: str = "clip-vit-l-14"  # [paper] has CLIP; the size is the released demo's
    encoder_device: Literal["cpu", "cuda"] = "cuda"  # where the features are computed

    answered_together: int = 16  # prompts [ours]
