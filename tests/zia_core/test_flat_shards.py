"""Adapters of models in FullyShardedDataParallel, whose ranks hold flat pieces of each weight."""

import os
from pathlib import Path

import pytest
import torch
from torch import distributed

from tests.zia_core.backbones import adapted
from tests.zia_core.processes import exit_codes, free_port
from zia_core import ZiaError, adapter_state_dict, save_adapter, zero_init_layers


def _save_flat_shards(folder: Path, rank: int, port: int) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel

    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= place | {"RANK": str(rank)}
    distributed.init_process_group("gloo")
    model = FullyShardedDataParallel(
        adapted("llama-gqa"), use_orig_params=True, device_id=torch.device("cpu")
    )
    assert zero_init_layers(model)[0].prompt.ndim == 1
    with pytest.raises(ZiaError, match=r"sharded by FullyShardedDataParallel; save inside"):
        adapter_state_dict(model)
    save_adapter(model, folder / "whole")
    with FullyShardedDataParallel.summon_full_params(model, writeback=False):
        save_adapter(model, folder / f"by-hand-{rank}")
    parts = adapted("llama-gqa")  # whose prompts are whole, and other weights are not
    for layer in parts.model.layers:
        layer.mlp = FullyShardedDataParallel(
            layer.mlp, use_orig_params=True, device_id=torch.device("cpu")
        )
    save_adapter(parts, folder / "parts")
    distributed.destroy_process_group()


def test_flat_shards_are_gathered_to_be_saved(tmp_path: Path) -> None:
    expected = save_adapter(adapted("llama-gqa"), tmp_path / "bare").read_bytes()
    port = free_port()
    ranks = [(tmp_path, rank, port) for rank in (0, 1)]
    assert exit_codes(_save_flat_shards, ranks) == [0, 0]
    for saved in ("whole", "by-hand-0", "by-hand-1", "parts"):
        assert (tmp_path / saved / "adapter.safetensors").read_bytes() == expected
