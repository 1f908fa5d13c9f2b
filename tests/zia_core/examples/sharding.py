# torchrun --nproc-per-node 2 full.py
import torch
from transformers import AutoModelForCausalLM

from zia_core.ranks import joined
from zia_core.sharding import shard

with joined(device="cuda" if torch.cuda.is_available() else "cpu") as ranks:
    model = AutoModelForCausalLM.from_pretrained("huggyllama/llama-7b", dtype=torch.float32)
    shard(model.to(ranks.device), "bf16-autocast")  # then zia_core.engine.train(..., shards=folder)
    ids = torch.arange(8, device=ranks.device)[None]
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    if ranks.is_first:
        print(loss.item())
