import torch
from transformers import AutoModelForCausalLM

from zia_core import ZeroInitConfig, attach
from zia_core.observe import gate_strengths, observed

model = AutoModelForCausalLM.from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct")
attach(model, ZeroInitConfig(num_layers=28, gate_init=0.1))

print(gate_strengths(model)["29"])  # tanh(g) of the top layer's heads
with observed(model) as layers:
    model(input_ids=torch.tensor([[5, 6, 7]]))
print(layers[29].share())  # of each head
