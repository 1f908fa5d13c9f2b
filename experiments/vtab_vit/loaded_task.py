"""Keep a task in memory for the many runs of a process, and read it again if a file changed."""

from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.images.protocols import Protocol
from experiments.images.task_folder import (
    LISTS,
    Contents,
    Example,
    TaskData,
    contents,
    load_task,
    read_image,
    task_folder,
)
from experiments.images.tasks import Task

if TYPE_CHECKING:
    from torch import Tensor

KEPT_BYTES = 1_000_000_000  # larger sets of images are decoded again, batch by batch
# The limit for one set of features: 2,000 images of 96 pixels in a ViT-B/16 take 227 MB. There are
# about a dozen sets: four lists, about three depths.
KEPT_FEATURE_BYTES = 250_000_000


@dataclass(frozen=True)
class LoadedTask:
    """A task's examples and fingerprint, and its decoded images and features so far."""

    data: TaskData
    contents: Contents
    _files: tuple[tuple[int, ...], ...]  # the state of every file when it was read
    _decoded: dict[tuple[tuple[Example, ...], Protocol], "Tensor"] = field(default_factory=dict)
    _features: dict[tuple[Hashable, ...], "Tensor"] = field(default_factory=dict)

    def images(self, examples: Sequence[Example], protocol: Protocol) -> "Tensor":
        """The preprocessed images (N, 3, R, R) float32. Do not change the tensor: it is shared.

        ZiaError if an image cannot be decoded.
        """
        key = (tuple(examples), protocol)
        if key not in self._decoded:
            self._decoded[key] = pixels(examples, protocol)
        return self._decoded[key]

    def features(
        self, examples: Sequence[Example], by: Hashable, compute: "Callable[[], Tensor]"
    ) -> "Tensor":
        """The features that a frozen trunk computes, once for the runs of a process.

        Args:
            examples: of the images.
            by: everything else that the features depend on.
            compute: returns them. Do not change the tensor: it is shared.
        """
        key = (tuple(examples), by)
        if key in self._features:
            return self._features[key]
        found = compute()
        if found.nbytes <= KEPT_FEATURE_BYTES:
            self._features[key] = found
        return found

    def batches(
        self, examples: Sequence[Example], protocol: Protocol, size: int
    ) -> "Iterator[Tensor]":
        """The images in order, `size` at a time; a set above 1 GB is not kept in memory."""
        if len(examples) * 3 * protocol.resolution**2 * 4 <= KEPT_BYTES:
            yield from self.images(examples, protocol).split(size)
        else:
            for start in range(0, len(examples), size):
                yield pixels(examples[start : start + size], protocol)


_newest: dict[Path, LoadedTask] = {}  # few, as runs are planned task by task


def loaded(task: Task, beside: Collection[Task] = ()) -> LoadedTask:
    """The task in `$ZIA_DATA`, read and hashed the first time.

    Later calls compare every file's inode, size and times (20 ms for 12,000 files) and read all
    again if one differs. Of other tasks only those `beside` stay in memory. ZiaError as in
    `load_task`.
    """
    folder = task_folder(task)
    for other, each in list(_newest.items()):
        if each.data.task != task and each.data.task not in beside:
            del _newest[other]
    known = _newest.pop(folder, None)
    if known is None or known.data.task != task or known._files != _states(known.data):
        data = load_task(task, folder)
        # Before the content is read, so that a change in between is noticed the next time.
        files = _states(data)
        known = LoadedTask(data, contents(data), files)
    _newest[folder] = known
    return known


def _states(data: TaskData) -> tuple[tuple[int, ...], ...]:
    """Inode, size and times of the lists and of every listed image; empty for a missing file."""
    images = (example.path for split in LISTS for example in data.split(split))
    lists = (data.folder / name for name in LISTS.values())
    return tuple(map(_state, dict.fromkeys([*lists, *images])))


def _state(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def pixels(examples: Sequence[Example], protocol: Protocol) -> "Tensor":
    """Decode and preprocess images to (N, 3, R, R) float32.

    An image takes 12 R^2 bytes: 1,000 images take 0.6 GB at 224 pixels and 12 MB at 32. ZiaError if
    one cannot be decoded.
    """
    import torch

    batch = torch.empty(len(examples), 3, protocol.resolution, protocol.resolution)
    for row, example in enumerate(examples):
        batch[row] = protocol(read_image(example))
    return batch
