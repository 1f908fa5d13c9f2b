import json
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from experiments.harness import registry
from experiments.harness.experiment import Estimate, Experiment
from experiments.harness.spec import RunSpec
from experiments.mini_world.image_tasks import MINI
from experiments.report.document import Document, markdown
from experiments.report.runs import read_runs
from experiments.report.tables.write import document
from experiments.vtab_vit.report_info import REPORT
from experiments.vtab_vit.tasks import VTAB_1K
from tests.report.run_folders import ENVIRONMENT, lines_of, section, write_vtab

GROUPS, TASKS = "vtab_groups", "vtab_tasks"
NATURAL = [task.name for task in VTAB_1K if task.group == "natural"]


def made(root: Path, table: str = TASKS) -> Document:
    return document(table, read_runs([root]))


def text(root: Path, table: str = TASKS) -> str:
    return markdown(made(root, table))


pytestmark = pytest.mark.usefixtures("no_plan")


def test_without_runs_the_19_tasks_are_the_paper_s_and_missing(tmp_path: Path) -> None:
    table = text(tmp_path)
    natural, specialized, structured = lines_of(table, "Zero-init.")
    assert natural[1:] == ["paper", "82.2", "92.4", "70.3", "98.4", "89.8", "84.9", "54.3"]
    assert (len(specialized), len(structured)) == (6, 10)
    assert lines_of(table, "zero-init")[0][1:] == ["ours"] + ["missing"] * 7
    assert "Small tasks" not in table


def test_small_tasks_have_methods_as_rows_and_tasks_as_columns(tmp_path: Path) -> None:
    for seed, accuracy in enumerate((60.0, 61.0, 62.0)):
        write_vtab(tmp_path, "zero-init", "cifar10", seed, accuracy, data="reduced-30-epochs")
        write_vtab(tmp_path, "zero-init", "digits", seed, 90.0, data="reduced-30-epochs")
    write_vtab(tmp_path, "linear", "cifar10", 0, 50.0, data="reduced-30-epochs")
    part = section(text(tmp_path), "small: small-vit, data reduced-30-epochs (vtab_vit version 1)")
    assert "### Small tasks" in part
    assert lines_of(part, "method") == [["method", "CIFAR-10", "digits 8x8"]]
    assert lines_of(part, "zero-init †") == [["zero-init †", "61.0 ± 1.0 (3)", "90.0 ± 0.0 (3)"]]
    assert lines_of(part, "linear †") == [["linear †", "50.0 (1)", "missing"]]
    assert "Protocol vpt (VPT): squashed to 32x32, tensorflow1-bilinear; mean (0.485" in part
    assert "from 2 candidates a method and task (seed 0)" in part
    assert "cifar10 0.01 / 0.0001, digits 0.01 / 0.0001" in part
    assert "† A reduced run: reduced-30-epochs" in part


def test_a_small_task_counts_only_where_the_backbone_beats_the_pixels(tmp_path: Path) -> None:
    scores = {"cifar10": (60, 40), "digits": (90, 90), "dtd10_96": (40, 41)}
    for task, (linear, pixels) in scores.items():
        write_vtab(tmp_path, "linear", task, 0, linear)
        write_vtab(tmp_path, "pixel-probe", task, 0, pixels)
    write_vtab(tmp_path, "linear", "caltech101_96", 0, 50)
    [counts] = lines_of(text(tmp_path), "counts")
    assert counts[1:] == ["not known yet", "does not count", "yes", "does not count"]


def test_selection_runs_are_in_no_table(tmp_path: Path) -> None:
    write_vtab(tmp_path, "zero-init", "cifar10", 0, 60, settings={"phase": "select"})
    assert text(tmp_path) == text(tmp_path / "nothing")


def test_official_runs_stand_beside_the_paper_with_their_difference(tmp_path: Path) -> None:
    for seed, accuracy in enumerate((80.2, 81.2)):
        write_vtab(tmp_path, "zero-init", "cifar", seed, accuracy, profile="paper")
    lines = text(tmp_path).splitlines()
    [at] = [i for i, line in enumerate(lines) if line.startswith("| Zero-init. | paper | 82.2")]
    assert lines[at + 1].startswith("| zero-init | ours | 80.7 ± 0.7 (2) | missing |")
    assert lines[at + 2].startswith("|  | difference | -1.5 | - |")


def test_a_group_mean_is_of_the_complete_official_group(tmp_path: Path) -> None:
    for place, task in enumerate(NATURAL):
        for seed in (0, 1, 2):
            if (task, seed) != ("svhn", 2):
                write_vtab(tmp_path, "full", task, seed, 70 + place + seed)
        if task != "svhn":
            write_vtab(tmp_path, "bias", task, 0, 60)
    write_vtab(tmp_path, "full", "digits", 0, 100)
    table = text(tmp_path, GROUPS)
    # Means of 70..76 and 71..77; seed 2 lacks a task.
    assert lines_of(table, "full") == [["full", "ours", "73.50 ± 0.71 (2)", "missing", "missing"]]
    assert lines_of(table, "bias")[0][2] == "missing"
    assert "| Full | paper | 75.88 |" in table


def test_a_group_with_an_untrained_task_is_not_trained(tmp_path: Path) -> None:
    for task in NATURAL:
        flat = {"train_loss_last": 2.0} if task == "dtd" else {}
        write_vtab(tmp_path, "full", task, 0, 70, result=flat)
    assert lines_of(text(tmp_path, GROUPS), "full")[0][2] == "not trained: 70.00 (1)"


@pytest.mark.parametrize(
    ("first", "last", "tuned", "cell"),
    [
        (2.0, 1.6, 10, "60.0 (1)"),
        (2.0, 1.61, 10, "not trained: 60.0 (1)"),
        (None, None, 10, "not trained: 60.0 (1)"),
        (None, None, 0, "60.0 (1)"),
    ],
)
def test_training_loss_has_to_fall_by_a_fifth(
    tmp_path: Path, first: float | None, last: float | None, tuned: int, cell: str
) -> None:
    ends = {"train_loss_first": first, "train_loss_last": last, "tuned_parameters": tuned}
    write_vtab(tmp_path, "full", "cifar10", 0, 60, result=ends)
    assert lines_of(text(tmp_path), "full")[0][1:] == [cell]


def test_failed_seeds_and_failed_methods_are_marked(tmp_path: Path) -> None:
    write_vtab(tmp_path, "full", "cifar10", 0, 60)
    write_vtab(tmp_path, "full", "cifar10", 1, 0, state="failed", reason="loss is nan | step 3")
    write_vtab(tmp_path, "lora", "cifar10", 0, 0, state="failed", reason="disk")
    write_vtab(tmp_path, "bias", "cifar10", 0, 0, state="running")
    table = text(tmp_path)
    assert lines_of(table, "full")[0][1:] == ["60.0 (1, 1 failed)"]
    assert lines_of(table, "lora")[0][1:] == ["failed"]
    assert lines_of(table, "bias")[0][1:] == ["not finished"]
    assert r"cifar10 seed 1 failed (loss is nan \| step 3)" in table


def test_profiles_versions_backbones_and_data_are_never_averaged(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"profile": "mini"},
        {"version": 2},
        {"backbone": "other"},
        {"data": "reduced-1"},
    ]
    for number, change in enumerate(changes):
        write_vtab(tmp_path, "full", "cifar10", 0, 10.0 * number, **change)
    cells = [
        cell for cell in made(tmp_path).cells if cell.method == "full" and cell.mean is not None
    ]
    assert sorted(cell.mean or 0 for cell in cells) == [0, 10, 20, 30, 40]
    assert next(cell.key["profile"] for cell in cells) == "mini"


def test_settings_that_follow_the_task_do_not_split_a_row(tmp_path: Path) -> None:
    write_vtab(tmp_path, "full", "cifar10", 0, 60, settings={"prompt_length": 8})
    write_vtab(tmp_path, "full", "digits", 0, 90, settings={"prompt_length": 4})
    write_vtab(tmp_path, "bias", "digits", 0, 91, settings={"num_layers": 6})
    write_vtab(tmp_path, "bias", "digits", 0, 92, settings={"num_layers": 3})
    table = text(tmp_path)
    assert lines_of(table, "full")[0] == ["full", "60.0 (1)", "90.0 (1)"]
    assert lines_of(table, "bias (num_layers 3)")[0][2] == "92.0 (1)"
    assert lines_of(table, "bias (num_layers 6)")[0][2] == "91.0 (1)"
    assert "prompt_length 8 (cifar10); 4 (digits)" in table


@dataclass(frozen=True)
class Settings:
    phase: str = "final"
    device: str = "cpu"
    added_later: int = 1


def test_partial_rows_say_how_many_seeds_are_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = RunSpec(
        experiment="vtab_vit", version=1, task="cifar10", method="full", backbone="another",
        data="full", profile="small", seed=0, settings=Settings(),
    )  # fmt: skip
    plan = [replace(spec, seed=seed) for seed in range(5)]
    plan += [replace(spec, task="fashion_mnist"), replace(spec, settings=Settings(phase="select"))]
    experiment = Experiment(
        name="vtab_vit", version=1, title="", settings=Settings, tasks=(), methods=(),
        profiles=("small",), result_fields={}, plan=lambda profile, device: plan,
        run=lambda spec, folder: None, estimate=lambda spec: Estimate(None, None, ""),
        report=REPORT,
    )  # fmt: skip
    monkeypatch.setattr(registry, "experiments", lambda: {"vtab_vit": experiment})
    for seed in range(3):
        folder = write_vtab(tmp_path, "full", "cifar10", seed, 60)
        config = folder / "config.json"
        # Without the setting `added_later`.
        stored = config.read_text()
        start = stored.index('"settings"')
        config.write_text(stored[:start] + '"settings": {"phase": "final", "device": "cpu"}}')
    table = text(tmp_path)
    assert lines_of(table, "method")[0] == ["method", "CIFAR-10", "Fashion-MNIST"]
    assert lines_of(table, "full")[0] == ["full", "60.0 ± 0.0 (3 of 5)", "missing"]
    for number, file in enumerate(tmp_path.glob("*/*/environment.json")):
        file.write_text(json.dumps(ENVIRONMENT | {"weights": {"model.safetensors": str(number)}}))
    assert lines_of(text(tmp_path), "full")[0][1] == "different data or weights"  # not 0 of 5


def test_an_untrained_control_decides_nothing(tmp_path: Path) -> None:
    flat = {"train_loss_first": 2.3, "train_loss_last": 2.3}
    write_vtab(tmp_path, "zero-init", "cifar10", 0, 60.0)
    write_vtab(tmp_path, "linear", "cifar10", 0, 30.0)
    write_vtab(tmp_path, "pixel-probe", "cifar10", 0, 20.0, result=flat)
    assert lines_of(text(tmp_path), "counts") == [["counts", "not known yet"]]


def test_choices_at_the_edge_of_the_grid_are_named(tmp_path: Path) -> None:
    candidates = [[0.01, 1e-4], [0.03, 1e-4], [0.1, 0.0]]
    for task, rate in (("cifar10", 0.1), ("digits", 0.01), ("dtd10_96", 0.03)):
        result = {"peak_lr": rate}
        settings = {"peak_lr": None, "candidates": candidates}
        write_vtab(tmp_path, "zero-init", task, 0, 60.0, result=result, settings=settings)
    table = text(tmp_path)
    assert "In 1 of 3 choices the highest candidate rate was the best, so the grid may" in table
    assert "may end too early there: zero-init (CIFAR-10)." in table
    assert "In 1 of 3 choices the lowest candidate rate" in table
    assert "zero-init (digits 8x8)." in table
    given = {"peak_lr": 0.01}  # not chosen
    write_vtab(tmp_path, "lora", "cifar10", 0, 60.0, settings=given)
    assert "of 3 choices" in text(tmp_path)


def test_seeds_of_different_weights_are_not_averaged(tmp_path: Path) -> None:
    for seed, digest in enumerate(("aaa", "bbb")):
        environment = ENVIRONMENT | {"weights": {"model.safetensors": digest}}
        write_vtab(tmp_path, "zero-init", "cifar10", seed, 60.0, environment=environment)
        write_vtab(tmp_path, "linear", "cifar10", seed, 50.0, environment=ENVIRONMENT)
        # What was not recorded counts as equal.
        partly = environment if seed else ENVIRONMENT
        write_vtab(tmp_path, "full", "cifar10", seed, 50.0, environment=partly)
        # Each task has its own data.
        data = ENVIRONMENT | {"data": {"images": digest}}
        write_vtab(tmp_path, "bias", "digits" if seed else "cifar10", 0, 50.0, environment=data)
    table = text(tmp_path)
    assert lines_of(table, "zero-init")[0][1:] == ["different data or weights", "missing"]
    assert lines_of(table, "linear")[0][1] == "50.0 ± 0.0 (2)"
    assert lines_of(table, "full")[0][1] == "50.0 ± 0.0 (2)"
    assert lines_of(table, "bias")[0][1:] == ["50.0 (1)", "50.0 (1)"]
    cells = [cell for cell in made(tmp_path).cells if cell.state == "different data or weights"]
    assert [(cell.method, cell.mean, cell.n) for cell in cells] == [("zero-init", None, 0)]


def test_a_control_counts_by_its_row_of_that_task(tmp_path: Path) -> None:
    write_vtab(tmp_path, "linear", "cifar10", 0, 60, settings={"epochs": 1})
    write_vtab(tmp_path, "linear", "digits", 0, 60, settings={"epochs": 1})
    write_vtab(tmp_path, "linear", "digits", 0, 70, settings={"epochs": 2})
    for task in ("cifar10", "digits"):
        write_vtab(tmp_path, "pixel-probe", task, 0, 40)
    assert lines_of(text(tmp_path), "counts") == [["counts", "yes", "not known yet"]]


def write_mini(root: Path, method: str, scores: dict[str, float], seed: int = 0) -> None:
    for task, accuracy in scores.items():
        settings = {"selection_task": "@mini", "peak_lr": None}
        backbone = {"profile": "mini", "backbone": "pocket-vit"}
        write_vtab(root, method, task, seed, accuracy, settings=settings, **backbone)


def test_mini_has_columns_and_group_means_of_its_own(tmp_path: Path) -> None:
    scores = {task.name: 40.0 + place for place, task in enumerate(MINI)}
    for seed in (0, 1):
        write_mini(tmp_path, "zero-init", scores, seed)
    write_mini(tmp_path, "lora", {"mini_digits": 50})
    part = section(text(tmp_path), "mini: pocket-vit, data full (vtab_vit version 1)")
    assert lines_of(part, "method") == [["method", *(task.title for task in MINI)]]
    assert lines_of(part, "zero-init")[0][1:] == [f"{s:.1f} ± 0.0 (2)" for s in scores.values()]
    assert lines_of(part, "lora")[0][1:3] == ["50.0 (1)", "missing"]
    assert "from 2 candidates a method, by their mean on all tasks" in part
    groups = text(tmp_path, GROUPS)
    assert lines_of(groups, "method")[0] == [
        "method", "Mini Natural", "Mini Specialized", "Mini Structured",
    ]  # fmt: skip
    means = [
        mean(scores[task.name] for task in MINI if task.group == f"mini-{group}")
        for group in ("natural", "specialized", "structured")
    ]
    assert lines_of(groups, "zero-init")[0][1:] == [f"{m:.2f} ± 0.00 (2)" for m in means]
    # A group that lacks tasks has no mean, and no line.
    assert [cells[1] for cells in lines_of(groups, "lora")] == ["ours"]
    # The paper's groups have no runs: they are a part of their own.
    assert ["zero-init", "ours", "missing", "missing", "missing"] in lines_of(groups, "zero-init")


def test_a_choice_for_all_tasks_is_one_choice(tmp_path: Path) -> None:
    write_mini(tmp_path, "zero-init", {"mini_land": 50, "mini_digits": 50})
    assert "In 1 of 1 choices the lowest candidate rate was the best" in text(tmp_path)
    assert "there: zero-init (all tasks)." in text(tmp_path)
