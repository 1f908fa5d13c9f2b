"""Draw the lists of `reduced-own-split.json`."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.data.subsets import DIGEST_DIGITS
from experiments.scienceqa.same_pictures import same_pictures

if TYPE_CHECKING:
    from PIL.Image import Image

VALIDATION_PERCENT = 20


def own_split(
    questions: Mapping[str, tuple[str, str]], images: Mapping[str, "Image"], test: Iterable[str]
) -> dict[str, list[str]]:
    """Split questions so that no picture and no question text is in two parts.

    Questions that share a picture, in any file, or a text form a group. Of a group with questions
    of `test`, the others are left out. About 20 % of the other groups are `val`, by a hash of their
    first text.

    Args:
        questions: (image, text) by pid.
        images: the images in RGB.
        test: pids of the test part.
    """
    picture = same_pictures(images)
    groups = _groups({pid: (picture[image], text) for pid, (image, text) in questions.items()})
    tested = set(test)
    parts: dict[str, list[str]] = {"train": [], "val": [], "test": [], "left_out": []}
    for group in groups:
        if tested & set(group):
            parts["test"] += [pid for pid in group if pid in tested]
            parts["left_out"] += [pid for pid in group if pid not in tested]
            continue
        percent = _percent(min(questions[pid][1] for pid in group))
        parts["val" if percent < VALIDATION_PERCENT else "train"] += group
    return {name: sorted(pids, key=int) for name, pids in parts.items()}


def _percent(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) % 100


def _groups(questions: Mapping[str, tuple[str, str]]) -> list[list[str]]:
    """Connected components of questions with a common picture or text."""
    holders: dict[tuple[int, str], list[str]] = defaultdict(list)
    for pid, keys in questions.items():
        for kind, key in enumerate(keys):
            holders[kind, key].append(pid)
    seen: set[str] = set()
    groups = []
    for start in questions:
        if start in seen:
            continue
        group, todo = [], [start]
        seen.add(start)
        while todo:
            pid = todo.pop()
            group.append(pid)
            for kind, key in enumerate(questions[pid]):
                fresh = [other for other in holders[kind, key] if other not in seen]
                seen.update(fresh)
                todo += fresh
        groups.append(group)
    return groups


def listing(parts: Mapping[str, Sequence[str]], digests: Mapping[str, str]) -> dict[str, Any]:
    """The content of a subset's file: ids and the first digits of each record's digest."""
    return {s: [(pid, digests[pid][:DIGEST_DIGITS]) for pid in pids] for s, pids in parts.items()}
