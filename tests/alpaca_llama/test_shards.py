"""Full fine-tuning in shards through the harness: two processes give the result of one."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from experiments.alpaca_llama import plan
from experiments.dispatch import in_process, rank_processes
from experiments.harness import stored, verify
from experiments.harness.spec import RunSpec
from tests.alpaca_llama import world

OF_THE_CLOCK = {"train_seconds", "tokens_per_s", "peak_memory_bytes", "adapter_sha256"}


def spec() -> RunSpec:
    """As `paper` would have it, on a CPU: untied, with a validation loss and answers."""
    return replace(world.spec("full", evaluations=1, epochs=1.0), profile="paper")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        world.prepare(folder, patch)
        patch.setenv("PYTHONPATH", str(repository))  # of the other rank
        yield folder


def run(runs: Path, ranks: int) -> stored.StoredRun:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rank_processes, "ranks_for", lambda spec: ranks)
        outcome = in_process.run_one(spec(), runs)
    assert outcome.state == "done", outcome.reason
    return stored.load(runs / spec().experiment / spec().folder_name)


@pytest.fixture(scope="module")
def both(root: Path) -> stored.StoredRun:
    return run(root / "both", 2)


def test_two_processes_give_the_result_of_one(root: Path, both: stored.StoredRun) -> None:
    alone = run(root / "alone", 1)
    assert plan.in_shards(spec())
    assert both.environment["ranks"] == 2
    assert both.result.keys() == alone.result.keys()
    for name in alone.result.keys() - OF_THE_CLOCK:
        value = alone.result[name]
        expected: Any = pytest.approx(value, rel=1e-6) if isinstance(value, float) else value
        assert both.result[name] == expected, name
    one, other = (list(run.predictions()) for run in (both, alone))
    assert [p.get("output") for p in one] == [p.get("output") for p in other]
    assert len([p for p in one if "output" in p]) > 10
    ours, theirs = (list(run.metrics()) for run in (both, alone))
    assert [record.keys() for record in ours] == [record.keys() for record in theirs]
    assert ours != theirs  # sums of another order: there were two
    file = Path(spec().experiment, spec().folder_name, stored.ADAPTER)
    tensors, expected_tensors = (load_file(root / name / file) for name in ("both", "alone"))
    assert tensors.keys() == expected_tensors.keys()
    for name, tensor in expected_tensors.items():
        assert (tensors[name] - tensor).abs().max() < 1e-4, name
    assert {finding.outcome for finding in verify.verify(both.path)} == {"ok"}
    assert not (both.path / stored.CHECKPOINT).exists()


KILLED_AFTER_STEP_3 = """
import os, signal, sys
from pathlib import Path
from experiments.dispatch import in_process, rank_processes
from tests.alpaca_llama.test_shards import spec
rank_processes.ranks_for = lambda spec: 2
def show(fields):
    if fields["step"] == 3:
        os.kill(os.getpid(), signal.SIGKILL)
in_process.run_one(spec(), Path(sys.argv[1]), show)
"""


def test_killed_and_resumed_it_is_bitwise_the_same(root: Path, both: stored.StoredRun) -> None:
    runs = root / "killed"
    worker = subprocess.run([sys.executable, "-c", KILLED_AFTER_STEP_3, str(runs)], check=False)
    assert worker.returncode == -signal.SIGKILL
    folder = runs / spec().experiment / spec().folder_name
    assert stored.checkpoint_step(folder) == 2
    parts = [
        path.name for path in folder.glob(f"{stored.CHECKPOINT}/shards/step-00000002/*.distcp")
    ]
    assert sorted(parts) == ["__0_0.distcp", "__1_0.distcp"]
    resumed = run(runs, 2)
    assert [attempt["end"] for attempt in resumed.status["attempts"]] == ["lost", "done"]
    for name in stored.METRICS, stored.ADAPTER, stored.PREDICTIONS:
        assert (resumed.path / name).read_bytes() == (both.path / name).read_bytes(), name
