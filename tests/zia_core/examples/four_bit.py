from transformers import AutoModelForCausalLM

from zia_core import ZeroInitConfig, attach
from zia_core.four_bit import quantise

model = AutoModelForCausalLM.from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct")
attach(quantise(model), ZeroInitConfig(num_layers=28))  # prompts and gates stay float32
