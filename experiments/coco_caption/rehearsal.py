"""COCO's runs in a few steps, on generated scenes."""

from dataclasses import replace

from experiments.coco_caption.data import REDUCED
from experiments.data.subsets import SAMPLE
from experiments.harness.rehearsal import Rehearsal
from experiments.harness.spec import RunSpec
from experiments.mini_world import world
from experiments.training.rehearsed import two_steps

CAPTIONS = 5  # of an image


def shorten(spec: RunSpec) -> RunSpec:
    """Train on the first images, and write captions of two tokens."""
    changes = two_steps(spec.settings, CAPTIONS * REDUCED[SAMPLE][0]) | {"new_tokens": 2}
    return replace(spec, data=SAMPLE, settings=replace(spec.settings, **changes))


REHEARSAL = Rehearsal(shorten, {"coco": world.write_coco})
