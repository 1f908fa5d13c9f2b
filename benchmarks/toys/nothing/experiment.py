"""An experiment that only records, as training does: all of its time is overhead."""

from dataclasses import dataclass

from experiments.harness.experiment import Estimate, Experiment
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec


@dataclass(frozen=True)
class Settings:
    """The amount recorded."""

    steps: int = 0
    checkpoints: int = 0  # each of an adapter of 1.2M parameters and AdamW's two moments of it


def spec(seed: int, settings: Settings) -> RunSpec:
    """The run of a seed."""
    return RunSpec(
        experiment="nothing",
        version=1,
        task="nothing",
        method="none",
        backbone="none",
        data="none",
        profile="mini",
        seed=seed,
        settings=settings,
    )


def run(spec: RunSpec, folder: RunFolder) -> None:
    """Write the records of every training step, and a result."""
    import torch

    settings: Settings = spec.settings
    for step in range(1, settings.steps + 1):
        folder.stop_requested()
        record = {"step": step, "epoch": step / 64, "loss": 1.0, "lr": 1e-3, "grad_norm": 1.0}
        folder.metrics({**record, "labels": 4096})
        timing = {"step": step, "seconds": 1.0, "tokens": 8192, "tokens_per_s": 8192.0}
        folder.timing({**timing, "peak_memory_bytes": 1 << 30})
        folder.progress(
            step=step, total=settings.steps, loss=1.0, lr=1e-3, tokens_per_s=8192.0, eta_s=1.0
        )
    tensors = {name: torch.ones(30, 40_992) for name in ("adapter", "first", "second")}
    for number in range(1, settings.checkpoints + 1):
        folder.save_checkpoint(number, tensors, {})
    folder.write_result({"steps": settings.steps})


EXPERIMENT = Experiment(
    name="nothing",
    version=1,
    title="records, and does nothing else",
    settings=Settings,
    tasks=("nothing",),
    methods=("none",),
    profiles=("mini",),
    result_fields={"steps": int},
    plan=lambda profile, device: [],
    run=run,
    estimate=lambda spec: Estimate(0.0, 0.0, "it does nothing"),
)
