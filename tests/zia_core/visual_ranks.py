"""One of two data-parallel processes, each a fork of the test."""

from datetime import timedelta
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from tests.zia_core.backbones import inputs
from tests.zia_core.visual_reference import CONFIGS, features, seeing
from zia_core import images


def gradients_of_a_rank(folder: Path, rank: int) -> None:
    """Rank 0 has images with all samples, rank 1 with none; writes the gradients to a file."""
    distributed.init_process_group(
        "gloo", f"file://{folder / 'store'}", timedelta(seconds=30), world_size=2, rank=rank
    )
    for projection in CONFIGS:
        model = seeing("llama-gqa", projection)
        parallel = DistributedDataParallel(model)
        has_image = torch.full((2,), rank == 0)
        with images(parallel, features(projection, 2), has_image):
            parallel(**inputs("llama-gqa")).logits.square().mean().backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
        save_file(gradients, folder / f"{projection}-{rank}")
    distributed.destroy_process_group()
