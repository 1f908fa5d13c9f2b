"""Model inputs: images or, if the method allows it, the features of the frozen trunk."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from experiments.harness.spec import RunSpec
from experiments.images.protocols import Protocol
from experiments.images.task_folder import Example
from experiments.training.optimisation import autocast
from experiments.vtab_vit.loaded_task import KEPT_FEATURE_BYTES, LoadedTask
from experiments.vtab_vit.methods import has_trunk
from experiments.vtab_vit.settings import Settings
from experiments.vtab_vit.task import Training, logits

if TYPE_CHECKING:
    from torch import Tensor


class Inputs:
    """The images of a run, or their features.

    Features depend on the backbone and the depth of the trunk, but not on the method, the rate or
    the seed, so the runs of a process share them.
    """

    def __init__(
        self, task: LoadedTask, protocol: Protocol, model: Any, spec: RunSpec, weights: str
    ) -> None:
        """`model` is prepared; `weights` identifies its backbone."""
        from zia_core.trunk import trunk

        self._task, self._protocol, self._model = task, protocol, model
        self._settings: Settings = spec.settings
        self._weights = weights
        reused = self._settings.reuse_trunk and has_trunk(spec.method, self._settings)
        self._trunk = trunk(model) if reused else None
        self._tokens = 1 if spec.method == "pixel-probe" else model.patch_embed.num_patches + 1

    def training(self, examples: Sequence[Example]) -> Training:
        """The engine's task."""
        if self._trunk is None:
            images = self._task.images(examples, self._protocol)
            return Training(examples, images, self._tokens, None)
        return Training(examples, self._features(examples), self._tokens, self._trunk)

    def guesses(self, examples: Sequence[Example]) -> Iterator[list[int]]:
        """Yield the most likely class of each image, a batch at a time."""
        import torch

        settings, found = self._settings, self._trunk
        if found and len(examples) * self._tokens * self._model.embed_dim * 4 <= KEPT_FEATURE_BYTES:
            batches: Iterator[Tensor] = iter(self._features(examples).split(settings.batch_size))
        else:  # decode images and pass them through the whole model, batch by batch
            found = None
            batches = self._task.batches(examples, self._protocol, settings.batch_size)
        self._model.eval()
        for batch in batches:
            with torch.no_grad(), autocast(settings):
                scores = logits(self._model, batch.to(settings.device), found)
            yield scores.argmax(dim=-1).tolist()

    def _features(self, examples: Sequence[Example]) -> "Tensor":
        """The trunk's output (N, T, C), from this run or an earlier one in this process."""
        import torch

        settings, found = self._settings, self._trunk
        assert found is not None
        # Batches of training's size: sums of another shape may be rounded differently.
        size = min(settings.batch_size, settings.micro_batch_size or settings.batch_size)

        def compute() -> "Tensor":
            images = self._task.images(examples, self._protocol)
            with autocast(settings), torch.no_grad():
                return found.features(self._model, images, size)

        machine = settings.device, settings.precision, settings.threads
        by = (self._protocol, self._weights, found.depth, size, machine)
        return self._task.features(examples, by, compute)
