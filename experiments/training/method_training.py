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


SHARDS = "shards"  # in the folder of checkpoints, beside the journal's


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
    sharded: bool = False,
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
        sharded: with several ranks, train in shards (`zia_core.sharding`) and not data-parallel.
    """
    import torch

    from zia_core.engine import train
    from zia_core.identity import backbone_identity
    from zia_core.ranks import Ranks
    from zia_core.rng import derived_seed
    from zia_core.sharding import gather, shard
    from zia_core.trained_weights import pack_trained

    identity = backbone_identity(backbone)
    torch.manual_seed(derived_seed(spec.seed, "parameters"))
    model = prepare(backbone)
    task = make_task(model)
    chosen = train_settings(settings, spec.seed, len(task), checkpoints, rates)
    ranks, shards = Ranks.of_this_process(torch.device(settings.device)), None
    if sharded and ranks.size > 1:
        shard(model, "bf16-autocast" if settings.precision == "bf16-autocast" else "fp32")
        shards = folder.path / stored.CHECKPOINT / SHARDS
    summary = train(model, task, chosen, folder, shards)
    model.eval()
    adapter = pack_trained(model, spec.method, identity) if keep_adapter else b""
    if shards is not None:
        gather(model)
    if adapter or not ranks.is_first:  # the other ranks end here
        with folder.writing(stored.ADAPTER) as path:
            path.write_bytes(adapter)
    return TrainedModel(model, summary, adapter, folder)
