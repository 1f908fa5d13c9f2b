"""Runs in one process do not affect each other."""

import gc
import os
import random
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.dispatch import isolation
from experiments.dispatch.stop_signals import StopSignals
from experiments.dispatch.worker import Worker, name_of
from experiments.harness import registry, stored
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from tests.harness import toy
from zia_core.engine import NonFiniteLoss


def state_of_the_process() -> dict[str, object]:
    cudnn = torch.backends.cudnn
    return {
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "kernels": (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
        "gradients": torch.is_grad_enabled(),
        "draws": (random.random(), np.random.rand(), torch.rand(()).item()),
        "variable": os.environ.get("ZIA_LEFT_BEHIND"),
        "changed": os.environ.get("ZIA_DATA"),
        "folder": str(Path.cwd()),
    }


def leave_traces(folder: Path) -> None:
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("medium")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
    torch.set_grad_enabled(False)
    os.environ["ZIA_LEFT_BEHIND"] = "1"
    os.environ["ZIA_DATA"] = "elsewhere"
    os.chdir(folder)


class Cycle:
    """Holds itself, as models do."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.parametrize("short_s", [0.0, 1e9])
def test_the_garbage_of_all_but_short_runs_is_collected(
    monkeypatch: pytest.MonkeyPatch, short_s: float
) -> None:
    monkeypatch.setattr(isolation, "SHORT_S", short_s)
    gc.disable()
    try:
        with isolation.restored_process_state():
            found = weakref.ref(Cycle())
        assert (found() is None) == (short_s == 0)
    finally:
        gc.enable()


@pytest.mark.parametrize("ends", ["well", "badly"])
def test_every_run_finds_the_process_as_the_first_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    found = []

    def run(spec: RunSpec, folder: RunFolder) -> None:
        found.append(state_of_the_process())
        leave_traces(folder.path)
        if ends == "badly":
            raise NonFiniteLoss("the loss is nan")
        toy.run(spec, folder)

    monkeypatch.setattr(registry, "experiments", lambda: {"toy": replace(toy.EXPERIMENT, run=run)})
    monkeypatch.setenv("ZIA_DATA", "here")
    before = state_of_the_process()
    rng = torch.get_rng_state()
    specs = [toy.spec(), toy.spec(seed=1), toy.spec(seed=2)]
    Worker(tmp_path, StopSignals()).work(specs)
    assert len(found) == 3
    assert found[1] == found[0]
    assert found[2] == found[0]
    assert {**found[0], "draws": 0} == {**before, "draws": 0}
    assert torch.equal(torch.get_rng_state(), rng)
    assert {**state_of_the_process(), "draws": 0} == {**before, "draws": 0}
    if ends == "badly":
        assert stored.has_diverged(tmp_path / name_of(specs[0]))


def test_runs_of_one_process_are_those_of_a_process_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "experiments", toy.only_toy)
    specs = [toy.spec(seed=seed) for seed in range(3)]
    Worker(tmp_path / "together", StopSignals()).work(specs)
    for spec in reversed(specs):
        Worker(tmp_path / "alone", StopSignals()).work([spec])
    for spec in specs:
        for name in (stored.METRICS, stored.PREDICTIONS, stored.RESULT):
            together = tmp_path / "together" / name_of(spec) / name
            assert together.read_bytes() == (tmp_path / "alone" / name_of(spec) / name).read_bytes()
