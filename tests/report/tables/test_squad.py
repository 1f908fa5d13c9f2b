from pathlib import Path

import pytest

from experiments.report.document import markdown
from experiments.report.runs import read_runs
from experiments.report.tables.write import document
from tests.report.run_folders import lines_of, write_squad

TABLE = "squad"
V2 = {
    "has_answer_exact": 40.0,
    "has_answer_f1": 50.0,
    "no_answer_exact": 60.0,
    "no_answer_f1": 70.0,
}


def text(root: Path) -> str:
    return markdown(document(TABLE, read_runs([root])))


pytestmark = pytest.mark.usefixtures("no_plan")


def test_both_versions_stand_in_one_row_beside_the_paper(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_squad(tmp_path, "zero-init", "squad-v1.1", seed, 50.0 + seed)
        write_squad(tmp_path, "zero-init", "squad-v2.0", seed, 45.0, result=V2)
    table = text(tmp_path)
    lines = table.splitlines()
    at = lines.index("| Zero-init. | paper | 88.8 | 94.6 | 83.9 | 87.2 |")
    assert lines[at + 1 : at + 3] == [
        "| zero-init | ours | 50.5 ± 0.7 (2) | 60.5 ± 0.7 (2) | 45.0 ± 0.0 (2) | 55.0 ± 0.0 (2) |",
        "|  | difference | -38.3 | -34.1 | -38.9 | -32.2 |",
    ]
    below = lines_of(table, "zero-init")[1]
    assert below[1:] == ["40.0 ± 0.0 (2)", "50.0 ± 0.0 (2)", "60.0 ± 0.0 (2)", "70.0 ± 0.0 (2)"]
    assert "p-tuning-v2 is at the same time the random-init row" in table
    assert "from 3 candidates a method and task" in table
    assert "zero-init: peak learning rate: squad-v1.1 0.02, squad-v2.0 0.02." in table
    assert "88.1%" in table  # P-tuning v2's own number, below the table


def test_without_v2_there_is_no_block_of_v2(tmp_path: Path) -> None:
    write_squad(tmp_path, "lora", "squad-v1.1", 0, 50.0)
    write_squad(tmp_path, "lora", "squad-v1.1", 0, 99.0, settings={"phase": "select"})
    table = text(tmp_path)
    assert lines_of(table, "lora")[0][1:] == ["ours", "50.0 (1)", "60.0 (1)", "missing", "missing"]
    assert "HasAns" not in table
    assert lines_of(table, "lora")[1][1:] == [
        "2,082 (1)", "0.01 MB (0.01 MiB) (1)", "5.900 (1)", "2.000 (1)",
    ]  # fmt: skip


def test_parameters_are_not_averaged_over_versions(tmp_path: Path) -> None:
    for task, parameters in (("squad-v1.1", 788_482), ("squad-v2.0", 395_266)):
        write_squad(tmp_path, "zero-init", task, 0, 50.0, result={"tuned_parameters": parameters})
    made = document(TABLE, read_runs([tmp_path])).cells
    cells = {cell.column: cell.mean for cell in made if cell.method == "zero-init"}
    assert cells["1.1 tuned parameters"] == 788_482
    assert cells["2.0 tuned parameters"] == 395_266
