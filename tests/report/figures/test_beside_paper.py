"""Headlines of tables: the paper's bars, and ours beside them."""

from pathlib import Path
from typing import Any

import pytest

from experiments.report.figures import beside_paper
from experiments.report.runs import read_runs
from tests.report.run_folders import (
    ENVIRONMENT,
    write_run,
    write_scienceqa,
    write_squad,
    write_vtab,
)

Panels = list[list[tuple[str, float]]]


def drawn(root: Path) -> dict[str, Any]:
    return {one.name: one.figure for one in beside_paper.draw(read_runs([root]))}


def bars(panel: Any) -> dict[str, float]:
    """The heights of bars by the places of their methods."""
    return {round(bar.get_y() + bar.get_height() / 2): bar.get_width() for bar in panel.patches}


def test_each_method_is_on_the_line_of_the_paper_s(tmp_path: Path) -> None:
    for profile, score in (("mini", 40.0), ("small", 60.0)):
        for seed in range(2):
            write_squad(tmp_path, "full", "squad-v1.1", seed, score + seed, profile=profile)
            write_squad(tmp_path, "lora", "squad-v1.1", seed, score - 10, profile=profile)
    [(name, figure)] = drawn(tmp_path).items()
    assert name == "beside-squad"
    paper, mini, small = figure.axes  # v2.0 has no runs
    assert [panel.get_title() for panel in (paper, mini, small)] == [
        "the paper", "mini: minilm-l6", "small: minilm-l6",
    ]  # fmt: skip
    lines = [text.get_text() for text in paper.get_yticklabels()]
    assert lines == ["zero-init", "full", "lora", "p-tuning-v2", "prompt-tuning"]
    assert bars(paper) == {0: 94.6, 1: 94.6, 3: 94.4, 4: 12.0}  # v1.1 F1 of Table 7
    assert bars(mini) == {1: 50.5, 2: 40.0}
    assert bars(small) == {1: 70.5, 2: 60.0}
    assert sorted(mini.lines[0].get_xdata()) == [50.0, 51.0]


def test_the_mean_of_a_profile_s_tasks_is_beside_the_mean_of_the_paper_s_groups(
    tmp_path: Path,
) -> None:
    mini = {"profile": "mini", "backbone": "pocket-vit"}
    for task, score in (("mini_land", 40.0), ("mini_count", 60.0)):
        write_vtab(tmp_path, "zero-init", task, 0, score, **mini)
        write_vtab(tmp_path, "linear", task, 0, 30.0, **mini)
        write_vtab(tmp_path, "pixel-probe", task, 0, 20.0, **mini)
    paper, ours = drawn(tmp_path)["beside-vtab_groups"].axes
    assert bars(paper)[0] == pytest.approx((81.74 + 84.43 + 56.75) / 3, abs=0.005)
    assert bars(ours)[0] == 50.0
    names = [text.get_text() for text in paper.get_yticklabels()]
    assert "pixel-probe" not in names


def test_times_are_shares_and_what_the_paper_does_not_print_is_said(tmp_path: Path) -> None:
    for method, seconds, loss in (("full", 200.0, 2.0), ("zero-init", 50.0, 1.5)):
        result = {"train_seconds": seconds, "val_loss": loss}
        write_run(tmp_path, method, task="instruct", result=result)
    time, ours, none, losses = drawn(tmp_path)["beside-efficiency"].axes
    assert bars(time) == {0: 1 / 3, 1: 1.0, 2: 0.5}
    assert bars(ours) == {0: 0.25, 1: 1.0}
    assert [text.get_text() for text in none.texts] == ["not printed"]
    assert bars(losses) == {0: 1.5, 1: 2.0}


def test_what_a_profile_does_not_have_is_said(tmp_path: Path) -> None:
    """Its runs may be there: times are left out where they cannot be compared."""
    result = {"train_seconds": 50.0, "val_loss": 1.5}
    for profile, methods in (("mini", ("full", "zero-init")), ("small", ("zero-init",))):
        for method in methods:
            write_run(tmp_path, method, task="instruct", result=result, profile=profile)
    figure = drawn(tmp_path)["beside-efficiency"]
    said = [[text.get_text() for text in panel.texts] for panel in figure.axes]
    assert said[2] == ["not measured"]
    assert said[3] == ["not printed"]
    assert "not measured" not in (*said[1], *said[4], *said[5])


def test_without_the_run_that_times_are_shares_of_there_are_none(tmp_path: Path) -> None:
    result = {"train_seconds": 50.0, "val_loss": 1.5}
    write_run(tmp_path, "zero-init", task="instruct", result=result)
    figure = drawn(tmp_path)["beside-efficiency"]
    assert [panel.get_xlabel() for panel in figure.axes] == ["validation loss (nats)"] * 2


@pytest.mark.parametrize(
    "other",
    [
        {"cpu": {"model": "Faster CPU"}, "torch": {"threads": 2, "gpus": []}},
        ENVIRONMENT | {"timed": False},
    ],
    ids=["different machines", "shared cores"],
)
def test_times_that_cannot_be_compared_are_not_shown(
    tmp_path: Path, other: dict[str, object]
) -> None:
    for seed, environment in ((0, None), (1, other)):
        for method in ("full", "zero-init"):
            write_run(tmp_path, method, seed, task="instruct", environment=environment)
    figure = drawn(tmp_path)["beside-efficiency"]
    assert [panel.get_xlabel() for panel in figure.axes] == ["validation loss (nats)"] * 2


@pytest.mark.filterwarnings("error")
def test_scores_of_nought_have_an_axis(tmp_path: Path) -> None:
    """As most of a rehearsal are."""
    write_squad(tmp_path, "head", "squad-v1.1", 0, 0.0, result={"f1": 0.0})
    _, ours = drawn(tmp_path)["beside-squad"].axes
    assert ours.get_xlim() == (0, 1.3)


def test_what_is_not_trained_is_hatched(tmp_path: Path) -> None:
    flat = {"train_loss_last": 2.3}
    write_squad(tmp_path, "head", "squad-v1.1", 0, 5.0, result=flat)
    _, ours = drawn(tmp_path)["beside-squad"].axes
    assert [bool(bar.get_hatch()) for bar in ours.patches] == [True]


def test_captions_of_flickr8k_have_a_panel_that_says_so(tmp_path: Path) -> None:
    for task, profile, cider in (("coco", "mini", 1.8), ("flickr8k", "small", 0.12)):
        write_run(
            tmp_path, "zero-init", experiment="coco_caption", task=task, profile=profile,
            result={"CIDEr": cider, "Bleu_4": cider / 4},
        )  # fmt: skip
    figure = drawn(tmp_path)["beside-coco"]
    paper, mini, small = figure.axes[:3]
    assert bars(paper) == {0: 122.2}
    assert bars(mini) == {0: 180.0}
    assert bars(small) == {0: 12.0}
    assert "\n" not in mini.get_title()
    assert small.get_title().startswith("small: ")
    assert small.get_title().endswith("\nflickr8k")


def test_flickr8k_alone_is_drawn(tmp_path: Path) -> None:
    result = {"CIDEr": 0.12, "Bleu_4": 0.03}
    write_run(tmp_path, "lora", experiment="coco_caption", task="flickr8k", result=result)
    paper, ours = drawn(tmp_path)["beside-coco"].axes[:2]
    assert bars(paper) == {0: 122.2}
    assert bars(ours) == {1: 12.0}


def test_what_a_guess_scores_is_dotted(tmp_path: Path) -> None:
    known = {"chance_accuracy": 40.0, "majority_accuracy": 42.0, "chance_has_image": 33.0}
    write_scienceqa(tmp_path, "zero-init", "qcm-a", 0, 50.0, result=known)
    figure = drawn(tmp_path)["beside-scienceqa"]
    dotted = [
        [list(line.get_xdata()) for line in panel.lines if line.get_linestyle() == ":"]
        for panel in figure.axes
    ]
    assert dotted == [[], [[42, 42]], [], [[33, 33]]]  # none of the paper's
    assert figure.get_supxlabel() == "points: seeds; dotted: a guess"
