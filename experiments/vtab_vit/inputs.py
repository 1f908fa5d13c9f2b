"""What a run's model is fed: images or, where the method allows, the features of its trunk."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from experiments.harness.spec import RunSpec
from experiments.images.protocols import Protocol
from experiments.images.task_folder import Example
from experiments.training.optimisation import autocast
from experiments.vtab_vit.loaded import KEPT_FEATURE_BYTES, LoadedTask
from experiments.vtab_vit.methods import WITHOUT_TRUNK
from experiments.vtab_vit.settings import Settings
from experiments.vtab_vit.task import Training, logits

if TYPE_CHECKING:
    from torch import Tensor


class Inputs:
    """The images of a run, or their features.

    Runs of one process share what is computed: features depend on the backbone and on the depth of
    the trunk, but not on the method, the rate or the seed.
    """

    def __init__(
        self, task: LoadedTask, protocol: Protocol, model: Any, spec: RunSpec, weights: str
    ) -> None:
        """Of a prepared model; `weights` is the hash of its backbone's."""
        from zia_core.trunk import trunk

        self._task, self._protocol, self._model = task, protocol, model
        self._settings: Settings = spec.settings
        self._weights = weights
        reused = self._settings.reuse_trunk and spec.method not in WITHOUT_TRUNK
        self._trunk = trunk(model) if reused else None
        self._tokens = 1 if spec.method == "pixel-probe" else model.patch_embed.num_patches + 1

    def training(self, examples: Sequence[Example]) -> Training:
        """The training set of the engine."""
        if self._trunk is None:
            images = self._task.images(examples, self._protocol)
            return Training(examples, images, self._tokens, None)
        return Training(examples, self._features(examples), self._tokens, self._trunk)

    def guesses(self, examples: Sequence[Example]) -> Iterator[list[int]]:
        """The most likely class of each image, a batch at a time."""
        import torch

        settings, found = self._settings, self._trunk
        if found and len(examples) * self._tokens * self._model.embed_dim * 4 <= KEPT_FEATURE_BYTES:
            batches: Iterator[Tensor] = iter(self._features(examples).split(settings.batch_size))
        else:  # decoded and passed through the whole model batch by batch
            found = None
            batches = self._task.batches(examples, self._protocol, settings.batch_size)
        self._model.eval()
        for batch in batches:
            with torch.no_grad(), autocast(settings):
                scores = logits(self._model, batch.to(settings.device), found)
            yield scores.argmax(dim=-1).tolist()

    def _features(self, examples: Sequence[Example]) -> "Tensor":
        """The trunk's output [N, T, C], of this run or of an earlier one of this process."""
        import torch

        settings, found = self._settings, self._trunk
        assert found is not None
        # Passes of the size that training has: of another, they might add in another order.
        size = min(settings.batch_size, settings.micro_batch_size or settings.batch_size)

        def compute() -> "Tensor":
            images = self._task.images(examples, self._protocol)
            with autocast(settings), torch.no_grad():
                return found.features(self._model, images, size)

        machine = settings.device, settings.precision, settings.threads
        by = (self._protocol, self._weights, found.depth, size, machine)
        return self._task.features(examples, by, compute)
