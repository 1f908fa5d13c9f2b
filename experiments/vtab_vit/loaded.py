"""A task in memory: read once for the many runs of a process, and again if a file has changed."""

from collections.abc import Callable, Hashable, Iterator, Sequence
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
    task_folder,
)
from experiments.images.tasks import Task
from experiments.vtab_vit.pixels import pixels

if TYPE_CHECKING:
    from torch import Tensor

KEPT_BYTES = 1_000_000_000  # larger sets of images are decoded batch by batch every time
# Of one set of features; larger ones are computed by every run. There are a dozen at most: of four
# lists, entering three blocks or so.
KEPT_FEATURE_BYTES = 50_000_000


@dataclass(frozen=True)
class LoadedTask:
    """A task's examples, what its files hold, and the images that were asked for, decoded."""

    data: TaskData
    contents: Contents
    _files: tuple[tuple[int, ...], ...]  # the state of every file when it was read
    _decoded: dict[tuple[tuple[Example, ...], Protocol], "Tensor"] = field(default_factory=dict)
    _features: dict[tuple[Hashable, ...], "Tensor"] = field(default_factory=dict)

    def images(self, examples: Sequence[Example], protocol: Protocol) -> "Tensor":
        """Decode and preprocess: float32 [N, 3, R, R]. The tensor is shared: do not change it.

        Raises:
            ZiaError: an image cannot be decoded.
        """
        key = (tuple(examples), protocol)
        if key not in self._decoded:
            self._decoded[key] = pixels(examples, protocol)
        return self._decoded[key]

    def features(
        self, examples: Sequence[Example], by: Hashable, compute: "Callable[[], Tensor]"
    ) -> "Tensor":
        """What a frozen trunk makes of the images, computed once for the runs of a process.

        Args:
            examples: whose images they are of.
            by: everything besides that decides a bit of them.
            compute: gives them. The tensor is shared: do not change it.
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


_newest: dict[Path, LoadedTask] = {}  # one task or two: runs are planned task by task


def loaded(task: Task, beside: Task | None = None) -> LoadedTask:
    """The task in `$ZIA_DATA`, read and hashed whole the first time.

    Asked again, every file's inode, size and times are compared (20 ms for 12,000 files), and all
    is read again if one differs. Of other tasks only `beside` stays in memory.

    Raises:
        ZiaError: as `load_task`.
    """
    folder = task_folder(task)
    for other, each in list(_newest.items()):
        if each.data.task not in (task, beside):
            del _newest[other]
    known = _newest.pop(folder, None)
    if known is None or known.data.task != task or known._files != _states(known.data):
        data = load_task(task, folder)
        # Looked at before the content is read: what changes meanwhile is seen the next time.
        files = _states(data)
        known = LoadedTask(data, contents(data), files)
    _newest[folder] = known
    return known


def _states(data: TaskData) -> tuple[tuple[int, ...], ...]:
    """Inode, size and times of the lists and of every listed image; nothing for a missing one."""
    images = (example.path for split in LISTS for example in data.split(split))
    lists = (data.folder / name for name in LISTS.values())
    return tuple(map(_state, dict.fromkeys([*lists, *images])))


def _state(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
