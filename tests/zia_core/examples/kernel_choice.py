import torch
from transformers import AutoModelForCausalLM

from zia_core import ZeroInitConfig, attach
from zia_core.kernel_choice import prompt_form

model = AutoModelForCausalLM.from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct")
attach(model, ZeroInitConfig(num_layers=28))
with prompt_form("plain"):
    model(input_ids=torch.tensor([[5, 6, 7]]))
