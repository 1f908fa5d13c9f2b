"""Model inputs: images or, if the method allows it, the features of the frozen trunk."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from experiments.harness.spec import RunSpec
from experiments.images.protocols import Protocol
from experiments.images.task_folder import Example
from experiments.training.optimisation import autocast
from experiments.vtab_vit.loaded_task import KEPT_FEATURE_BYTES, LoadedTask
from experiments.vtab_vit.methods import has_trunk
from experiments.vtab_vit.settings import Settings
from experiments.vtab_vit.task import Training, logits
from zia_core.errors import ZiaError

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
        exact = self._settings.trunk_precision == "fp32"
        if exact and self._settings.precision == "bf16":
            raise ZiaError(
                "trunk_precision=fp32 needs float32 weights, which precision=bf16 has not: set "
                "precision=bf16-autocast"
            )
        if exact and not self._settings.reuse_trunk:
            raise ZiaError(
                "trunk_precision=fp32 is for blocks that are computed once: set reuse_trunk=true, "
                "or trunk_precision=none"
            )
        self._trunk_settings = (
            replace(self._settings, precision="fp32") if exact else self._settings
        )
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
        size, kept = settings.batch_size, KEPT_FEATURE_BYTES
        if found and len(examples) * self._tokens * self._model.embed_dim * 4 <= kept:
            batches: Iterator[Tensor] = iter(self._features(examples).split(size))
        else:
            batches = self._task.batches(examples, self._protocol, size)
            if found:
                batches = map(self._computed, batches)
        self._model.eval()
        for batch in batches:
            with torch.no_grad(), autocast(settings):
                scores = logits(self._model, batch.to(settings.device), found)
            yield scores.argmax(dim=-1).tolist()

    def _features(self, examples: Sequence[Example]) -> "Tensor":
        """The trunk's output (N, T, C), from this run or an earlier one in this process."""
        settings = self._trunk_settings
        assert self._trunk is not None
        machine = settings.device, settings.precision, settings.threads
        by = (self._protocol, self._weights, self._trunk.depth, self._pass_size, machine)
        images = self._task.images
        return self._task.features(
            examples, by, lambda: self._computed(images(examples, self._protocol))
        )

    def _computed(self, images: "Tensor") -> "Tensor":
        """The trunk's output (N, T, C)."""
        import torch

        assert self._trunk is not None
        with autocast(self._trunk_settings), torch.no_grad():
            return self._trunk.features(self._model, images, self._pass_size)

    @property
    def _pass_size(self) -> int:
        """Training's number of images in a pass: sums of another shape may be rounded otherwise."""
        settings = self._settings
        return min(settings.batch_size, settings.micro_batch_size or settings.batch_size)
