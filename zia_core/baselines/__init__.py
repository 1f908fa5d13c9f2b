"""The methods that zero-init attention is compared with.

Each takes a model, changes it in place and returns it. Only the parameters of the method are
trained, and the task head of an image classifier or question-answering model, as in all tables that
compare these methods; `train_head` does the same for zero-init attention.
"""

from zia_core.baselines.adaption_prompt import adaption_prompt
from zia_core.baselines.bitfit import bitfit
from zia_core.baselines.fine_tuning import frozen, full, linear_probe, tuned_parameters
from zia_core.baselines.houlsby import houlsby
from zia_core.baselines.lora import lora
from zia_core.baselines.lora_encoder import lora_encoder
from zia_core.baselines.p_tuning_v2 import p_tuning_v2, prefix_dropout
from zia_core.baselines.prompt_tuning import prompt_tuning
from zia_core.baselines.side_tuning import side_tuning
from zia_core.baselines.vpt import vpt
from zia_core.head import head_parameters, train_head

__all__ = [
    "adaption_prompt",
    "bitfit",
    "frozen",
    "full",
    "head_parameters",
    "houlsby",
    "linear_probe",
    "lora",
    "lora_encoder",
    "p_tuning_v2",
    "prefix_dropout",
    "prompt_tuning",
    "side_tuning",
    "train_head",
    "tuned_parameters",
    "vpt",
]
