"""SQuAD's runs in a few steps, on generated paragraphs."""

from dataclasses import replace

from experiments.data.subsets import SAMPLE, SAMPLE_TRAINED
from experiments.harness.rehearsal import GeneratedData, Rehearsal
from experiments.harness.spec import RunSpec
from experiments.mini_world import world
from experiments.squad_roberta.subsets import TASKS
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


FILES = tuple(f"{part}-v{version}.json" for part in ("train", "dev") for version in TASKS.values())
REHEARSAL = Rehearsal(shorten, (GeneratedData("SQuAD", "squad", FILES, world.write_squad),))
