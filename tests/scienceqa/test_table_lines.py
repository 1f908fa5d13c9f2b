"""Which run of ScienceQA is which line of which table."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from experiments.harness.report_info import Lines
from experiments.report.claims.results import with_lines
from experiments.report.run import Run
from experiments.scienceqa import table_lines
from experiments.scienceqa.report_info import REPORT


def lines_by(view: Lines, runs: Sequence[Run]) -> list[str]:
    return [line for _, line in view(runs)]


def runs_of(*kinds: tuple[str, int, float], backbone: str = "llama-7b") -> list[Run]:
    return [
        Run(
            experiment="scienceqa", version=1, task="ablation", method=method, backbone=backbone,
            data="full", profile="paper", seed=0,
            settings={"num_layers": layers, "epochs": epochs, "evaluated_on": "val"},
            state="done", reason="", hardware="", folder="", result={},
        )
        for method, layers, epochs in kinds
    ]  # fmt: skip


def test_the_reference_epochs_are_those_of_most_lines_or_the_only_ones_that_fit() -> None:
    some = runs_of(("zero-init", 10, 30.0), ("zero-init", 30, 30.0), ("zero-init", 30, 60.0))
    assert lines_by(table_lines.by_epochs, some) == [
        "zero-init, as for 30 epochs", "zero-init, as for 60 epochs",
    ]  # fmt: skip
    three = runs_of(*(("zero-init", 30, epochs) for epochs in (6.0, 1.5, 3.0)))
    assert lines_by(table_lines.by_epochs, three) == [
        "zero-init, as for 60 epochs", "zero-init, as for 15 epochs", "zero-init, as for 30 epochs",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lengths", "stand_for"),
    [
        ((4, 8, 16, 32), (15, 30, 60, 120)),
        ((4, 16, 32), (15, 60, 120)),
        ((4, 16), (15, 60)),
        ((4, 8), None),  # 15 and 30, or 30 and 60
        ((4, 8, 9), None),
    ],
)
def test_lengths_are_told_by_their_ratios(
    lengths: tuple[int, ...], stand_for: tuple[int, ...] | None
) -> None:
    runs = runs_of(*(("zero-init", 30, float(epochs)) for epochs in lengths))
    assert lines_by(table_lines.by_epochs, runs) == (
        [f"zero-init, as for {epochs} epochs" for epochs in stand_for]
        if stand_for
        else ["zero-init, other epochs"] * len(lengths)
    )


def test_while_the_reference_cannot_be_told_no_line_is_called_after_the_paper() -> None:
    alone = lines_by(table_lines.by_epochs, runs_of(("zero-init", 30, 15.0)))
    assert alone == ["zero-init, other epochs"]
    tied = [("zero-init", layers, epochs) for layers in (10, 30) for epochs in (15.0, 30.0)]
    assert set(lines_by(table_lines.by_epochs, runs_of(*tied))) == {"zero-init, other epochs"}
    for view in (table_lines.by_initialisation, table_lines.by_layers):
        assert lines_by(view, runs_of(("zero-init", 30, 15.0))) == []


def test_numbers_that_are_none_of_the_paper_s_have_lines_of_their_own() -> None:
    kinds = [("zero-init", layers, 30.0) for layers in (10, 30, 17)] + [("zero-init", 30, 45.0)]
    by_layers = lines_by(table_lines.by_layers, runs_of(*kinds))
    assert by_layers[-1] == "zero-init, other layers"
    assert len(by_layers) == 3  # that of 45 epochs is in another table
    assert lines_by(table_lines.by_epochs, runs_of(*kinds))[-1] == "zero-init, other epochs"
    unknown = lines_by(table_lines.by_layers, runs_of(*kinds, backbone="mine"))
    assert set(unknown) == {"zero-init, other layers"}


def test_sections_have_references_of_their_own() -> None:
    paper = runs_of(("zero-init", 10, 30.0), ("zero-init", 30, 30.0))
    small = runs_of(("zero-init", 9, 3.0), ("zero-init", 28, 3.0),
                    backbone="smollm2-135m-instruct")  # fmt: skip
    lines = lines_by(table_lines.by_layers, paper + small)
    assert lines == ["zero-init, as 10 of 32 layers", "zero-init, as 30 of 32 layers"] * 2


def test_a_claim_sees_each_ablation_as_lines_and_other_tasks_as_they_are() -> None:
    first, second = runs_of(("zero-init", 30, 30.0), ("random-init", 30, 30.0))
    test, val = ({**first.settings, "evaluated_on": name} for name in ("test", "val"))
    kept = replace(first, task="qcm-a", method="lora", settings=test)
    dropped = [replace(kept, settings=val), replace(first, settings=test)]
    final = [
        run for run in (kept, first, second, *dropped) if REPORT.is_final(run.task, run.settings)
    ]
    runs = with_lines(REPORT, final)
    assert [run.heading for run in runs] == [
        "lora", "zero-init, as 30 of 32 layers", "zero-init", "random-init",
        "zero-init, as for 30 epochs",
    ]  # fmt: skip
