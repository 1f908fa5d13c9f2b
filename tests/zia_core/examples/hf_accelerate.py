import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM

from zia_core import ZeroInitConfig, attach
from zia_core.hf_accelerate import adapter_states

name = "HuggingFaceTB/SmolLM2-135M-Instruct"
model = attach(AutoModelForCausalLM.from_pretrained(name), ZeroInitConfig(num_layers=28))
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.009)
accelerator = Accelerator()
model, optimizer = accelerator.prepare(model, optimizer)
adapter_states(accelerator)
accelerator.save_state("state")
accelerator.load_state("state")
