"""Zero-init against the other methods, cell by cell."""

from pathlib import Path

import pytest

from experiments.report.document import markdown
from experiments.report.runs import read_runs
from experiments.report.tables.write import document
from tests.report.run_folders import lines_of, write_squad, write_vtab

pytestmark = pytest.mark.usefixtures("no_plan")


def text(root: Path, name: str = "zero_init_vtab_vit") -> str:
    return markdown(document(name, read_runs([root])))


def write(root: Path, method: str, accuracies: list[float], task: str = "cifar10") -> None:
    for seed, accuracy in enumerate(accuracies):
        write_vtab(root, method, task, seed, accuracy)


def test_a_cell_is_the_paired_difference_with_its_interval(tmp_path: Path) -> None:
    """Differences 1, 2, 3, 2, 2: mean 2, s = sqrt(1/2), t(0.975, 4) = 2.776, so 2 ± 0.878."""
    write(tmp_path, "zero-init", [51.0, 53.0, 55.0, 52.0, 54.0])
    write(tmp_path, "linear", [50.0, 51.0, 52.0, 50.0, 52.0])
    write(tmp_path, "lora", [51.5, 52.0, 55.5, 52.0, 54.5])
    write(tmp_path, "full", [61.0, 63.0, 65.0, 63.0, 64.0])
    write(tmp_path, "pixel-probe", [20.0] * 5)
    table = text(tmp_path)
    assert lines_of(table, "linear") == [["linear", "+2.0 [+1.1, +2.9] ahead"]]
    assert lines_of(table, "full")[0][1].endswith("behind")
    assert lines_of(table, "lora")[0][1].endswith("level")
    assert lines_of(table, "in short") == [["in short", "1 ahead, 1 level, 1 behind"]]
    assert not lines_of(table, "zero-init")


def test_what_cannot_be_compared_says_why(tmp_path: Path) -> None:
    write(tmp_path, "zero-init", [51.0, 53.0, 55.0, 52.0, 54.0])
    write(tmp_path, "linear", [50.0, 51.0, 52.0, 50.0])
    for seed in range(5):
        flat = {"train_loss_first": 2.0, "train_loss_last": 1.9}
        write_vtab(tmp_path, "bias", "cifar10", seed, 50.0, result=flat)
    write(tmp_path, "lora", [50.0] * 5, task="digits")
    write(tmp_path, "pixel-probe", [20.0] * 4)
    table = text(tmp_path)
    assert lines_of(table, "linear")[0][1] == "+2.0 (n=4)"
    assert lines_of(table, "bias")[0][1] == "not trained"
    assert lines_of(table, "lora")[0][1] == "missing"
    assert lines_of(table, "in short")[0][1] == "1 inconclusive"


def test_the_control_is_no_rival_and_decides_which_tasks_count(tmp_path: Path) -> None:
    write(tmp_path, "zero-init", [51.0, 53.0, 55.0, 52.0, 54.0])
    write(tmp_path, "linear", [30.0, 31.0, 32.0, 30.0, 31.0])
    write(tmp_path, "pixel-probe", [40.0] * 5)
    table = text(tmp_path)
    assert not lines_of(table, "pixel-probe")
    assert lines_of(table, "in short") == [["in short", "does not count"]]
    assert "pixel-probe" not in table


def test_without_the_control_no_words_are_counted(tmp_path: Path) -> None:
    for task in ("cifar10", "cifar"):  # one of ours, and one of VTAB's
        write(tmp_path, "zero-init", [51.0, 53.0, 55.0, 52.0, 54.0], task)
        write(tmp_path, "linear", [30.0, 31.0, 32.0, 30.0, 31.0], task)
    assert lines_of(text(tmp_path), "in short") == [["in short", "not known yet", "1 ahead"]]


def test_settings_in_which_rows_differ_are_named(tmp_path: Path) -> None:
    for method, epochs in (("zero-init", 3.0), ("lora", 1.5)):
        write_squad(tmp_path, method, "squad-v1.1", 0, 40.0, settings={"epochs": epochs})
    table = text(tmp_path, "zero_init_squad_roberta")
    assert "- zero-init: epochs 3.0.\n- lora: epochs 1.5.\n" in table


def test_squad_has_a_column_a_score(tmp_path: Path) -> None:
    for seed in range(5):
        write_squad(tmp_path, "zero-init", "squad-v1.1", seed, 40.0 + seed)
        write_squad(tmp_path, "p-tuning-v2", "squad-v1.1", seed, 35.0 + seed)
    [line] = lines_of(text(tmp_path, "zero_init_squad_roberta"), "p-tuning-v2")
    assert line == ["p-tuning-v2", "+5.0 [+5.0, +5.0] ahead", "+5.0 [+5.0, +5.0] ahead"]


def test_without_runs_it_says_so(tmp_path: Path) -> None:
    table = text(tmp_path)
    assert "No runs to compare yet" in table
    assert lines_of(table, "lora") == [["lora", "missing"]]
