"""Notes that depend on the runs, by the names that the files of tables use."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from inspect import signature
from math import isnan, nan
from typing import Any

from experiments.harness.registry import check_choice
from experiments.harness.report_info import ReportInfo
from experiments.report import formats
from experiments.report.rows import Row, Section
from experiments.report.tables import selection_notes
from zia_core.errors import ZiaError

Note = Callable[[Section, ReportInfo], Iterable[str]]
PERCENT = formats.decimals(2)


def note(stored: Any, where: str) -> Note:
    """Return the note that a table's file describes: a text, or a name with its arguments."""
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
    """Return the note on each row of a table."""
    if name is None:
        return None
    check_choice("note on a row", name, ROW_NOTES, of=where)
    return ROW_NOTES[name]


def inputs(section: Section, info: ReportInfo) -> Iterator[str]:
    """How model inputs were made."""
    for text in sorted({text for run in section.runs if (text := info.inputs(run.settings))}):
        yield f"{text}."


def answer_format(section: Section, info: ReportInfo) -> list[str]:
    """That the solution is answered before the letter, unlike in the paper."""
    if all(run.settings.get("output", "A") == "A" for run in section.runs):
        return []
    return [
        "The format is QCM-EA: the solution comes first, then the letter. The paper's is QCM-A, "
        "the letter alone."
    ]


def likelihood_protocol(section: Section, info: ReportInfo) -> Iterator[str]:
    """What likelihood accuracy is."""
    behind = '"Answer: '
    if answer_format(section, info):
        behind = 'the solution that it wrote and "'
    yield (
        f'likelihood accuracy, another protocol: the likeliest letter behind {behind}The answer is"'
        ", which is always an answer."
    )


def without_a_model(section: Section, info: ReportInfo) -> Iterator[str]:
    """The scores of a random option, and of always the same letter."""
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
    """The values of runs: one number if the questions are the same."""
    known = sorted(value for value in values if not isnan(value))
    return " or ".join(PERCENT(value, nan) for value in known)


def ablated_methods(section: Section, info: ReportInfo) -> Iterator[str]:
    """What is scored, and whether the methods see images."""
    methods = sorted({run.method for run in section.runs})
    without = all(name.endswith("-text") for name in methods)
    yield (
        f"Accuracy on the validation questions, greedy answers; methods {', '.join(methods)}"
        + (", without images, which the paper's have." if without else ".")
    )


def shares_of_depth(section: Section, info: ReportInfo) -> Iterator[str]:
    """Which of our layers and epochs stand for the paper's."""
    depth = info.depth(section.runs[0])
    about = f"; the backbone has {depth} layers" if depth else ""
    yield (
        "A line is called by the paper's layers or epochs, as which it counts: ours are the same "
        "share of the backbone's depth, rounded, but of all layers only for 32 of 32; and have the "
        f"same ratio to the other epochs{about}."
    )


def instruction_tuned(section: Section, info: ReportInfo) -> Iterator[str]:
    """That the backbone is instruction-tuned."""
    if "instruct" in section.key["backbone"].lower():
        yield "The backbone is instruction-tuned already, which the paper's is not."


def other_text(section: Section, info: ReportInfo) -> Iterator[str]:
    """What the loss on other text is, if a run has it."""
    if any(not isnan(run.value("language_loss")) for run in section.runs):
        yield (
            "Loss on other text: after training, on text that is no instruction and that nobody "
            "trained on (mini: 64 articles of the generated world; else 64 paragraphs of SQuAD's "
            "dev-v1.1); frozen is the backbone."
        )


NOTES: Mapping[str, Callable[..., Iterable[str]]] = {
    form.__name__: form
    for form in (
        selection_notes.selection,
        selection_notes.selection_by_task,
        selection_notes.selection_of_rate_and_decay,
        selection_notes.grid_edges_by_task,
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
ROW_NOTES = {
    form.__name__: form
    for form in (selection_notes.chosen_rates, selection_notes.chosen_rates_and_decays)
}
