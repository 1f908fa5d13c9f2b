"""Every setting of the experiment that can change a number. The defaults are the paper's recipe.

The paper has question, context and options in one sentence, no lecture, no captions, greedy
decoding, and "other settings the same" as for Alpaca. The rest is [ours].
"""

from dataclasses import dataclass
from typing import Literal

from experiments.language.settings import ImageTextSettings


@dataclass(frozen=True)
class Settings(ImageTextSettings):
    """Settings of one run; `plan` has what methods, tasks and profiles change."""

    # The input. QCM-A of ScienceQA's code: question, context, options; the answer's letter.
    # "hint": the textual context, N/A where there is none; "none": N/A for every question.
    context: Literal["hint", "none"] = "hint"
    # The answer: "A", the letter [paper]; "EA", ScienceQA's format with the solution first, for
    # models that are too small to name the letter directly.
    output: Literal["A", "EA"] = "A"
    # The epochs are not stated: its Figure 5 and Tables 4 to 6 fit 30 (inferred).
    epochs: float = 30.0
    evaluations: int = 30  # of the validation loss: one an epoch [ours]
    new_tokens: int = 16  # of an answer; "The answer is A." and its end need 7 or so [ours]
    # The scored split: the paper's Table 2 is on test, its ablations are on validation.
    evaluated_on: Literal["test", "val"] = "test"
    # Score the validation questions too, so that the ablations need not train the same run again.
    also_validated: bool = False
