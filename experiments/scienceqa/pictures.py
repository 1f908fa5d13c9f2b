"""Which image files show the same picture: ScienceQA has it more than once, encoded anew."""

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

# Of 255, for every channel of every pixel. Of the pairs of ScienceQA's test images in one size
# 1,888 differ by 38 or less, and mean by less than 0.4; then come drawings with another name in
# them.
PIXEL_LIMIT = 40
MEAN_LIMIT = 1.0
# Candidates are found by the means of 8 x 8 blocks, which differ by 3 at most in those pairs.
BLOCKS = 8
BLOCK_LIMIT = 8


def same_pictures(images: Mapping[str, "Image"]) -> dict[str, str]:
    """The picture of every image: the name of the first image that shows it.

    Images in RGB are of one picture if they have one size and no channel of a pixel differs by more
    than 40 of 255, and by one on average; or if both are of one picture with a third.
    """
    import numpy as np

    sizes: dict[tuple[int, int], list[str]] = defaultdict(list)
    for name, image in images.items():
        sizes[image.size].append(name)
    picture: dict[str, str] = {}
    for names in sizes.values():
        blocks = np.stack([_blocks(images[name]) for name in names])
        first = np.arange(len(names))  # the place of the first image of the same picture
        for i, name in enumerate(names):
            distances = np.abs(blocks[:i] - blocks[i]).max(axis=(1, 2, 3))
            for j in np.flatnonzero(distances <= BLOCK_LIMIT):
                if first[i] != first[j] and _alike(images[names[j]], images[name]):
                    pair = first[i], first[j]
                    first[np.isin(first, pair)] = min(pair)
        picture |= {name: names[place] for name, place in zip(names, first, strict=True)}
    return picture


def _alike(one: "Image", other: "Image") -> bool:
    import numpy as np

    difference = np.abs(_pixels(one) - _pixels(other))
    return bool(difference.max() <= PIXEL_LIMIT and difference.mean() <= MEAN_LIMIT)


def _blocks(image: "Image") -> Any:
    from PIL.Image import Resampling

    return _pixels(image.resize((BLOCKS, BLOCKS), Resampling.BOX))


def _pixels(image: "Image") -> Any:
    import numpy as np

    return np.asarray(image, np.int16)
