"""What the report needs to know of `coco_caption`: its score, and which captions it shows."""

from collections.abc import Mapping, Sequence

from experiments.coco_caption.data import load_captions
from experiments.harness.report_info import Asked, ReportInfo, Samples, Score
from experiments.mini_world.provided import PROFILE as MINI
from experiments.mini_world.provided import data_of

SHOWN = 6  # images of each section


def _asked(profile: str, task: str, ids: Sequence[str]) -> Mapping[str, Asked]:
    """The first images, with pictures only if they are generated."""
    first = ids[:SHOWN]
    found = {each: Asked(f"image {each}") for each in first}
    if profile != MINI:
        return found
    with data_of(MINI):
        known = {str(each.id): each for part in vars(load_captions(task)).values() for each in part}
        return found | {
            each: Asked(
                f"image {each}",
                reference=known[each].captions[0],
                png=known[each].image.read_bytes(),
            )
            for each in first
            if each in known
        }


REPORT = ReportInfo(score=Score("CIDEr", "CIDEr (x 100)", scale=100), samples=Samples(_asked))
