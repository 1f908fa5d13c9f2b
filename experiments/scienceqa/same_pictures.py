"""Find image files of the same picture, which ScienceQA has in several encodings."""

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

# Largest and mean difference of a channel, of 255. 1,888 pairs of ScienceQA's test images of one
# size differ by 38 at most and by less than 0.4 on average; the next ones are drawings with another
# name in them.
PIXEL_LIMIT = 40
MEAN_LIMIT = 1.0
# Candidates are found by the means of 8 x 8 blocks; in those pairs they differ by 3 at most.
BLOCKS = 8
BLOCK_LIMIT = 8


def same_pictures(images: Mapping[str, "Image"]) -> dict[str, str]:
    """The picture of every RGB image: the name of the first image that shows it.

    Images show the same picture if they have the same size and differ by at most `PIXEL_LIMIT` in
    every channel and `MEAN_LIMIT` on average, or if both show the same picture as a third.
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
                if first[i] != first[j] and _similar(images[names[j]], images[name]):
                    pair = first[i], first[j]
                    first[np.isin(first, pair)] = min(pair)
        picture |= {name: names[place] for name, place in zip(names, first, strict=True)}
    return picture


def _similar(one: "Image", other: "Image") -> bool:
    import numpy as np

    difference = np.abs(_pixels(one) - _pixels(other))
    return bool(difference.max() <= PIXEL_LIMIT and difference.mean() <= MEAN_LIMIT)


def _blocks(image: "Image") -> Any:
    from PIL.Image import Resampling

    return _pixels(image.resize((BLOCKS, BLOCKS), Resampling.BOX))


def _pixels(image: "Image") -> Any:
    import numpy as np

    return np.asarray(image, np.int16)
