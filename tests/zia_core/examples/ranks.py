# torchrun --nproc-per-node 2 adapt.py
from transformers import AutoModelForCausalLM

from zia_core import ZeroInitConfig, attach, save_adapter
from zia_core.ranks import joined

with joined(device="cpu") as ranks:
    model = AutoModelForCausalLM.from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct")
    attach(model.to(ranks.device), ZeroInitConfig(num_layers=28))
    ...  # zia_core.engine.train: each rank computes its share of every batch
    if ranks.is_first:
        save_adapter(model, "out/")
