"""Captions: COCO beside the paper, and Flickr8k alone."""

from pathlib import Path
from typing import Any

import pytest

from experiments.report.document import markdown
from experiments.report.runs import read_runs
from experiments.report.tables.write import document
from tests.report.run_folders import ENVIRONMENT, lines_of, write_run

COCO, FLICKR = "coco", "flickr8k"


def text(root: Path, table: str) -> str:
    return markdown(document(table, read_runs([root])))


pytestmark = pytest.mark.usefixtures("no_plan")


def write(root: Path, method: str, task: str, seed: int, cider: float, **result: Any) -> None:
    write_run(
        root,
        method,
        seed,
        experiment="coco_caption",
        task=task,
        result={"CIDEr": cider, **result},
    )


def test_scores_are_printed_as_the_paper_prints_them(tmp_path: Path) -> None:
    """A CIDEr of 1.222 is the paper's 122.2."""
    for seed, cider in ((0, 1.222), (1, 1.242)):
        write(tmp_path, "zero-init", "coco", seed, cider, Bleu_4=0.352)
    table = text(tmp_path, COCO)
    assert "| LLaMA-Adapter | paper | 0M | 0.6M | 36.2 | 122.2 |" in table
    first, second = lines_of(table, "zero-init")[:2]
    assert first == ["zero-init", "ours", "-", "-", "35.2 ± 0.0 (2)", "123.2 ± 1.4 (2)"]
    assert lines_of(table, "difference") == [["difference", "-", "-", "-1.0", "+1.0"]]
    assert second[1:] == ["60.0 ± 0.0 (2)", "40.0 ± 0.0 (2)", "30.0 ± 0.0 (2)",
                          "45.0 ± 0.0 (2)", "200 (2)", "1.0 ± 0.0 (2)"]  # fmt: skip


def test_flickr8k_is_never_beside_coco(tmp_path: Path) -> None:
    for seed, (image, words) in enumerate(((3.1, 3), (3.3, 3.1), (3.5, 3.2), (3.2, 3), (3.4, 3.2))):
        write(tmp_path, "zero-init", "flickr8k", seed, image / 10)
        write(tmp_path, "zero-init-text", "flickr8k", seed, words / 10)
    assert text(tmp_path, COCO) == text(tmp_path / "nothing", COCO)
    table = text(tmp_path, FLICKR)
    assert "122.2" not in table
    assert lines_of(table, "zero-init")[0] == [
        "zero-init", "60.0 ± 0.0 (5)", "40.0 ± 0.0 (5)", "30.0 ± 0.0 (5)", "20.0 ± 0.0 (5)",
        "45.0 ± 0.0 (5)", "33.0 ± 1.6 (5)", "200 (5)", "1.0 ± 0.0 (5)",
    ]  # fmt: skip
    pair = lines_of(table, "zero-init minus zero-init-text")[0]
    assert pair[-1] == "+2.0 [+1.1, +2.9] ahead"  # 1, 2, 3, 2, 2 points
    assert pair[1] == "+0.0 [+0.0, +0.0] level"


def test_a_run_whose_loss_did_not_fall_says_so(tmp_path: Path) -> None:
    write(tmp_path, "lora", "flickr8k", 0, 0.1, train_loss_first=2.0, train_loss_last=1.9)
    assert lines_of(text(tmp_path, FLICKR), "lora")[0][6] == "not trained: 10.0 (1)"


def test_a_seed_that_failed_decides_no_pair(tmp_path: Path) -> None:
    """As in claims."""
    for seed in range(5):
        write(tmp_path, "zero-init", "flickr8k", seed, 0.31 + seed / 1000)
        write(tmp_path, "zero-init-text", "flickr8k", seed, 0.30)
    pair = "zero-init minus zero-init-text"
    assert lines_of(text(tmp_path, FLICKR), pair)[0][-1].startswith("+1.2 [")
    write_run(
        tmp_path, "zero-init", 5, experiment="coco_caption", task="flickr8k", state="failed",
        reason="the loss is not finite",
    )  # fmt: skip
    assert lines_of(text(tmp_path, FLICKR), pair)[0][1:] == ["1 failed"] * 6


def test_methods_with_other_weights_are_no_pair(tmp_path: Path) -> None:
    for method, digest in (("zero-init", "a"), ("zero-init-text", "b")):
        for seed in range(5):
            write_run(
                tmp_path, method, seed, experiment="coco_caption", task="flickr8k",
                result={"CIDEr": 0.3}, environment=ENVIRONMENT | {"weights": {"model": digest}},
            )  # fmt: skip
    pair = lines_of(text(tmp_path, FLICKR), "zero-init minus zero-init-text")[0]
    assert pair[1:] == ["different data or weights"] * 6
