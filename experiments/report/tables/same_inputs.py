"""ScienceQA's methods in pairs that see the same: both with images, or else both without.

Data without images for training have only the text-only methods, other data also the others; a
claim about two methods is about those pairs that see images, where there are such.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from experiments.language.methods import TEXT
from experiments.report.rows import SECTION
from experiments.report.runs import Run

METHOD, RIVALS = "zero-init", ("random-init", "lora")


def beside(method: str, other: str) -> str:
    """Return how the line of a method is called in its pair with `other`."""
    return f"{method} beside {other}"


def pairs(runs: Sequence[Run]) -> Iterator[Run]:
    """Yield the runs of each pair as lines "zero-init beside lora" and "lora beside zero-init"."""
    together: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        together.setdefault(tuple(getattr(run, name) for name in SECTION), []).append(run)
    for section in together.values():
        for rival in RIVALS:
            for sight in ("", TEXT):
                ours, other = (
                    [replace(run, line=beside(*names)) for run in section if run.method == method]
                    for method, names in (
                        (METHOD + sight, (METHOD, rival)),
                        (rival + sight, (rival, METHOD)),
                    )
                )
                if ours and other:
                    yield from (*ours, *other)
                    break
