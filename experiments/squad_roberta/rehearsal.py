"""SQuAD's runs in a few steps, on generated paragraphs."""

from dataclasses import replace

from experiments.data.subsets import SAMPLE, SAMPLE_TRAINED
from experiments.harness.rehearsal import Rehearsal
from experiments.harness.spec import RunSpec
from experiments.mini_world import world
from experiments.training.rehearsed import two_steps


def shorten(spec: RunSpec) -> RunSpec:
    """Train on the windows of the first questions, hardly more than these."""
    changes = two_steps(spec.settings, SAMPLE_TRAINED)
    candidates = spec.settings.candidates[:1]
    return replace(
        spec,
        data=SAMPLE,
        settings=replace(spec.settings, candidates=candidates, selection_epochs=changes["epochs"],
                         **changes),
    )  # fmt: skip


REHEARSAL = Rehearsal(shorten, {"squad": world.write_squad})
