"""Every setting of the experiment that can change a number. The defaults are those of ViT-B/16.

The paper states no hyper-parameters for VTAB-1k. Sources: [VPT], the paper of the baseline rows,
and its released code; [NOAH], whose released scripts train VPT, adapters and LoRA on VTAB-1k with
AdamW; [paper], what the paper uses elsewhere; or [ours].
"""

from dataclasses import dataclass
from typing import Literal

from experiments.training.optimisation import Optimisation


@dataclass(frozen=True)
class Settings(Optimisation):
    """Settings of one run; `plan` has what the profiles change, `methods` the rates."""

    # "select": train on train800 with one candidate, score on val200. "final": train on all 1,000
    # with the best candidate, score once on the test set [VPT].
    phase: Literal["select", "final"] = "final"
    candidates: tuple[tuple[float, float], ...] = ()  # of a final run: pairs of rate and decay
    selection_seed: int = 0  # of the select runs; not the seed of a final run [ours]
    selection_epochs: float | None = None  # of the select runs; None: those of the final runs
    # The task that candidates are tried on, or a group, "@mini", whose mean decides; None: the
    # run's own [VPT].
    selection_task: str | None = None

    # The images: squashed to 224, ImageNet's mean and standard deviation [VPT].
    protocol: str = "vpt"
    resolution: int = 224

    # The methods.
    prompt_length: int = 10  # K [paper: LLaMA]
    # L, of ViT-B/16's 12. The paper says only "topmost L layers". All, as VPT-deep has prompts in
    # all, so that the two reach equally deep [ours].
    num_layers: int = 12
    # Methods adapt only so many of the topmost blocks, and what is below stays as it is; None: all.
    # Not for `zero-init` and `random-init`, which have `num_layers`.
    adapted_blocks: int | None = None
    visual_prompts: int = 50  # of VPT, which searches 1 to 200 per task and shows 50
    visual_prompt_dropout: float = 0.1  # [NOAH]
    bottleneck: int = 64  # of the adapters [Houlsby et al.]
    lora_rank: int = 8  # [LoRA]
    lora_alpha: int = 16  # [ours]

    # The optimisation. AdamW for every method [NOAH]; VPT has SGD for all but full fine-tuning.
    batch_size: int = 64  # [VPT]
    epochs: float = 100.0  # [VPT]
    warmup_epochs: float = 10.0  # [VPT]
    # peak_lr and weight_decay are None in a final run, which takes those of the best select run.
    weight_decay: float | None = None
    decay: Literal["all", "matrices", "none"] = "matrices"  # neither norms, biases nor gates [timm]
    beta2: float = 0.999  # torch's
    micro_batch_size: int | None = 64  # [ours]
    evaluations: int = 0  # nothing is scored before the last step [ours]
    precision: Literal["fp32", "bf16", "bf16-autocast"] = "bf16-autocast"  # [ours]

    # Compute the blocks below the lowest adapted one once. In float32 on a CPU this changes no bit;
    # elsewhere sums may be rounded in another order.
    reuse_trunk: bool = True
    # How those blocks are computed, whatever the precision of the rest; None: like the rest.
    trunk_precision: Literal["fp32"] | None = None
