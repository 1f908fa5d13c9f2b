import torch
from transformers import AutoModelForCausalLM

from zia_core import (
    ZeroInitConfig,
    ZiaError,
    adapter_state_dict,
    attach,
    condition,
    frozen_prompts,
    zero_init_layers,
)

model = AutoModelForCausalLM.from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct")
try:
    attach(model, ZeroInitConfig(num_layers=100))
except ZiaError as error:
    print(error)  # num_layers=100 but LlamaForCausalLM has 30 attention layers; ...

attach(model, ZeroInitConfig(prompt_length=10, num_layers=28))
for layer in zero_init_layers(model):  # lowest first
    layer.gate, layer.strength(), layer.prompt  # g, tanh(g): [H]; prompts: [K, C]

best = {name: tensor.clone() for name, tensor in adapter_state_dict(model).items()}
model.load_state_dict(best, strict=False)  # in memory: the same names as in the model

ids = torch.tensor([[5, 6, 7], [8, 9, 10]])
with torch.no_grad(), frozen_prompts(model):  # their keys and values are computed once
    for _ in range(3):
        model(input_ids=ids)

vectors = torch.randn(2, model.config.hidden_size)  # of any encoder of yours: [B, C] or [B, K, C]
with condition(model, vectors, present=torch.tensor([True, False])):
    model(input_ids=ids)
