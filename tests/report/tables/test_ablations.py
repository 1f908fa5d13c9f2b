"""ScienceQA's ablations: which run is which line of which table."""

import shutil
from pathlib import Path

import pytest

from experiments.io.files import read_json
from experiments.report.document import markdown
from experiments.report.runs import read_runs
from experiments.report.tables.write import document
from tests.report.run_folders import lines_of, write_ablations, write_scienceqa

LAYERS, INITIALISATION, OVERFITTING = TABLES = "layers", "initialisation", "overfitting"
ACCURACIES = {
    "10 layers": 41.0,
    "20 layers": 45.0,
    "shared": 52.0,
    "32 layers": 50.0,
    "random-init": 33.0,
    "15 epochs": 44.0,
    "60 epochs": 53.0,
}


def text(root: Path, table: str) -> str:
    return markdown(document(table, read_runs([root])))


pytestmark = pytest.mark.usefixtures("no_plan")


def test_one_run_is_in_three_tables(tmp_path: Path) -> None:
    write_ablations(tmp_path, ACCURACIES)
    [layers] = lines_of(text(tmp_path, LAYERS), "zero-init, as 30 of 32 layers (num_layers 28)")[:1]
    assert layers == ["zero-init, as 30 of 32 layers (num_layers 28)", "ours", "2,082 (1)",
                      "52.00 (1)"]  # fmt: skip
    method = lines_of(text(tmp_path, INITIALISATION), "zero-init")[0]
    assert method == ["zero-init", "ours", "52.00 (1)"]
    epochs = lines_of(text(tmp_path, OVERFITTING), "zero-init, as for 30 epochs (epochs 3.0)")[0]
    assert epochs[1:] == ["ours", "0.300 (1)", "0.300 (1)", "52.00 (1)"]


def test_a_shared_training_and_a_run_of_its_own_are_one_seed(tmp_path: Path) -> None:
    write_ablations(tmp_path, ACCURACIES)
    shared = {"num_layers": 28, "epochs": 3.0, "also_validated": True}
    both = {"val_acc_average": 52.0, "val_likelihood_accuracy": 57.0, "val_loss": 0.3}
    write_scienceqa(
        tmp_path, "zero-init-text", "qcm-a", 0, 40.0, settings=shared, result=both
    )  # fmt: skip
    assert lines_of(text(tmp_path, INITIALISATION), "zero-init")[0][-1] == "52.00 (1)"


def test_what_is_scored_may_be_what_the_rate_was_chosen_on(tmp_path: Path) -> None:
    for method in ("zero-init", "random-init"):
        for task, scored in (("qcm-a", "test"), ("ablation", "val")):
            settings = {
                "peak_lr": None, "candidates": [0.1, 0.2], "selection_seed": 100,
                "evaluated_on": scored,
            }  # fmt: skip
            write_scienceqa(tmp_path, method, task, 0, 50.0, settings=settings)
    assert "which no line has); the same examples are scored here." in text(
        tmp_path, INITIALISATION
    )
    assert "which no line has); what is scored chose nothing." in text(tmp_path, "scienceqa")


def test_layers_stand_under_the_paper_s_share_of_the_depth(tmp_path: Path) -> None:
    """A backbone of 30 layers: 9, 19, 28, 30 are the nearest to 10, 20, 30, 32 of 32."""
    write_ablations(tmp_path, ACCURACIES)
    lines = text(tmp_path, LAYERS).splitlines()
    found = {}
    for paper in ("10", "20", "30", "32"):
        [at] = [i for i, line in enumerate(lines) if line.startswith(f"| {paper} | paper |")]
        assert lines[at + 1].startswith(f"| zero-init, as {paper} of 32 layers (num_layers ")
        found[paper] = [part.strip() for part in lines[at + 2].split("|")][-2]
    # 41 - 55.95, 45 - 73.36, 52 - 83.85, 50 - 81.03
    assert found == {"10": "-14.95", "20": "-28.36", "30": "-31.85", "32": "-31.03"}
    pair = "zero-init, as 32 of 32 layers minus zero-init, as 30 of 32 layers"
    assert lines_of("\n".join(lines), pair) == [[pair, "-2.0 (n=1)", "-2.0 (n=1)"]]
    assert "random-init" not in text(tmp_path, LAYERS)


def test_epochs_stand_under_the_paper_s_in_the_same_ratio(tmp_path: Path) -> None:
    write_ablations(tmp_path, ACCURACIES)
    table = text(tmp_path, OVERFITTING)
    found = {
        paper: lines_of(table, f"zero-init, as for {paper} epochs (epochs {ours})")[0][3:]
        for paper, ours in ((15, 1.5), (30, 3.0), (60, 6.0))
    }
    assert found == {
        15: ["0.150 (1)", "44.00 (1)"], 30: ["0.300 (1)", "52.00 (1)"],
        60: ["0.600 (1)", "53.00 (1)"],
    }  # fmt: skip
    assert lines_of(table, "60")[0][1:] == ["paper", "0.001 nats", "0.282 nats", "83.94"]
    # Losses of other models and tokens are not subtracted from the paper's.
    assert lines_of(table, "difference")[0] == ["difference", "-", "-", "-38.08"]


def test_the_initialisations_are_paired(tmp_path: Path) -> None:
    for seed in range(5):
        shift = {name: value + seed for name, value in ACCURACIES.items()}
        write_ablations(tmp_path, shift | {"random-init": 33.0 + seed + seed % 2}, seed)
    table = text(tmp_path, INITIALISATION)
    # Differences 19, 18, 19, 18, 19: mean 18.6, s = sqrt(0.3), t = 2.776: half 0.68.
    assert lines_of(table, "zero-init minus random-init")[0][1] == "+18.6 [+17.9, +19.3] ahead"
    assert lines_of(table, "random-init")[0] == ["random-init", "ours", "35.40 ± 1.67 (5)"]
    assert "without images, which the paper's have" in table


def test_runs_with_images_take_the_places_of_those_without(tmp_path: Path) -> None:
    write_ablations(tmp_path, ACCURACIES)
    write_scienceqa(tmp_path, "zero-init", "ablation", 0, 60.0)
    write_scienceqa(tmp_path, "random-init", "ablation", 0, 30.0)
    table = text(tmp_path, INITIALISATION)
    assert lines_of(table, "zero-init")[0][2] == "60.00 (1)"
    assert lines_of(table, "random-init")[0][2] == "30.00 (1)"
    assert "without images" not in table


def test_other_tasks_and_test_questions_are_in_no_ablation(tmp_path: Path) -> None:
    val = {"evaluated_on": "val"}
    write_scienceqa(tmp_path, "zero-init-text", "qcm-a", 0, 60.0, settings=val)
    write_scienceqa(
        tmp_path, "zero-init-text", "ablation", 0, 70.0, settings={"evaluated_on": "test"}
    )
    for table in TABLES:
        assert text(tmp_path, table) == text(tmp_path / "nothing", table)


def test_a_run_of_the_main_table_stands_for_the_ablation_point_that_it_is(tmp_path: Path) -> None:
    """By its scores on the validation questions; in the main table by those on the test set."""
    alone, sharing = tmp_path / "alone", tmp_path / "sharing"
    for root in (alone, sharing):
        write_ablations(root, ACCURACIES)
    for config in list(sharing.rglob("config.json")):
        settings = read_json(config)["settings"]
        if (settings["num_layers"], settings["epochs"]) == (28, 3.0):
            shutil.rmtree(config.parent)
    for name, method in (("shared", "zero-init-text"), ("random-init", "random-init-text")):
        scores = {"acc_average": ACCURACIES[name], "likelihood_accuracy": ACCURACIES[name] + 5}
        write_scienceqa(
            sharing,
            method,
            "qcm-a",
            0,
            60.0,
            settings={"num_layers": 28, "epochs": 3.0, "also_validated": True},
            result={"val_loss": 0.3} | {f"val_{key}": value for key, value in scores.items()},
        )
    for table in TABLES:
        ours, expected = text(sharing, table), text(alone, table)
        for line in ("zero-init", "random-init", "zero-init, as 30 of 32 layers (num_layers 28)"):
            assert [c[:4] for c in lines_of(ours, line)] == [
                c[:4] for c in lines_of(expected, line)
            ]
    assert "52.00 (1)" in text(sharing, LAYERS)
    assert "60.00 (1)" in text(sharing, "scienceqa")
