"""What tables say about learning rates that were chosen from candidates."""

from collections.abc import Iterator
from math import isnan

from experiments.report.rows import Row, Section
from experiments.report.runs import Run

NEWER = {"peak_lr": float}  # of a result; runs from before there was a choice lack it


def chosen(row: Row) -> str:
    """Say with which peak learning rate the row was trained, by task; nothing if it was not."""
    trained = [run for run in row.done if not isnan(run.value("train_loss_first"))]
    rates = {(run.task, run.value("peak_lr")) for run in trained}
    pairs = {(task, rate) for task, rate in rates if not isnan(rate)}
    texts = [f"{task} {rate:g}" for task, rate in sorted(pairs)]
    return f"peak learning rate: {', '.join(texts)}" if texts else ""


def selection(section: Section, decided: str) -> Iterator[str]:
    """Say how the rates were chosen, and of which lines the grid may end too early.

    Args:
        decided: what a candidate was judged by.
    """
    runs = [(row, run) for row in section.begun for run in row.done if _chose(run)]
    if not runs:
        return
    numbers = sorted({len(_candidates(run)) for _, run in runs})
    seeds = sorted({str(run.settings["selection_seed"]) for _, run in runs})
    yield (
        f"Selection: the peak learning rate by {decided}, from {' or '.join(map(str, numbers))} "
        f"candidates a method (seed {', '.join(seeds)}, which no line has); what is scored chose "
        "nothing."
    )
    for end, limit in (("highest", max), ("lowest", min)):
        rows = [
            section.label(r) for r, run in runs if run.value("peak_lr") == limit(_candidates(run))
        ]
        if rows:
            yield (
                f"The {end} candidate was the best, so that the grid may end too early, for: "
                f"{', '.join(dict.fromkeys(rows))}."
            )


def _candidates(run: Run) -> list[float]:
    return list(run.settings.get("candidates") or ())


def _chose(run: Run) -> bool:
    return run.settings.get("peak_lr") is None and len(_candidates(run)) > 1
