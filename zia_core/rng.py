"""Seed, save, restore and isolate the random generators of a process."""

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed that is a pure function of `parts`, e.g. `derived_seed(seed, "epoch", 3)`.

    Unlike with `seed + epoch`, epoch 1 of seed 0 has nothing in common with epoch 0 of seed 1.
    """
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (the CPU and every GPU)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def rng_state() -> dict[str, Tensor]:
    """The state of Python's, NumPy's (MT19937) and torch's global generators, one tensor each.

    Python's and NumPy's spare Gaussian is a tensor of length 0 or 1, 0 when there is none.
    """
    _, python_state, python_spare = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)
    numpy_spare = [numpy_state["gauss"]] if numpy_state["has_gauss"] else []
    state = {
        "python": torch.tensor(python_state, dtype=torch.int64),
        "python_gauss": torch.tensor(
            [] if python_spare is None else [python_spare], dtype=torch.float64
        ),
        "numpy": torch.tensor(numpy_state["state"]["key"].astype(np.int64)),
        "numpy_position": torch.tensor(numpy_state["state"]["pos"]),
        "numpy_gauss": torch.tensor(numpy_spare, dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        for index, cuda_state in enumerate(torch.cuda.get_rng_state_all()):
            state[f"cuda:{index}"] = cuda_state
    return state


def restore_rng(state: Mapping[str, Tensor]) -> None:
    """Restore what `rng_state` returned; states of GPUs that this machine lacks are ignored."""
    python_spare = state["python_gauss"].tolist()
    random.setstate((3, tuple(state["python"].tolist()), python_spare[0] if python_spare else None))
    numpy_spare = state["numpy_gauss"].tolist()
    np.random.set_state(
        {
            "bit_generator": "MT19937",
            "state": {
                "key": state["numpy"].numpy().astype(np.uint32),
                "pos": int(state["numpy_position"]),
            },
            "has_gauss": len(numpy_spare),
            "gauss": numpy_spare[0] if numpy_spare else 0.0,
        }
    )
    torch.set_rng_state(state["torch"])
    for index in range(torch.cuda.device_count()):
        if f"cuda:{index}" in state:
            torch.cuda.set_rng_state(state[f"cuda:{index}"], index)


@contextmanager
def isolated_rng() -> Iterator[None]:
    """Restore every generator at the end of the block."""
    before = rng_state()
    try:
        yield
    finally:
        restore_rng(before)
