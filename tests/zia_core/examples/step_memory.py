import torch
from transformers import LlamaConfig, LlamaForCausalLM

from zia_core import ZeroInitConfig, attach
from zia_core.step_memory import StepMemory, step_memory

with torch.device("meta"):  # LlamaConfig() has LLaMA-7B's sizes
    model = LlamaForCausalLM(LlamaConfig()).bfloat16().train()
    attach(model, ZeroInitConfig(num_layers=30))
    ids = torch.zeros(16, 512, dtype=torch.long)
memory: StepMemory = step_memory(model, lambda: model(input_ids=ids, labels=ids).loss)
print(f"{memory.peak / 1e9:.1f} GB, {memory.weights / 1e9:.1f} of them weights")
