"""What the last doubling of training changed, from trial runs alone."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from experiments.report.document import markdown
from experiments.report.runs import read_runs
from experiments.report.tables.write import document
from tests.report.run_folders import write_run, write_scienceqa, write_vtab

pytestmark = pytest.mark.usefixtures("no_plan")

SEEDS = (900, 901, 902)
Levels = Mapping[tuple[float, float], float]  # by epochs and rate


def text(root: Path, table: str) -> str:
    return markdown(document(table, read_runs([root])))


def write_trials(root: Path, method: str, levels: Levels, **config: str) -> None:
    for (epochs, rate), level in levels.items():
        for place, seed in enumerate(SEEDS):
            settings = {"phase": "select", "epochs": epochs, "peak_lr": rate, "evaluated_on": "val"}
            score = level + place - 1  # the mean is the level
            write_scienceqa(root, method, "qcm-a", seed, score, settings=settings, **config)


def write_world(root: Path) -> None:
    """Final runs of 8 epochs, ablated ones of 4 and 16, and the choice of a rate in 4."""
    for seed in range(5):
        for method in ("zero-init", "lora"):
            write_scienceqa(root, method, "qcm-a", seed, 90.0, settings={"epochs": 8.0})
        for epochs in (4.0, 16.0):
            settings = {"epochs": epochs}
            write_scienceqa(root, "zero-init", "ablation", seed, 90.0, settings=settings)
    for rate, score in ((0.1, 99.0), (0.3, 98.0)):
        settings = {"phase": "select", "epochs": 4.0, "peak_lr": rate, "evaluated_on": "val"}
        write_scienceqa(root, "zero-init", "qcm-a", 100, score, settings=settings)
    write_trials(
        root, "zero-init", {(4, 0.1): 60, (4, 0.3): 70, (8, 0.1): 77, (8, 0.3): 75, (16, 0.1): 84.7}
    )
    write_trials(root, "lora", {(2, 1e-3): 10, (4, 1e-3): 80, (8, 1e-3): 80})


SENTENCE = (
    "- Length: 8 epochs, chosen by accuracy (%) on held-out data in trial runs (seeds 900, 901, "
    "902, which no line has): zero-init 70.000 at 4, 77.000 at 8 (x 1.100), 84.700 at 16 (x 1.100)"
    "; lora 80.000 at 4, 80.000 at 8 (x 1.000).\n"
)


@pytest.mark.parametrize("table", ["scienceqa", "overfitting"])
def test_each_length_counts_with_its_better_rate(tmp_path: Path, table: str) -> None:
    write_world(tmp_path)
    made = text(tmp_path, table)
    assert made.count(SENTENCE) == 1
    assert made.count("Length: ") == 1


def test_the_trials_of_another_section_say_nothing(tmp_path: Path) -> None:
    for seed in range(5):
        write_scienceqa(tmp_path, "zero-init", "qcm-a", seed, 90.0, settings={"epochs": 8.0})
    write_trials(tmp_path, "zero-init", {(4, 0.1): 60, (8, 0.1): 70}, profile="mini")
    assert "Length: " not in text(tmp_path, "scienceqa")


@pytest.mark.parametrize("levels", [{(4, 0.1): 60}, {(8, 0.1): 60, (16, 0.1): 70}])
def test_nothing_is_said_without_half_the_length(tmp_path: Path, levels: Levels) -> None:
    write_scienceqa(tmp_path, "zero-init", "qcm-a", 0, 90.0, settings={"epochs": 8.0})
    write_trials(tmp_path, "zero-init", levels)
    assert "Length: " not in text(tmp_path, "scienceqa")


def test_a_rate_with_a_diverged_seed_is_out(tmp_path: Path) -> None:
    write_scienceqa(tmp_path, "zero-init", "qcm-a", 0, 90.0, settings={"epochs": 8.0})
    write_trials(tmp_path, "zero-init", {(4, 0.1): 60, (8, 0.1): 66, (4, 0.3): 50})
    for seed, state in zip(SEEDS, ("done", "done", "failed"), strict=True):
        settings = {"phase": "select", "epochs": 8.0, "peak_lr": 0.3, "evaluated_on": "val"}
        write_scienceqa(tmp_path, "zero-init", "qcm-a", seed, 99, settings=settings, state=state)
    assert "zero-init 60.000 at 4, 66.000 at 8 (x 1.100)." in text(tmp_path, "scienceqa")


def test_a_seed_s_score_is_the_mean_over_tasks_and_a_lower_loss_is_better(tmp_path: Path) -> None:
    for seed in range(2):
        write_vtab(tmp_path, "zero-init", "cifar10", seed, 50.0, settings={"epochs": 8.0})
    for epochs, scores in ((4.0, (40.0, 60.0)), (8.0, (50.0, 70.0))):
        for task, score in zip(("cifar10", "digits"), scores, strict=True):
            for seed in SEEDS:
                settings = {"phase": "select", "epochs": epochs, "peak_lr": 0.1}
                write_vtab(tmp_path, "zero-init", task, seed, score, settings=settings)
    words = "zero-init 50.000 at 4, 60.000 at 8 (x 1.200)."
    assert words in text(tmp_path, "vtab_tasks")
    assert words in text(tmp_path, "zero_init_vtab_vit")
    write_run(tmp_path, "lora", task="instruct", settings={"epochs": 8.0})
    for epochs, rate, loss in ((4.0, 0.1, 3.0), (4.0, 0.3, 2.0), (8.0, 0.1, 1.0), (8.0, 0.3, 9.0)):
        for seed in SEEDS:
            settings = {"phase": "select", "epochs": epochs, "peak_lr": rate}
            result = {"val_loss": loss}
            write_run(tmp_path, "lora", seed, task="instruct", settings=settings, result=result)
    assert "lora 2.000 at 4, 1.000 at 8 (x 0.500)." in text(tmp_path, "efficiency")
