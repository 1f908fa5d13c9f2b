"""The test images that a final run is scored on: all, or a named part."""

import hashlib
from collections.abc import Sequence

from experiments.data.subsets import FULL, SAMPLE
from experiments.images.task_folder import Example
from zia_core.errors import ZiaError

REDUCED = "reduced-2000"
_REDUCED_SIZE = 2000


def test_images(examples: Sequence[Example], name: str) -> tuple[Example, ...]:
    """Return the test images of the data named `name`, in the order of the list.

    "reduced-2000" are the 2,000 images whose names have the lowest SHA-256.

    Raises:
        ZiaError: there are no data of that name.
    """
    if name in (FULL, SAMPLE):  # of a sample, the run takes the first
        return tuple(examples)
    if name != REDUCED:
        raise ZiaError(f"no data named {name!r:.60}; there are: {FULL}, {REDUCED}, {SAMPLE}")

    def digest(example: Example) -> str:
        return hashlib.sha256(example.name.encode()).hexdigest()

    chosen = {example.name for example in sorted(examples, key=digest)[:_REDUCED_SIZE]}
    return tuple(example for example in examples if example.name in chosen)
