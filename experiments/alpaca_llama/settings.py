"""Every setting of the experiment that can change a number. The defaults are the paper's recipe.

Sources: [paper] section 4.1, [code] the released training script, which differs from it, or [ours].
"""

from dataclasses import dataclass
from typing import Literal

from experiments.language.settings import LanguageSettings


@dataclass(frozen=True)
class Settings(LanguageSettings):
    """Settings of one run; `plan` has the recipes and profiles that change them."""

    # Alpaca's prompts, as in the paper, or the chat template of an instruct model [ours].
    template: Literal["paper", "chat"] = "paper"
    # Rates are chosen by the loss on `development`; what is reported is on `validation` [ours].
    validate_on: Literal["validation", "development"] = "validation"
    new_tokens: int = 512  # the longest generated answer [code]
    answered: int = 200  # validation records that are answered, for ROUGE-L [ours]
    user_oriented: bool = True  # answer Self-Instruct's 252 user-oriented instructions too [ours]
    vicuna: bool = False  # answer Vicuna's 80 questions too, for a judge [paper, Figs. 5, 6]
