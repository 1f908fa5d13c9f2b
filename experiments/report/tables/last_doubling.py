"""Say how much the last doubling of training changed, from the trial runs that chose the length."""

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import mean

from experiments.harness.report_info import Score
from experiments.report import formats
from experiments.report.rows import SECTION_OF_TASKS, Section
from experiments.report.run import Run
from experiments.report.runs import Runs, select
from experiments.report.tables.definition import Table

LEAST_SEEDS = 2


def note(table: Table, section: Section, runs: Runs) -> Iterator[str]:
    """Yield a sentence with each method's score at half, once and twice the length of training.

    Trial runs are select runs of several seeds at several lengths; select runs that chose a rate
    have one seed and one length. At each length a method counts with its better rate, as in
    `training.length`. Without trials of half the length and of the length, nothing is said.
    """
    score = table.info.score
    there = [
        run
        for run in select(runs, table.experiment, (), (score.field,), trials=True)
        if all(getattr(run, name) == section.key[name] for name in SECTION_OF_TASKS)
    ]
    tried = [run for run in there if _is_select(run) and "epochs" in run.settings]
    lengths = Counter(run.settings.get("epochs") or 0.0 for run in there if not _is_select(run))
    if not tried or not lengths:
        return
    full = lengths.most_common(1)[0][0]
    shown: dict[str, str] = {}
    seeds: set[int] = set()
    for method in sorted(
        {run.method for run in tried}, key=lambda name: (name != "zero-init", name)
    ):
        of_method = [run for run in tried if run.method == method]
        levels = {length: _level(of_method, length, score) for length in (full / 2, full, 2 * full)}
        if levels[full / 2] is not None and levels[full] is not None:
            shown[method] = _in_words(levels)
            seeds |= {run.seed for run in _with_seeds(of_method, full)}
    if shown:
        each = "; ".join(f"{method} {text}" for method, text in shown.items())
        yield (
            f"Length: {full:g} epochs, chosen by {score.title} on held-out data in trial runs "
            f"(seeds {', '.join(map(str, sorted(seeds)))}, which no line has): {each}."
        )


def _is_select(run: Run) -> bool:
    return bool(run.settings.get("phase") == "select")


def _with_seeds(runs: Sequence[Run], length: float) -> list[Run]:
    """The runs of one length, of seeds that have several lengths."""
    lengths: dict[int, set[float]] = {}
    for run in runs:
        lengths.setdefault(run.seed, set()).add(run.settings["epochs"])
    return [r for r in runs if r.settings["epochs"] == length and len(lengths[r.seed]) > 1]


def _level(runs: Sequence[Run], length: float, score: Score) -> float | None:
    """The mean score at the better of the rates with which every seed finished every task."""
    at_length = _with_seeds(runs, length)
    tasks = {run.task for run in at_length}
    seeds = {run.seed for run in at_length}
    if len(seeds) < LEAST_SEEDS:
        return None
    by_rate: dict[float | None, list[float]] = {}
    for run in at_length:
        value = run.result.get(score.field)
        if value is not None:
            by_rate.setdefault(run.settings.get("peak_lr"), []).append(value * score.scale)
    whole = [mean(found) for found in by_rate.values() if len(found) == len(tasks) * len(seeds)]
    return (max if score.higher_is_better else min)(whole, default=None)


def _in_words(levels: dict[float, float | None]) -> str:
    """Such as "70.00 at 4 epochs, 80.50 at 8 (x 1.150), 80.60 at 16 (x 1.001)"."""
    texts: list[str] = []
    before = None
    for length, level in levels.items():
        if level is not None:
            ratio = f" (x {level / before:.3f})" if before else ""
            texts.append(f"{formats.number(level, float('nan'))} at {length:g}{ratio}")
            before = level
    return ", ".join(texts)
