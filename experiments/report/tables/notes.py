"""Notes under tables that follow from the runs, by the names that a table's file gives them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from inspect import signature
from math import isnan, nan
from typing import Any

from experiments.harness.registry import check_choice
from experiments.harness.report_info import ReportInfo
from experiments.report import formats
from experiments.report.rows import Row, Section
from experiments.report.runs import Run
from zia_core.errors import ZiaError

Note = Callable[[Section, ReportInfo], Iterable[str]]
PERCENT = formats.decimals(2)


def note(stored: Any, where: str) -> Note:
    """Return the note that a table's file describes: a text, or a name with arguments."""
    if isinstance(stored, str):
        return lambda section, info: [stored]
    if not isinstance(stored, dict) or not isinstance(stored.get("note"), str):
        raise ZiaError(f'{where}: a note must be a text or an object like {{"note": "inputs"}}')
    name = stored["note"]
    check_choice("note", name, NOTES, of=where)
    arguments = {key: value for key, value in stored.items() if key != "note"}
    try:
        signature(NOTES[name]).bind(None, None, **arguments)
    except TypeError as error:
        raise ZiaError(f"{where}: the note {name!r}: {error}") from error
    return partial(NOTES[name], **arguments)


def row_note(name: str | None, where: str) -> Callable[[Row, ReportInfo], str] | None:
    """Return what is said of each row, by its name."""
    if name is None:
        return None
    check_choice("note on a row", name, ROW_NOTES, of=where)
    return ROW_NOTES[name]


# How a rate was chosen.


def chosen_rates(row: Row, info: ReportInfo) -> str:
    """Say with which peak learning rate the row was trained, by task; nothing if it was not."""
    trained = [run for run in row.done if not isnan(run.value("train_loss_first"))]
    rates = {(run.task, run.value("peak_lr")) for run in trained}
    pairs = {(task, rate) for task, rate in rates if not isnan(rate)}
    texts = [f"{task} {rate:g}" for task, rate in sorted(pairs)]
    return f"peak learning rate: {', '.join(texts)}" if texts else ""


def chosen_rates_and_decays(row: Row, info: ReportInfo) -> str:
    """Say what the selection chose, by task: learning rate / weight decay."""
    pairs = {
        (run.task, f"{run.value('peak_lr'):g} / {run.value('weight_decay'):g}")
        for run in row.done
        if not isnan(run.value("peak_lr"))  # nothing is trained
    }
    order = list(info.task_titles)
    texts = [f"{task} {pair}" for task, pair in sorted(pairs, key=lambda p: order.index(p[0]))]
    return f"chosen learning rate / weight decay: {', '.join(texts)}" if texts else ""


def selection(section: Section, info: ReportInfo, by: str) -> Iterator[str]:
    """Say how the rates were chosen, and of which lines the grid may end too early.

    Args:
        section: of the table.
        info: of the experiment.
        by: what a candidate was judged by.
    """
    runs = [(row, run) for row in section.begun for run in row.done if _chose(run)]
    if not runs:
        return
    numbers = sorted({len(_candidates(run)) for _, run in runs})
    seeds = sorted({str(run.settings["selection_seed"]) for _, run in runs})
    yield (
        f"Selection: the peak learning rate by {by}, from {' or '.join(map(str, numbers))} "
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


def selection_by_task(section: Section, info: ReportInfo) -> Iterator[str]:
    """Say how the rates of SQuAD were chosen."""
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
    """Say how the rates and weight decays of VTAB were chosen."""
    candidates = {len(_candidates(run)) for run in section.runs}
    elsewhere = sorted({task for run in section.runs if (task := _selection_task(run))})
    each = "candidates a method and task"
    if elsewhere:
        titles = " and ".join(info.task_titles[task] for task in elsewhere)
        each = f"candidates a method, tried on the task {titles} alone"
    yield (
        "Selection: learning rate and weight decay by accuracy on val200 after training on "
        f"train800, from {' or '.join(map(str, sorted(candidates)))} {each} "
        f"(seed {section.begun[0].setting('selection_seed')}); then training on the 1,000, and the "
        "test set scored once, after the last epoch."
    )


def grid_edges_by_task(section: Section, info: ReportInfo) -> Iterator[str]:
    """Say where the lowest or the highest rate that was tried was the best: the grid ends there."""
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
                f"{label} ({', '.join(info.task_titles[t] for one, t in where if one == label)})"
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


def _selection_task(run: Run) -> str | None:
    """The one task that a run's candidates were tried on, for all tasks; None if on its own."""
    task = run.settings.get("selection_task")
    return None if task is None or run.settings.get("peak_lr") is not None else str(task)


# What the models saw and were asked.


def inputs(section: Section, info: ReportInfo) -> Iterator[str]:
    """Say how inputs were made."""
    for text in sorted({text for run in section.runs if (text := info.inputs(run.settings))}):
        yield f"{text}."


def answer_format(section: Section, info: ReportInfo) -> list[str]:
    """Say that the solution is answered before the letter, where it is: not as in the paper."""
    if all(run.settings.get("output", "A") == "A" for run in section.runs):
        return []
    return [
        "The format is QCM-EA: the solution comes first, then the letter. The paper's is QCM-A, "
        "the letter alone."
    ]


def likelihood_protocol(section: Section, info: ReportInfo) -> Iterator[str]:
    """Say where the likeliest letter is read."""
    behind = '"Answer: '
    if answer_format(section, info):
        behind = 'the solution that it wrote and "'
    yield (
        f'likelihood accuracy, another protocol: the likeliest letter behind {behind}The answer is"'
        ", which is always an answer."
    )


def without_a_model(section: Section, info: ReportInfo) -> Iterator[str]:
    """Say what a random option, and always the same letter, would score on these questions."""
    done = [run for run in section.runs if run.state == "done"]
    chance, pictured, majority = (
        _shown({run.value(name) for run in done})
        for name in ("chance_accuracy", "chance_has_image", "majority_accuracy")
    )
    if chance:
        of_images = f" ({pictured} on those with an image)" if pictured else ""
        yield (
            f"A random option would score {chance}{of_images}; always the letter that is right "
            f"most often in training, {majority}."
        )


def _shown(values: Iterable[float]) -> str:
    """Values of runs, which are one number where the questions are the same."""
    known = sorted(value for value in values if not isnan(value))
    return " or ".join(PERCENT(value, nan) for value in known)


def ablated_methods(section: Section, info: ReportInfo) -> Iterator[str]:
    """Say what is scored, and whether the methods see images."""
    methods = sorted({run.method for run in section.runs})
    without = all(name.endswith("-text") for name in methods)
    yield (
        f"Accuracy on the validation questions, greedy answers; methods {', '.join(methods)}"
        + (", without images, which the paper's have." if without else ".")
    )


def shares_of_depth(section: Section, info: ReportInfo) -> Iterator[str]:
    """Say which of our layers and epochs stand for the paper's."""
    depth = info.depth(str(section.key["backbone"]))
    about = f"; the backbone has {depth} layers" if depth else ""
    yield (
        "A line is called by the paper's layers or epochs, as which it counts: ours are the same "
        "share of the backbone's depth, rounded, but of all layers only for 32 of 32; and have the "
        f"same ratio to the other epochs{about}."
    )


def instruction_tuned(section: Section, info: ReportInfo) -> Iterator[str]:
    """Say so where the backbone is instruction-tuned."""
    if "instruct" in section.key["backbone"].lower():
        yield "The backbone is instruction-tuned already, which the paper's is not."


def other_text(section: Section, info: ReportInfo) -> Iterator[str]:
    """Say what the loss on other text is, where a run has it."""
    if any(not isnan(run.value("language_loss")) for run in section.runs):
        yield (
            "Loss on other text: after training, on text that is no instruction and that nobody "
            "trained on (mini: 64 articles of the generated world; else 64 paragraphs of SQuAD's "
            "dev-v1.1); frozen is the backbone."
        )


NOTES: Mapping[str, Callable[..., Iterable[str]]] = {
    form.__name__: form
    for form in (
        selection,
        selection_by_task,
        selection_of_rate_and_decay,
        grid_edges_by_task,
        inputs,
        answer_format,
        likelihood_protocol,
        without_a_model,
        ablated_methods,
        shares_of_depth,
        instruction_tuned,
        other_text,
    )
}
ROW_NOTES = {form.__name__: form for form in (chosen_rates, chosen_rates_and_decays)}
