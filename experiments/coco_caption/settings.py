"""Every setting of the experiment that can change a number.

Sources: [paper] v2's text, [demo] the authors' caption demo, or [ours]. No source states epochs,
learning rate or augmentation.
"""

from dataclasses import dataclass
from typing import Literal

from experiments.language.settings import ImageTextSettings


@dataclass(frozen=True)
class Settings(ImageTextSettings):
    """Settings of one run; `plan` has what methods, tasks and profiles change."""

    # "demo": the words of the demo; "alpaca": "Generate caption for this image" in Alpaca's
    # template, as in the authors' second paper.
    prompt: Literal["demo", "alpaca"] = "demo"
    epochs: float = 5.0  # [ours]; BLIP-2's for COCO
    warmup_epochs: float = 1.0  # [ours]
    max_length: int = 96  # tokens of prompt and caption; longer captions are cut [ours]

    # "greedy" [paper]; "sampled": temperature 0.1, top-p 0.75 [demo]; "beam": BLIP-2's five beams.
    decoding: Literal["greedy", "sampled", "beam"] = "greedy"
    new_tokens: int = 64  # [demo]
    evaluated_on: Literal["test", "val"] = (
        "test"  # the paper does not say which of Karpathy's [ours]
    )
