"""The predicted memory of a model in shards is what torch allocates in each of two processes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import LlamaConfig

from experiments.harness.needs import WEIGHTS_VARIABLE

LLAMA = LlamaConfig(
    vocab_size=2000,
    hidden_size=256,
    intermediate_size=688,
    num_hidden_layers=6,
    num_attention_heads=4,
    num_key_value_heads=4,
)
# Allocated in a step are activations, gathered weights and this rank's gradients; its weights and
# AdamW's moments are there before.
PROGRAM = """
import json, os, sys
import torch
from experiments.training.step_cost import sharded, step_cost
from tests.training.test_predicted_cost import WORDS, paper
from tests.allocations import peak_of
from zia_core.ranks import joined
from zia_core.sharding import shard
with joined(device="cpu") as ranks:
    for precision in "fp32", "bf16-autocast":
        spec = paper("alpaca_llama", "full", precision=precision, device="cpu")
        predicted = step_cost(sharded(WORDS(spec), spec.settings), spec.settings)
        there = WORDS(spec, device="cpu")
        optimizer = torch.optim.AdamW(shard(there.model, precision).parameters())
        def step():
            for _ in range(2):
                there.loss().backward()
            optimizer.step()
            optimizer.zero_grad()
        step()
        found, gradients = peak_of(step), predicted.sharded / 4
        if ranks.is_first:
            print(json.dumps([predicted.peak + gradients / ranks.size, found]), flush=True)
os._exit(0)
"""


def test_the_predicted_peak_of_shards_is_what_torch_allocates(
    tmp_path: Path, repository: Path
) -> None:
    LLAMA.save_pretrained(tmp_path / "llama-7b")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    place |= {WEIGHTS_VARIABLE: str(tmp_path), "PYTHONPATH": str(repository)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | place | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        out, _ = ranks[0].communicate(timeout=240)
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("[")]
    assert len(lines) == 2
    for predicted, found in lines:
        assert predicted == pytest.approx(found, rel=0.15)
