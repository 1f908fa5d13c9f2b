"""Notes on how learning rates were chosen from candidates."""

from collections.abc import Iterator
from math import isnan
from typing import Any

from experiments.harness.report_info import ReportInfo
from experiments.report.rows import Row, Section
from experiments.report.run import Run


def chosen_rates(row: Row, info: ReportInfo) -> str:
    """The peak learning rates of a row, by task; empty if nothing was trained."""
    trained = [run for run in row.done if not isnan(run.value("train_loss_first"))]
    rates = {(run.task, run.value("peak_lr")) for run in trained}
    pairs = {(task, rate) for task, rate in rates if not isnan(rate)}
    texts = [f"{task} {rate:g}" for task, rate in sorted(pairs)]
    return f"peak learning rate: {', '.join(texts)}" if texts else ""


def chosen_rates_and_decays(row: Row, info: ReportInfo) -> str:
    """The chosen learning rates and weight decays of a row, by task."""
    pairs = {
        (run.task, f"{run.value('peak_lr'):g} / {run.value('weight_decay'):g}")
        for run in row.done
        if not isnan(run.value("peak_lr"))  # nothing is trained
    }
    order = list(info.task_titles)
    texts = [f"{task} {pair}" for task, pair in sorted(pairs, key=lambda p: order.index(p[0]))]
    return f"chosen learning rate / weight decay: {', '.join(texts)}" if texts else ""


def selection(section: Section, info: ReportInfo, by: str) -> Iterator[str]:
    """How the rates were chosen, by the criterion `by`, and where the best was at a grid's end."""
    runs = [(row, run) for row in section.begun for run in row.done if _chose(run)]
    if not runs:
        return
    numbers = sorted({len(_candidates(run)) for _, run in runs})
    seeds = sorted({str(run.settings["selection_seed"]) for _, run in runs})
    # An ablation is scored where the paper scores it: on what choices are made on.
    both = any(run.settings.get("evaluated_on") == "val" for _, run in runs)
    role = "the same examples are scored here" if both else "what is scored chose nothing"
    yield (
        f"Selection: the peak learning rate by {by}, from {' or '.join(map(str, numbers))} "
        f"candidates a method (seed {', '.join(seeds)}, which no line has); {role}."
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


def selection_by_task(section: Section, info: ReportInfo) -> Iterator[str]:
    """How the rates of SQuAD were chosen."""
    settings = [run.settings for run in section.runs]
    tried = sorted({len(s.get("candidates") or ()) for s in settings if s.get("peak_lr") is None})
    yield (
        f"Selection: the peak learning rate by validation loss on held-out training questions, "
        f"from {' or '.join(map(str, tried))} candidates a method and task; the questions that are "
        "scored chose nothing, nor v2.0's null threshold."
        if tried
        else "Selection: none, all settings are given; nor did the questions that are scored "
        "choose v2.0's null threshold."
    )


def selection_of_rate_and_decay(section: Section, info: ReportInfo) -> Iterator[str]:
    """How the rates and weight decays of VTAB were chosen."""
    candidates = {len(_candidates(run)) for run in section.runs}
    elsewhere = sorted({task for run in section.runs if (task := _selection_task(run))})
    each = "candidates a method and task"
    if elsewhere:
        where = " and ".join(_tasks_title(task, info) for task in elsewhere)
        each = f"candidates a method, by their mean on {where}"
    yield (
        "Selection: learning rate and weight decay by accuracy on val200 after training on "
        f"train800, from {' or '.join(map(str, sorted(candidates)))} {each} "
        f"(seed {section.begun[0].setting('selection_seed')}); then training on the 1,000, and the "
        "test set scored once, after the last epoch."
    )


def grid_edges_by_task(section: Section, info: ReportInfo) -> Iterator[str]:
    """Where the best of the tried rates was the lowest or the highest."""
    found: dict[tuple[str, str], str] = {}  # by method and the task of the choice
    for row in section.begun:
        for run in row.done:
            rates = {rate for rate, _ in _candidates(run)}
            if len(rates) > 1 and run.settings.get("peak_lr") is None:
                ends = {min(rates): "lowest", max(rates): "highest"}
                choice = section.label(row), _selection_task(run) or run.task
                found[choice] = ends.get(run.value("peak_lr"), "")
    for end in ("highest", "lowest"):
        where = [choice for choice, at in found.items() if at == end]
        if where:
            methods = dict.fromkeys(label for label, _ in where)
            named = [
                f"{label} ({', '.join(_tasks_title(t, info) for one, t in where if one == label)})"
                for label in methods
            ]
            yield (
                f"In {len(where)} of {len(found)} choices the {end} candidate rate was the best, "
                f"so the grid may end too early there: {'; '.join(named)}."
            )


def _candidates(run: Run) -> list[Any]:
    return list(run.settings.get("candidates") or ())


def _chose(run: Run) -> bool:
    return run.settings.get("peak_lr") is None and len(_candidates(run)) > 1


def _tasks_title(name: str, info: ReportInfo) -> str:
    """The title of a task, or of a group of all."""
    return "all tasks" if name.startswith("@") else info.task_titles[name]


def _selection_task(run: Run) -> str | None:
    """The task that a run's candidates were tried on, if not on its own."""
    task = run.settings.get("selection_task")
    return None if task is None or run.settings.get("peak_lr") is not None else str(task)
