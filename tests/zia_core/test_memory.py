"""A run does not inherit the memory peak of an earlier one."""

import sys

import pytest
import torch

from zia_core.memory import peak_memory_bytes, reset_peak_memory

MIB = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can begin a new measurement")
def test_peak_is_that_of_this_measurement() -> None:
    cpu = torch.device("cpu")
    reset_peak_memory(cpu)
    before = peak_memory_bytes(cpu)
    large = torch.ones(64 * MIB)  # 256 MiB
    assert peak_memory_bytes(cpu) - before > 200 * MIB
    del large
    reset_peak_memory(cpu)
    assert peak_memory_bytes(cpu) - before < 100 * MIB
