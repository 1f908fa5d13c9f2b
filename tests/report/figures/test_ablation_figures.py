"""The figures of ScienceQA's ablations: what is drawn where."""

import json
from pathlib import Path

import pytest

from experiments.report.figures import initialisation, layers, losses, overfitting
from experiments.report.runs import read_runs
from tests.report.run_folders import write_ablations, write_scienceqa
from zia_core.errors import ZiaError

ACCURACIES = {
    "10 layers": 41.0,
    "20 layers": 45.0,
    "shared": 52.0,
    "32 layers": 50.0,
    "random-init": 33.0,
    "15 epochs": 44.0,
    "60 epochs": 53.0,
}


def write_log(run: Path, losses: list[float], epochs: float) -> None:
    share = epochs / len(losses)
    lines = [
        {"step": step, "epoch": step * share, "loss": loss} for step, loss in enumerate(losses, 1)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def labelled(axes: object) -> dict[str, tuple[list[float], list[float]]]:
    lines = [line for line in axes.lines if line.get_label()[0] != "_"]  # type: ignore[attr-defined]
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in lines}


def test_accuracy_stands_at_the_share_of_the_depth_beside_the_paper_s(tmp_path: Path) -> None:
    write_ablations(tmp_path, ACCURACIES)
    [drawn] = layers.draw(read_runs([tmp_path]))
    found = labelled(drawn.figure.axes[0])
    assert found == {
        # 9, 19, 28, 30 of 30; 10, 20, 30, 32 of 32
        "ours": (pytest.approx([30, 63.333333, 93.333333, 100]), [41, 45, 52, 50]),
        "ours, by likelihood": (pytest.approx([30, 63.333333, 93.333333, 100]), [46, 50, 57, 55]),
        "the paper, LLaMA-7B": ([31.25, 62.5, 93.75, 100], [55.95, 73.36, 83.85, 81.03]),
    }
    assert drawn.name.startswith("layers-scienceqa-small-smollm2")


def test_every_seed_is_a_point_and_what_was_not_trained_is_hollow(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_ablations(tmp_path, {name: v + 2 * seed for name, v in ACCURACIES.items()}, seed)
    flat = {"train_loss_last": 2.3}
    nine = {"num_layers": 9}
    write_scienceqa(tmp_path, "zero-init-text", "ablation", 2, 42.0, settings=nine, result=flat)
    [drawn] = layers.draw(read_runs([tmp_path]))
    [panel] = drawn.figure.axes
    dots = [list(line.get_ydata()) for line in panel.lines if line.get_marker() == "."]
    assert dots[:2] == [[41, 43, 42], [45, 47]]
    hollow = [line for line in panel.lines if line.get_markerfacecolor() == "white"]
    assert [line.get_label() for line in hollow] == [
        "ours (not trained)", "ours, by likelihood (not trained)",
    ]  # fmt: skip
    assert list(hollow[0].get_ydata()) == [42]


def test_a_backbone_of_unknown_depth_has_no_layers_figure(tmp_path: Path) -> None:
    write_scienceqa(tmp_path, "zero-init", "ablation", 0, 50.0, backbone="mine")
    write_scienceqa(tmp_path, "random-init", "ablation", 0, 40.0, backbone="mine")
    assert list(layers.draw(read_runs([tmp_path]))) == []


def test_over_fitting_has_the_paper_left_and_ours_right(tmp_path: Path) -> None:
    write_ablations(tmp_path, ACCURACIES)
    [drawn] = overfitting.draw(read_runs([tmp_path]))
    paper_loss, our_loss, paper_accuracy, our_accuracy = drawn.figure.axes
    assert [list(line.get_ydata()) for line in paper_loss.lines] == [
        [0.022, 0.004, 0.001], [0.136, 0.241, 0.282],
    ]  # fmt: skip
    assert [list(line.get_ydata()) for line in paper_accuracy.lines] == [[82.08, 83.85, 83.94]]
    assert labelled(our_loss) == {
        "training loss": ([1.5, 3.0, 6.0], [0.3, 0.3, 0.3]),
        "validation loss": ([1.5, 3.0, 6.0], pytest.approx([0.15, 0.3, 0.6])),
    }
    assert labelled(our_accuracy) == {
        "accuracy": ([1.5, 3.0, 6.0], [44, 52, 53]),
        "accuracy by likelihood": ([1.5, 3.0, 6.0], [49, 57, 58]),
    }
    assert [tick.get_text() for tick in our_accuracy.get_xticklabels()] == ["1.5", "3", "6"]


def test_curves_with_and_without_zero_init_stand_beside_the_paper_s(tmp_path: Path) -> None:
    for seed in (0, 1):
        for method, start in (("zero-init-text", 2.0), ("random-init-text", 4.0)):
            run = write_scienceqa(
                tmp_path, method, "ablation", seed, 50.0, settings={"epochs": 30.0}
            )
            # Two steps an epoch: means of each pair, then of the seeds.
            write_log(run, [start + seed, start / 2 + seed] + [1.0] * 58, 30.0)
    [drawn] = initialisation.draw(read_runs([tmp_path]))
    paper, ours = drawn.figure.axes
    found = labelled(ours)
    assert list(found) == ["random-init", "zero-init"]
    epochs, loss = found["zero-init"]
    assert epochs == [float(epoch) for epoch in range(1, 31)]
    assert loss == [2.0, *[1.0] * 29]  # (2 + 1) / 2, (3 + 2) / 2
    assert found["random-init"][1][0] == 3.5
    assert labelled(paper)["zero-init"][1][:2] == [1.122, 0.139]
    assert labelled(paper)["rand-init"][1][-1] == 0.123


def test_a_short_training_has_parts_of_epochs() -> None:
    """Three epochs of 20 steps: 30 points of two steps, the last of an epoch at its end."""
    steps = [((step + 1) * 3 / 60, float(step)) for step in range(60)]
    found = initialisation.by_epoch(steps)
    assert len(found) == 30
    assert found[0.1] == 0.5
    assert found[1.0] == 18.5
    assert found[3.0] == 58.5


def test_a_damaged_log_of_the_ablation_is_named(tmp_path: Path) -> None:
    write_ablations(tmp_path, ACCURACIES)
    runs = sorted((tmp_path / "scienceqa").iterdir())
    for run in runs:
        (run / "metrics.jsonl").write_text("{\n")
    with pytest.raises(ZiaError, match=r"metrics\.jsonl, line 1"):
        list(initialisation.draw(read_runs([tmp_path])))
    read = read_runs([tmp_path], keep_going=True)
    assert list(initialisation.draw(read)) == []
    assert read.damaged


def test_ablations_are_in_no_other_figure(tmp_path: Path) -> None:
    write_ablations(tmp_path, ACCURACIES)
    for run in (tmp_path / "scienceqa").iterdir():
        write_log(run, [2.0, 1.0], 3.0)
    assert [drawn.name for drawn in losses.draw(read_runs([tmp_path]))] == [losses.PAPER]
    run = write_scienceqa(tmp_path, "zero-init-text", "qcm-a", 0, 50.0)
    write_log(run, [2.0, 1.0], 3.0)
    [_, ours] = losses.draw(read_runs([tmp_path]))
    assert len(ours.figure.axes[0].lines) == 1
