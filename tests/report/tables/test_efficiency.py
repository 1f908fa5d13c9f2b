import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from experiments.report.document import Document, markdown
from experiments.report.runs import read_runs
from experiments.report.tables.cells import cells_csv
from experiments.report.tables.write import document, write_tables
from tests.report.run_folders import ENVIRONMENT, lines_of, section, write_run
from zia_core.errors import ZiaError


def made(*roots: Path) -> Document:
    return document("efficiency", read_runs(roots))


def table(*roots: Path) -> str:
    return markdown(made(*roots))


def test_without_runs_the_paper_stands_beside_missing_cells(tmp_path: Path) -> None:
    markdown = table(tmp_path / "absent")
    assert lines_of(markdown, "zero-init") == [
        ["zero-init", "LLaMA-Adapter", "1.2M", "missing", "4.7M", "missing", "1 hour", "missing"]
    ]
    assert lines_of(markdown, "lora")[0][-2:] == ["1.5 hours", "missing"]
    assert lines_of(markdown, "full")[0][-2:] == ["3 hours", "missing"]
    assert "4.9M (text" in markdown


def test_seeds_are_averaged_and_every_run_is_named(tmp_path: Path) -> None:
    first = write_run(tmp_path, result={"val_loss": 2.0, "train_seconds": 300.0})
    second = write_run(tmp_path, seed=1, result={"val_loss": 2.1, "train_seconds": 330.0})
    markdown = table(tmp_path)
    ours, besides = lines_of(markdown, "zero-init")
    assert ours[2:] == [
        "1.2M",
        "173,070",
        "4.7M",
        "0.70 MB (0.67 MiB)",
        "1 hour",
        "5.25 ± 0.35 min",
    ]
    assert besides[1:] == [
        "2.500 ± 0.000", "2.050 ± 0.071", "7.389 ± 0.000", "-", "640 ± 0", "2", "done",
    ]  # fmt: skip
    assert f"Seed 0: done, `{first.name}`. Seed 1: done, `{second.name}`." in markdown
    assert "On 2 threads of Test CPU." in markdown
    cells = list(csv.DictReader(io.StringIO(cells_csv([made(tmp_path)]))))
    [cell] = [c for c in cells if (c["row"], c["column"]) == ("zero-init", "training time")]
    assert (float(cell["mean"]), float(cell["std"])) == (315.0, pytest.approx(21.2132034))
    assert (cell["n"], cell["unit"], cell["profile"]) == ("2", "seconds", "small")
    assert cell["runs"].split() == [first.name, second.name]


def test_runs_that_are_not_done_have_no_numbers(tmp_path: Path) -> None:
    write_run(tmp_path, "zero-init", state="failed", reason="loss is nan\nat step 3 | x")
    write_run(tmp_path, "lora", state="preempted")
    write_run(tmp_path, "full")
    write_run(tmp_path, "full", seed=1, state="failed", reason="full disk")
    markdown = table(tmp_path)
    assert lines_of(markdown, "zero-init")[0][3::2] == ["failed"] * 3
    assert lines_of(markdown, "zero-init")[1][1:] == ["-"] * 5 + ["0", "failed"]
    assert r"Seed 0: failed (loss is nan at step 3 \| x)" in markdown
    assert lines_of(markdown, "lora")[0][3::2] == ["not finished"] * 3
    assert lines_of(markdown, "full")[0][3] == "173,070"
    assert lines_of(markdown, "full")[1][-2:] == ["1", "done"]
    assert "Seed 1: failed (full disk)" in markdown


def test_a_method_whose_loss_did_not_fall_is_not_trained(tmp_path: Path) -> None:
    write_run(tmp_path, "zero-init")
    write_run(tmp_path, "zero-init", seed=1, result={"val_loss": 2.5})
    write_run(tmp_path, "frozen", result={"tuned_parameters": 0, "val_loss": 2.5})
    markdown = table(tmp_path)
    assert lines_of(markdown, "zero-init")[1][-1] == "not trained"
    assert lines_of(markdown, "frozen")[1][-1] == "done"


def test_profiles_data_backbones_and_versions_are_never_mixed(tmp_path: Path) -> None:
    changes = [
        {},
        {"profile": "paper", "backbone": "llama-7b"},
        {"profile": "mini"},
        {"data": "reduced-640"},
        {"version": 2},
        {"backbone": "another"},
    ]
    for loss, change in enumerate(changes):
        write_run(tmp_path, result={"val_loss": loss / 10}, **change)
    markdown = table(tmp_path)
    parts = markdown.split("\n## ")[1:]
    assert [part.split(":")[0] for part in parts] == ["mini", *["small"] * 4, "paper"]
    after = [lines_of(part.replace(" †", ""), "zero-init")[1][2] for part in parts]
    assert sorted(after) == [f"{loss / 10:.3f}" for loss in range(6)]


def test_a_reduced_run_and_a_tuned_backbone_are_marked(tmp_path: Path) -> None:
    write_run(tmp_path, data="reduced-640")
    write_run(tmp_path, profile="paper", backbone="llama-7b")
    markdown = table(tmp_path)
    small, paper = section(markdown, "small"), section(markdown, "paper")
    assert lines_of(small, "zero-init †")[0][3] == "173,070"
    assert "† A reduced run: of the data it saw reduced-640." in small
    assert "instruction-tuned already" in small
    assert "†" not in paper
    assert "instruction-tuned" not in paper


def test_a_run_older_than_a_setting_is_in_the_row_of_its_default(tmp_path: Path) -> None:
    write_run(tmp_path, "zero-init", 0, settings={"steps": 40})
    write_run(tmp_path, "zero-init", 1, settings={"steps": 40, "template": "paper"})
    write_run(tmp_path, "zero-init", 2, settings={"steps": 40, "template": "chat"})
    markdown = table(tmp_path)
    assert len(lines_of(markdown, "zero-init (template paper)")) == 2  # one row, in two grids
    assert lines_of(markdown, "zero-init (template chat)")
    assert not lines_of(markdown, "zero-init (template not recorded)")


def test_other_settings_are_another_row(tmp_path: Path) -> None:
    write_run(tmp_path, "lora", settings={"rank": 8})
    write_run(tmp_path, "lora", settings={"rank": 16, "clip": None})
    write_run(tmp_path, "zero-init", settings={"rank": 16, "clip": True})
    markdown = table(tmp_path)
    assert len(lines_of(markdown, "lora (clip not recorded, rank 8)")) == 2
    assert len(lines_of(markdown, "lora (clip none, rank 16)")) == 2
    assert "- All rows: device cpu, steps 40." in markdown
    assert "- zero-init: clip yes, rank 16. On 2 threads" in markdown


def test_times_of_several_machines_have_no_mean(tmp_path: Path) -> None:
    other = {"torch": {"threads": 4, "gpus": ["NVIDIA A100", "NVIDIA A100"]}}
    write_run(tmp_path, settings={"device": "cuda"})
    write_run(tmp_path, seed=1, settings={"device": "cuda"}, environment=other)
    markdown = table(tmp_path)
    ours, besides = lines_of(markdown, "zero-init")
    assert ours[-1] == "several machines"
    assert besides[2] == "2.000 ± 0.000"
    assert "On 2 threads of Test CPU; 2 x NVIDIA A100." in markdown


def test_of_runs_that_shared_their_cores_all_but_the_times_is_shown(tmp_path: Path) -> None:
    memory, shared = {"peak_memory_bytes": 5e9}, ENVIRONMENT | {"timed": False}
    write_run(tmp_path, result=memory)
    write_run(tmp_path, seed=1, result=memory, environment=shared)
    write_run(tmp_path, "frozen", result={"train_seconds": 0.0}, environment=shared)
    assert lines_of(table(tmp_path), "frozen")[0][-1] == "-"
    ours, besides = lines_of(table(tmp_path), "zero-init")
    assert ours[-1] == "not timed"
    assert besides[5] == "not timed"  # tokens a second
    assert besides[4].startswith("5.00")
    assert besides[2] == "2.000 ± 0.000"


def test_seeds_of_different_weights_have_no_mean(tmp_path: Path) -> None:
    for seed in (0, 1):
        environment = ENVIRONMENT | {"weights": {"model.gguf": f"digest {seed}"}}
        write_run(tmp_path, seed=seed, environment=environment)
    ours, besides = lines_of(table(tmp_path), "zero-init")
    assert ours[3::2] == ["different data or weights"] * 3
    assert besides[1:] == ["different data or weights"] * 5 + ["2", "different data or weights"]


def test_the_threads_are_those_of_the_run_not_of_its_process(tmp_path: Path) -> None:
    write_run(tmp_path, settings={"device": "cpu", "threads": 1})
    assert "On 1 thread of Test CPU." in table(tmp_path)


def test_a_cpu_run_beside_a_gpu_is_a_cpu_run(tmp_path: Path) -> None:
    environment = {"cpu": {"model": "Other CPU"}, "torch": {"threads": 4, "gpus": ["NVIDIA A100"]}}
    write_run(tmp_path, settings={"device": "cpu"}, environment=environment)
    assert "On 4 threads of Other CPU." in table(tmp_path)


def test_a_run_that_is_in_two_folders_counts_once(tmp_path: Path) -> None:
    run = write_run(tmp_path / "new")
    shutil.copytree(run, tmp_path / "old" / "alpaca_llama" / run.name)
    result = run / "result.json"
    result.write_text(json.dumps(json.loads(result.read_text()) | {"val_loss": 1.5}))
    markdown = table(tmp_path / "new", tmp_path / "old")
    assert lines_of(markdown, "zero-init")[1][2] == "1.500"


def test_other_experiments_are_not_in_the_table(tmp_path: Path) -> None:
    write_run(tmp_path, experiment="another")
    assert table(tmp_path) == table()


def test_equal_folders_give_equal_bytes(tmp_path: Path) -> None:
    runs = [("lora", 1), ("zero-init", 0), ("frozen", 0), ("zero-init", 1), ("lora", 0)]
    for root, order in (("a", runs), ("b", runs[::-1])):
        for method, seed in order:
            write_run(tmp_path / root, method, seed)
        write_run(tmp_path / f"{root}-more", seed=2)
        write_run(tmp_path / f"{root}-more", "another")
    orders = {"a": ["a", "a-more"], "b": ["b-more", "b"]}
    written = [
        write_tables([tmp_path / root for root in roots], tmp_path / f"out-{name}")
        for name, roots in orders.items()
    ]
    assert {"efficiency.md", "efficiency.tex", "cells.csv"} <= {path.name for path in written[0]}
    for first, second in zip(*written, strict=True):
        assert first.read_bytes() == second.read_bytes()
        assert str(tmp_path) not in first.read_text()


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("result.json", "{", r"result\.json is not valid JSON"),
        ("result.json", "{}", r"result\.json lacks tuned_parameters"),
        ("config.json", '{"experiment": "alpaca_llama"}', r"config\.json lacks version"),
        ("status.json", '{"state": "finished"}', r"status\.json lacks attempts, progress"),
    ],
)
def test_a_damaged_run_is_named_and_old_tables_stay(
    tmp_path: Path, file: str, content: str, sentence: str
) -> None:
    run = write_run(tmp_path / "runs")
    out = tmp_path / "out"
    before = {path: path.read_bytes() for path in write_tables([tmp_path / "runs"], out)}
    (run / file).write_text(content)
    with pytest.raises(ZiaError, match=rf"{run.name}/{sentence}"):
        write_tables([tmp_path / "runs"], out)
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_runs_that_try_a_rate_are_in_no_table(tmp_path: Path) -> None:
    write_run(tmp_path, settings={"phase": "select"}, seed=100)
    assert table(tmp_path) == table(tmp_path / "absent")
    final = write_run(tmp_path, settings={"phase": "final"})
    assert f"Seed 0: done, `{final.name}`." in table(tmp_path)
    assert "Seed 100" not in table(tmp_path)
