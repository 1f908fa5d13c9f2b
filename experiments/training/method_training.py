"""Train a method on a backbone and save its adapter, as every experiment does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.harness import stored
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.training.optimisation import Optimisation, train_settings

if TYPE_CHECKING:
    from torch import nn

    from zia_core.training import TrainSummary, TrainTask


@dataclass(frozen=True)
class TrainedModel:
    """A model after its training, in eval mode."""

    model: "nn.Module"
    summary: "TrainSummary"
    adapter: bytes  # the adapter's file; empty if nothing was trained or kept
    folder: RunFolder

    def stop_if_requested(self) -> None:
        """Raise Interrupted if the run is to stop.

        Call it between two answers: answering takes minutes, and the training is checkpointed.
        """
        from zia_core.engine import Interrupted

        if reason := self.folder.stop_requested():
            raise Interrupted(reason, self.summary.steps)


def train_method(
    spec: RunSpec,
    folder: RunFolder,
    backbone: "nn.Module",
    prepare: "Callable[[Any], nn.Module]",
    make_task: "Callable[[nn.Module], TrainTask]",
    settings: Optimisation,
    *,
    rates: Mapping[str, float] | None = None,
    checkpoints: int = 10,
    keep_adapter: bool = True,
) -> TrainedModel:
    """Train what `prepare` adds to the backbone, or resume that, and save the adapter.

    Args:
        spec: the run; `prepare` draws from torch's generator, seeded by the run's seed.
        folder: of the run.
        backbone: on its device.
        prepare: adds the method's trainable parameters.
        make_task: returns the examples and their loss, given the prepared model.
        settings: with the chosen peak rate.
        rates, checkpoints: as in `train_settings`.
        keep_adapter: False for runs that only try a rate.
    """
    import torch

    from zia_core.engine import train
    from zia_core.identity import backbone_identity
    from zia_core.rng import derived_seed
    from zia_core.trained_weights import pack_trained

    identity = backbone_identity(backbone)
    torch.manual_seed(derived_seed(spec.seed, "parameters"))
    model = prepare(backbone)
    task = make_task(model)
    chosen = train_settings(settings, spec.seed, len(task), checkpoints, rates)
    summary = train(model, task, chosen, folder)
    model.eval()
    adapter = pack_trained(model, spec.method, identity) if keep_adapter else b""
    if adapter:
        with folder.writing(stored.ADAPTER) as path:
            path.write_bytes(adapter)
    return TrainedModel(model, summary, adapter, folder)
