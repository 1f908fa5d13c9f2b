"""Save and restore a training run: a file in its journal and, of a sharded model, a folder too."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from torch.nn import Parameter
from torch.optim import Optimizer

from zia_core.errors import ZiaError
from zia_core.ranks import Ranks, checkpoint_of_first, communicating
from zia_core.sharding import load_shards, make_way, remove_old, save_shards
from zia_core.training import Journal, TrainSummary
from zia_core.training_state import restore_training, training_tensors


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a run; every rank must call both methods.

    Attributes:
        parameters: the trained ones, by name.
        optimizer: of these.
        journal: of which only the first rank's is read and written.
        ranks: all of them.
        shards: the folder of a sharded model's parts; None if it is not sharded.
    """

    parameters: Mapping[str, Parameter]
    optimizer: Optimizer
    journal: Journal
    ranks: Ranks
    shards: Path | None

    def save(self, so_far: TrainSummary) -> None:
        """Write the state after `so_far.steps` steps."""
        if self.shards is not None:
            self._save_in_shards(so_far, self.shards / f"step-{so_far.steps:08d}")
            return
        with self.ranks.failing_together():
            if self.ranks.is_first:
                tensors = training_tensors(self.parameters, self.optimizer)
                self.journal.save_checkpoint(so_far.steps, tensors, asdict(so_far))

    def _save_in_shards(self, so_far: TrainSummary, folder: Path) -> None:
        """Save all parts; then the journal's file makes the checkpoint valid."""
        with self.ranks.failing_together():
            if self.ranks.is_first:
                make_way(folder)
        with communicating():
            save_shards(folder, self.parameters, self.optimizer)
        with self.ranks.failing_together():
            if self.ranks.is_first:
                tensors = training_tensors({}, self.optimizer)
                state = asdict(so_far) | {"shards": folder.name}
                self.journal.save_checkpoint(so_far.steps, tensors, state)
                remove_old(folder)

    def load(self) -> TrainSummary | None:
        """Restore the journal's checkpoint; None if it has none.

        Raises:
            ZiaError: it is of another model, or sharded where this run is not, or the reverse.
        """
        with self.ranks.failing_together():
            loaded = self.journal.load_checkpoint() if self.ranks.is_first else None
        loaded = checkpoint_of_first(self.ranks, loaded)
        if loaded is None:
            return None
        step, tensors, state = loaded[0], loaded[1], dict(loaded[2])
        folder = state.pop("shards", None)
        if (folder is not None) != (self.shards is not None):
            raise ZiaError(
                f"the checkpoint of step {step} is {'' if folder else 'not '}in shards; continue "
                f"{'with' if folder else 'without'} sharding, as the run began"
            )
        if folder is not None and self.shards is not None:
            load_shards(self.shards / folder, self.parameters, self.optimizer)
            restore_training(tensors, {}, self.optimizer)
        else:
            restore_training(tensors, self.parameters, self.optimizer)
        return TrainSummary(**state)
