"""What a run of this experiment reads."""

import json
from collections.abc import Mapping
from functools import partial

from experiments.coco_caption.data import COCO_YEARS, FLICKR_IMAGES, FLICKR_TOKENS, SPLITS, select
from experiments.harness.needs import DataSet, Needs
from experiments.harness.spec import RunSpec
from experiments.language.methods import weights
from experiments.mini_world.provided import PROFILE as MINI
from zia_core.errors import ZiaError

KARPATHY = "dataset_coco.json"
COCO_SOURCE = (
    "https://cocodataset.org: train2014.zip, val2014.zip, annotations_trainval2014.zip; "
    "and Karpathy's split, https://cs.stanford.edu/people/karpathy/deepimagesent/, "
    f"caption_datasets.zip with {KARPATHY}"
)


def karpathy_lists(content: bytes) -> Mapping[str, bytes]:
    """The three lists from Karpathy's file; as usual, `restval` is trained on too."""
    lists: dict[str, list[str]] = {split: [] for split in SPLITS}
    try:
        for image in json.loads(content)["images"]:
            split = {"restval": "train"}.get(image["split"], image["split"])
            lists[split].append(f"{image['filepath']}/{image['filename']} {image['cocoid']}\n")
    except (ValueError, LookupError, TypeError) as error:
        raise ZiaError(f"{KARPATHY} is not Karpathy's file ({error!r:.60})") from error
    return {
        f"coco/karpathy_{split}_images.txt": "".join(lines).encode()
        for split, lines in lists.items()
    }


def _load(task: str, data: str) -> None:
    parts = vars(select(task, data)).values()
    images = [each.image for part in parts for each in part]
    if lost := [image for image in images if not image.is_file()]:
        raise ZiaError(f"{len(lost)} of {len(images)} images are missing, for example {lost[0]}")


def _data(task: str, data: str) -> DataSet:
    load = partial(_load, task, data)
    if task == "coco":
        files = [f"coco/annotations/captions_{year}.json" for year in COCO_YEARS]
        files += [f"coco/karpathy_{split}_images.txt" for split in SPLITS]
        files += [f"coco/{year}/" for year in COCO_YEARS]
        return DataSet("COCO 2014", tuple(files), COCO_SOURCE, load,
                       made_from=(KARPATHY, karpathy_lists))  # fmt: skip
    files = [f"flickr8k/{FLICKR_TOKENS}", f"flickr8k/{FLICKR_IMAGES}/"]
    files += [f"flickr8k/Flickr_8k.{split}Images.txt" for split in SPLITS.values()]
    source = (
        "Flickr8k_Dataset.zip and Flickr8k_text.zip; or captions.json and images_128.zip by "
        "`python -m experiments.coco_caption.convert`"
    )
    return DataSet("Flickr8k", tuple(files), source, load)


def needs(spec: RunSpec) -> Needs:
    """Weights, the image encoder if the method sees images, and captioned images."""
    data = () if spec.profile == MINI else (_data(spec.task, spec.data),)
    return Needs(weights(spec), data)
