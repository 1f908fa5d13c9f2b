"""ScienceQA beside the paper, and our own split beside nothing."""

from pathlib import Path

import pytest

from experiments.report.document import markdown
from experiments.report.runs import read_runs
from experiments.report.tables.write import document
from tests.report.run_folders import CLASSES, lines_of, write_scienceqa

MAIN, OWN = "scienceqa", "own_split"


def text(root: Path, table: str = MAIN) -> str:
    return markdown(document(table, read_runs([root])))


pytestmark = pytest.mark.usefixtures("no_plan")


def test_every_class_stands_beside_the_paper_s(tmp_path: Path) -> None:
    scores = {f"acc_{name}": 10.0 * place for place, name in enumerate(CLASSES[:-1])}
    for seed, average in ((0, 45.0), (1, 46.0)):
        result = scores | {"tuned_parameters": 161_532}
        write_scienceqa(tmp_path, "zero-init-text", "qcm-a", seed, average, result=result)
    lines = text(tmp_path).splitlines()
    [at] = [i for i, line in enumerate(lines) if line.startswith("| LLaMA-Adapter_T")]
    assert lines[at + 1 : at + 3] == [
        "| zero-init-text | ours | 161,532 (2) | 45.50 ± 0.71 (2) | 0.00 ± 0.00 (2) | "
        "10.00 ± 0.00 (2) | 20.00 ± 0.00 (2) | 30.00 ± 0.00 (2) | 40.00 ± 0.00 (2) | "
        "50.00 ± 0.00 (2) | 60.00 ± 0.00 (2) | 70.00 ± 0.00 (2) |",
        # 45.5 - 78.31, 0 - 79, 10 - 73.79, 20 - 80.55, ...
        "|  | difference | - | -32.81 | -79.00 | -63.79 | -60.55 | -48.30 | -30.35 | -33.14 | "
        "-19.77 | -5.68 |",
    ]
    assert lines[at - 1].startswith("| MM-CoT | paper | 223M | 84.91 |")


def test_likelihood_is_another_protocol_and_unparsable_a_number(tmp_path: Path) -> None:
    for seed, unread in ((0, 3), (1, 6)):
        result = {"likelihood_accuracy": 60.0 + seed, "unparsable": unread}
        write_scienceqa(tmp_path, "zero-init-text", "qcm-a", seed, 45.0, result=result)
    table = text(tmp_path)
    assert lines_of(table, "zero-init-text")[1][1:] == ["60.50 ± 0.71 (2)", "4.5 ± 2.1 (2)",
                                                        "361 (2)"]  # fmt: skip
    assert "likelihood accuracy, another protocol" in table


def test_the_untrained_backbone_is_a_row_and_a_flat_loss_is_not_trained(tmp_path: Path) -> None:
    untrained = {"train_loss_first": None, "train_loss_last": None, "tuned_parameters": 0}
    write_scienceqa(tmp_path, "frozen", "qcm-a", 0, 30.0, result=untrained, data="reduced-320")
    flat = {"train_loss_first": 2.0, "train_loss_last": 1.7}
    write_scienceqa(tmp_path, "lora-text", "qcm-a", 0, 31.0, result=flat, data="reduced-320")
    table = text(tmp_path)
    assert lines_of(table, "frozen †")[0][1:4] == ["ours", "0 (1)", "30.00 (1)"]
    assert lines_of(table, "lora-text †")[0][3] == "not trained: 31.00 (1)"
    assert "† A reduced run: reduced-320" in table


def test_a_class_without_questions_has_no_number(tmp_path: Path) -> None:
    write_scienceqa(tmp_path, "zero-init", "qcm-a", 0, 45.0, result={"acc_has_image": None})
    ours = lines_of(text(tmp_path), "zero-init")[0]
    assert ours[7:10] == ["50.00 (1)", "-", "50.00 (1)"]  # TXT, IMG, NO


def write_pair(root: Path, task: str, **changes: str) -> None:
    """Differences 1, 2, 3, 2, 2: mean 2, s = sqrt(1/2), t(0.975, 4) = 2.776, so 2 ± 0.878."""
    for seed, (image, words) in enumerate(((51, 50), (53, 51), (55, 52), (52, 50), (54, 52))):
        for method, accuracy in (("zero-init", image), ("zero-init-text", words)):
            result = {"likelihood_accuracy": 60.0}
            write_scienceqa(root, method, task, seed, accuracy, result=result, **changes)


def test_the_own_split_is_a_table_of_its_own_with_what_the_image_adds(tmp_path: Path) -> None:
    write_pair(tmp_path, "own-split", data="reduced-own-split")
    write_scienceqa(tmp_path, "lora", "own-split", 0, 49.0, data="reduced-own-split")
    table = text(tmp_path, OWN)
    assert table.startswith("# Image questions alone, in splits of our own\n")
    assert lines_of(table, "zero-init †")[0][1:] == [
        "53.00 ± 1.58 (5)", "60.00 ± 0.00 (5)", "3.0 ± 0.0 (5)", "361 (5)",
    ]  # fmt: skip
    assert lines_of(table, "zero-init minus zero-init-text †") == [
        ["zero-init minus zero-init-text †", "+2.0 [+1.1, +2.9] ahead", "+0.0 [+0.0, +0.0] level"]
    ]
    assert lines_of(table, "zero-init minus lora †")[0][1] == "+2.0 (n=1)"
    assert "LLaMA-Adapter" not in table
    assert "70.35" not in table  # the paper's IMG
    # Nor do these runs reach the paper's table.
    assert text(tmp_path) == text(tmp_path / "nothing")


def test_pairs_are_cells_with_the_runs_of_both(tmp_path: Path) -> None:
    write_pair(tmp_path, "qcm-a")
    cells = document(MAIN, read_runs([tmp_path])).cells
    [cell] = [c for c in cells if c.row == "zero-init minus zero-init-text" and c.column == "Avg"]
    assert (cell.mean, cell.n, cell.state, len(cell.runs)) == (2.0, 5, "ahead", 10)


def test_a_method_with_two_settings_is_in_no_pair(tmp_path: Path) -> None:
    write_pair(tmp_path, "qcm-a")
    write_scienceqa(tmp_path, "zero-init", "qcm-a", 0, 40.0, settings={"num_layers": 10})
    assert "minus" not in text(tmp_path).split("- Accuracy in percent")[0]


def test_only_test_questions_are_in_the_main_table(tmp_path: Path) -> None:
    write_scienceqa(tmp_path, "zero-init", "qcm-a", 0, 40.0, settings={"evaluated_on": "val"})
    assert text(tmp_path) == text(tmp_path / "nothing")


CHOICE = {"peak_lr": None, "candidates": [0.03, 0.1, 0.3], "selection_seed": 100}


def test_what_answers_without_a_model_is_said(tmp_path: Path) -> None:
    without = {"chance_accuracy": 38.2, "chance_has_image": 37.1, "majority_accuracy": 33.0}
    write_scienceqa(tmp_path, "zero-init", "qcm-a", 0, 45.0, result=without)
    write_scienceqa(tmp_path, "lora", "qcm-a", 0, 45.0)  # did not record them
    assert (
        "A random option would score 38.20 (37.10 on those with an image); always the letter that "
        "is right most often in training, 33.00."
    ) in text(tmp_path)


def test_runs_from_before_the_baselines_are_read_without(tmp_path: Path) -> None:
    write_scienceqa(tmp_path, "zero-init", "qcm-a", 0, 45.0)
    table = text(tmp_path)
    assert "A random option" not in table
    assert "Selection" not in table
    assert "peak learning rate" not in table


def test_the_rates_that_were_chosen_and_ends_of_the_grid_are_said(tmp_path: Path) -> None:
    for method, rate in (("zero-init", 0.1), ("random-init", 0.3), ("zero-init-text", 0.03)):
        write_scienceqa(
            tmp_path, method, "qcm-a", 0, 45.0, settings=CHOICE, result={"peak_lr": rate}
        )
    given = {"peak_lr": 9e-3, "candidates": []}
    untrained = {"train_loss_first": None, "train_loss_last": None, "peak_lr": 9e-3}
    write_scienceqa(tmp_path, "frozen", "qcm-a", 0, 45.0, settings=given, result=untrained)
    table = text(tmp_path)
    assert "qcm-a 0.009" not in table
    assert "from 3 candidates a method (seed 100, which no line has)" in table
    assert "peak learning rate: qcm-a 0.1." in table
    assert (
        "highest candidate was the best, so that the grid may end too early, for: random" in table
    )
    assert "lowest candidate was the best, so that the grid may end too early, for: zero-" in table


def test_the_solution_before_the_letter_is_said(tmp_path: Path) -> None:
    write_scienceqa(tmp_path / "a", "zero-init", "qcm-a", 0, 45.0, settings={"output": "A"})
    assert 'letter behind "Answer: The answer is", which' in text(tmp_path / "a")
    assert "QCM-EA" not in text(tmp_path / "a")
    write_scienceqa(tmp_path / "b", "zero-init", "qcm-a", 0, 45.0, settings={"output": "EA"})
    table = text(tmp_path / "b")
    assert "The format is QCM-EA: the solution comes first" in table
    assert 'letter behind the solution that it wrote and "The answer is", which' in table
