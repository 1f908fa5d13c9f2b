"""Settings of the experiments whose prompts may see an image: method, projection and encoder.

Sources: [paper] or, where it is silent, [ours].
"""

from dataclasses import dataclass
from typing import Literal

from experiments.training.selection import Selection


@dataclass(frozen=True)
class ImageTextSettings(Selection):
    """What an experiment inherits, and adds its data and evaluation to."""

    # The method.
    prompt_length: int = 10  # K [paper]
    num_layers: int = 30  # L, of LLaMA-7B's 32 [paper]
    gate_activation: Literal["tanh", "identity"] = "tanh"  # [paper] from its third version on
    gate_init: float = 0.0  # [paper]
    softmax: Literal["separate", "joint"] = "separate"  # [paper]; joint: our reading of rand-init
    lora_rank: int = 8  # the paper's 4.2M on Alpaca
    lora_alpha: float = 16.0
    lora_dropout: float = 0.05

    # The projection. The paper has "multi-scale global features" and "a simple bottleneck MLP".
    # [paper] global; queries: the released code, but without CLIP's own projection of the tokens.
    projection: Literal["global", "queries"] = "global"
    depths: tuple[int, ...] = (4, 8, 12, 16, 20, 24)  # of CLIP ViT-L/14's 24 layers [ours]
    bottleneck: int = 64  # [ours]; the profile `paper` has one that fits the paper's 1.8M
    activation: Literal["gelu", "relu", "silu"] = "gelu"  # [ours]
    query_width: int = 512  # of `queries`, as are the next two: the released caption demo
    blocks: int = 2
    query_heads: int = 16  # the later release

    # The encoder.
    encoder: str = "clip-vit-l-14"  # [paper] has CLIP; the size is the released demo's
    encoder_device: Literal["cpu", "cuda"] = "cuda"  # where the features are computed

    # The optimisation: the paper's for Alpaca ("other settings the same").
    batch_size: int = 64
    epochs: float = 5.0
    warmup_epochs: float = 2.0
    peak_lr: float | None = 2.25e-3  # 9e-3 for a batch of 256, scaled
    # The peak rate of the projection's own parameters, on the same schedule [ours]; None: peak_lr.
    projection_lr: float | None = None
    token_budget: int | None = 8192  # [ours]
    loss_chunk: int | None = None  # labels whose logits there are at a time; None: all of them

    answered_together: int = 16  # prompts [ours]

    max_length: int = 512  # tokens of prompt and response [paper's code for Alpaca]
    eval_tokens: int = 8192  # padded tokens of an evaluation batch [ours]
