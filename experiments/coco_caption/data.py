"""Read images with captions from the official files of COCO and Flickr8k.

COCO, in `$ZIA_DATA/coco`: `annotations/captions_train2014.json` and `captions_val2014.json`,
`karpathy_{train,val,test}_images.txt` (a file name and an id per line), images in `train2014/` and
`val2014/`. Flickr8k, in `$ZIA_DATA/flickr8k`: `Flickr8k.token.txt`,
`Flickr_8k.{train,dev,test}Images.txt`, images in `Flicker8k_Dataset/` (spelt so). Texts may be .gz.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.data.files import DATA_VARIABLE, official_file, read_text, where_looked
from experiments.data.subsets import SAMPLE, SAMPLE_SCORED
from experiments.io.files import canonical_json
from experiments.io.safe_names import inside
from experiments.metrics.coco.files import ImageId, read_annotations
from zia_core.errors import ZiaError

TASKS = ("coco", "flickr8k")
COCO_YEARS = ("train2014", "val2014")
# Named subsets: the number of images, the first of each list, for training, validation and test.
FULL = "full"
REDUCED = {"reduced-300": (300, 40, 200), SAMPLE: (26, 3, SAMPLE_SCORED)}
FLICKR_TOKENS, FLICKR_IMAGES = "Flickr8k.token.txt", "Flicker8k_Dataset"
SPLITS = {"train": "train", "val": "dev", "test": "test"}  # ours and Flickr8k's


@dataclass(frozen=True)
class Captioned:
    """One image with its reference captions."""

    id: ImageId
    image: Path
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Splits:
    """The images of a data set."""

    train: list[Captioned]
    val: list[Captioned]
    test: list[Captioned]


def load_captions(task: str) -> Splits:
    """Return the images of a task in the order of its lists.

    ZiaError, which names file and record: a file is missing or malformed, a caption has no image,
    or an image has no caption or is in two lists.
    """
    splits = _coco() if task == "coco" else _flickr8k()
    seen: dict[ImageId, str] = {}
    for name, part in vars(splits).items():
        for each in part:
            if each.id in seen:
                raise ZiaError(f"the image {each.id!r} is in the lists {seen[each.id]} and {name}")
            seen[each.id] = name
    return splits


def select(task: str, data: str) -> Splits:
    """Return the images of a run; ZiaError as in `load_captions`, and for an unknown name."""
    if data not in (FULL, *REDUCED):
        raise ZiaError(f"no data named {data!r:.60}; there are: {', '.join((FULL, *REDUCED))}")
    splits = load_captions(task)
    if data == FULL:
        return splits
    train, val, test = REDUCED[data]
    return Splits(splits.train[:train], splits.val[:val], splits.test[:test])


def fingerprint(images: Sequence[Captioned]) -> str:
    """A SHA-256 that identifies these images' ids and captions in this order."""
    text = canonical_json([[each.id, list(each.captions)] for each in images])
    return hashlib.sha256(text.encode()).hexdigest()


def _coco() -> Splits:
    captions: dict[ImageId, list[str]] = {}
    for year in COCO_YEARS:
        captions |= read_annotations(_file(f"coco/annotations/captions_{year}.json"))
    return Splits(**{split: list(_karpathy(split, captions)) for split in SPLITS})


def _karpathy(split: str, captions: dict[ImageId, list[str]]) -> Iterator[Captioned]:
    path = _file(f"coco/karpathy_{split}_images.txt")
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        where = f"{path}, line {number}"
        name, _, identity = line.strip().partition(" ")
        year, _, file = name.partition("/")
        if not identity.isdecimal() or year not in COCO_YEARS:
            raise ZiaError(f"{where} must be like 'val2014/NAME.jpg 42', not {line!r:.60}")
        image = inside(path.parent / year, file, where)
        yield _captioned(int(identity), image, captions, where)


def _flickr8k() -> Splits:
    path = _file(f"flickr8k/{FLICKR_TOKENS}")
    captions: dict[ImageId, list[str]] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        name, tab, caption = line.partition("\t")
        image, mark, _ = name.partition("#")
        if not tab or not mark or not caption.strip():
            raise ZiaError(
                f"{path}, line {number} must be like 'NAME.jpg#0<tab>a caption', not {line!r:.60}"
            )
        captions.setdefault(image, []).append(caption.strip())
    return Splits(**{ours: list(_listed(theirs, captions)) for ours, theirs in SPLITS.items()})


def _listed(split: str, captions: dict[ImageId, list[str]]) -> Iterator[Captioned]:
    path = _file(f"flickr8k/Flickr_8k.{split}Images.txt")
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        name = line.strip()
        where = f"{path}, line {number}"
        image = inside(path.parent / FLICKR_IMAGES, name, where)
        yield _captioned(name, image, captions, where)


def _captioned(
    identity: ImageId, image: Path, captions: dict[ImageId, list[str]], where: str
) -> Captioned:
    texts = captions.get(identity)
    if not texts:
        raise ZiaError(f"{where}: the image {identity!r} has no caption: add one or drop the line")
    return Captioned(identity, image, tuple(texts))


def _file(name: str) -> Path:
    path = official_file(name)
    if path is None:
        raise ZiaError(
            f"no captions: {where_looked(name)}; put the data set's official files into the folder "
            f"{name.partition('/')[0]}/ of ${DATA_VARIABLE}"
        )
    return path
