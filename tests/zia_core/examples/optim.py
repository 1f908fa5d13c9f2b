import torch
from transformers import AutoModelForCausalLM

from zia_core import ZeroInitConfig, attach
from zia_core.optim import learning_rate, parameter_groups, scaled_peak

model = AutoModelForCausalLM.from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct")
attach(model, ZeroInitConfig(num_layers=28))

rates = {"visual_projection": 0.1}
groups = parameter_groups(model.named_parameters(), 0.02, "all-but-gates", rates)
optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
peak = scaled_peak(0.009, batch_size=64)
for step in range(100):
    for group in optimizer.param_groups:
        rate = learning_rate(step, peak=peak, warmup_steps=10, total_steps=100)
        group["lr"] = rate * group["rate"]
    ...  # loss.backward(); optimizer.step(); optimizer.zero_grad()
