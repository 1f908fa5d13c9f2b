"""SQuAD v1.1 and v2.0 with an encoder (paper Table 7)."""

from collections.abc import Iterator

from experiments.report import formats
from experiments.report.rows import NOT_TRAINED, Column, Section
from experiments.report.tables.chosen_rates import chosen
from experiments.report.tables.definition import Block, Table

V1, V2 = "squad-v1.1", "squad-v2.0"
PERCENT = formats.decimals(1)


def _score(field: str, title: str, task: str) -> Column:
    return Column(field, title, "%", PERCENT, tasks=(task,), compared=True)


def notes(section: Section) -> Iterator[str]:
    """Say what the rows and the scores are."""
    yield (
        "Exact match and F1 of the official scorers in percent, mean ± standard deviation (number "
        "of seeds), after the last epoch."
    )
    settings = [run.settings for row in section.begun for run in row.runs]
    tried = sorted({len(s.get("candidates") or ()) for s in settings if s.get("peak_lr") is None})
    yield (
        f"Selection: the peak learning rate by validation loss on held-out training questions, "
        f"from {' or '.join(map(str, tried))} candidates a method and task; the questions that are "
        "scored chose nothing, nor v2.0's null threshold."
        if tried
        else "Selection: none, all settings are given; nor did the questions that are scored "
        "choose v2.0's null threshold."
    )
    yield (
        "p-tuning-v2 is at the same time the random-init row: one soft-max over prefix and words, "
        "no gate. head: the task head alone on the frozen encoder."
    )
    yield NOT_TRAINED


TABLES = (
    Table(
        name="squad",
        experiment="squad_roberta",
        paper="squad",
        rows=(
            ("full", "Full"),
            ("prompt-tuning", "PT (Lester 2021)"),
            ("p-tuning-v2", "PT2 (Liu 2021a)"),
            ("zero-init", "Zero-init."),
            ("lora", None),
            ("head", None),
        ),
        blocks=(
            Block(
                (
                    _score("exact", "1.1 EM", V1),
                    _score("f1", "1.1 F1", V1),
                    _score("exact", "2.0 EM", V2),
                    _score("f1", "2.0 F1", V2),
                )
            ),
            Block(
                (
                    _score("has_answer_exact", "HasAns EM", V2),
                    _score("has_answer_f1", "HasAns F1", V2),
                    _score("no_answer_exact", "NoAns EM", V2),
                    _score("no_answer_f1", "NoAns F1", V2),
                ),
                "v2.0, by whether the question has an answer",
                paper=False,
            ),
            Block(
                (
                    # K differs between the versions, so do parameters.
                    *(
                        Column(field, f"{version} {title}", unit, form, tasks=(task,))
                        for version, task in (("1.1", V1), ("2.0", V2))
                        for field, title, unit, form in (
                            ("tuned_parameters", "tuned parameters", "parameters", formats.count),
                            ("adapter_bytes", "storage", "bytes", formats.storage),
                            ("val_loss_start", "validation loss before", "nats", formats.number),
                            ("val_loss", "after", "nats", formats.number),
                        )
                    ),
                ),
                "What was trained, the task head included",
                paper=False,
            ),
        ),
        only={"phase": "final"},
        measured={"peak_lr": float | None},
        notes=notes,
        about_row=chosen,
    ),
)
