"""A new experiment brings its own table; a new table of the paper is one file."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.harness import registry
from experiments.harness.report_info import ReportInfo, Score, TaskGroup
from experiments.report.figures import style
from experiments.report.figures.write import by_kind
from experiments.report.html.report import page_of
from experiments.report.runs import Runs, read_runs
from experiments.report.tables import read
from experiments.report.tables.write import document, explain, write_tables
from tests.harness import toy
from tests.report.run_folders import lines_of, write_run, write_squad
from zia_core.errors import ZiaError

PAPER = {
    "title": "Sums (Table 99)",
    "conditions": "on an abacus",
    "defaults": {"unit": "%", "version": "v9", "source": "v9 Tab. 99", "confidence": "D"},
    "cells": [
        {"row": "Counting", "column": "sums", "value": 40},
        {"row": "Guessing", "column": "sums", "value": 1},
    ],
}
COLUMN = {"field": "score", "unit": "%", "format": 1, "scale": 100, "compared": True}
OWN: dict[str, Any] = {
    "experiment": "toy",
    "paper": PAPER,
    "rows": [["add", "Counting"], ["add-twice", None], [None, "Guessing"]],
    "blocks": [
        {"columns": [COLUMN | {"title": "sums", "tasks": ["sum"]}]},
        {
            "caption": "Our own tasks",
            "paper": False,
            "columns": [COLUMN | {"each": True, "tasks": ["@own"]}],
        },
    ],
    "notes": ["Sums are right or wrong."],
    "pairs": [["add", "add-twice"]],
    "paired": ["sums"],
}


@pytest.fixture
def toy_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Register the toy beside the other experiments, with a table in its own folder."""

    def register(**changes: Any) -> Path:
        path = tmp_path / "toy" / "tables" / "sums.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(OWN | changes))
        info = ReportInfo(
            score=Score("score", "score (%)", scale=100),
            tables=path.parent,
            task_titles={"product": "times", "sum": "plus"},
            groups={"own": TaskGroup(("product", "sum"))},
        )
        experiment = replace(toy.EXPERIMENT, report=info, plan=lambda profile, device: [])
        known = {**registry.experiments(), "toy": experiment}
        monkeypatch.setattr(registry, "experiments", lambda: known)
        return path

    return register


def toy_runs(root: Path) -> Runs:
    ends = {"train_loss_first": 2.0, "train_loss_last": 0.5}
    for method, scores in {"add": (0.5, 0.7), "add-twice": (0.4, 0.4), "new": (0.1, 0.1)}.items():
        for seed, score in enumerate(scores):
            result = {"score": score, "tuned_parameters": 10 * len(method), **ends}
            for task in ("sum", "product"):
                write_run(
                    root, method, seed, experiment="toy", task=task, result=result, losses=[2, 1]
                )
    return read_runs([root])


def test_an_experiment_brings_its_table(toy_table: Callable[..., Path], tmp_path: Path) -> None:
    toy_table()
    root = tmp_path / "runs"
    toy_runs(root)
    paths = write_tables([root], tmp_path / "out")
    table = (tmp_path / "out/sums.md").read_text()
    assert table.startswith("# Sums (Table 99)\n\nThe paper's numbers: on an abacus.\n")
    assert lines_of(table, "Counting") == [["Counting", "paper", "40.0"]]
    assert lines_of(table, "add") == [
        ["add", "ours", "60.0 ± 14.1 (2)"],
        ["add", "60.0 ± 14.1 (2)", "60.0 ± 14.1 (2)"],
    ]
    assert lines_of(table, "difference") == [["difference", "+20.0"]]
    assert lines_of(table, "Guessing") == [["Guessing", "paper", "1.0"]]
    assert "| method | times | plus |" in table
    assert lines_of(table, "add minus add-twice") == [["add minus add-twice", "+20.0 (n=2)"]]
    assert "- Sums are right or wrong.\n" in table
    assert "- not trained: the training loss of a seed did not fall by 20 %" in table
    assert tmp_path / "out/sums.tex" in paths
    assert paths.index(tmp_path / "out/sums.md") > paths.index(tmp_path / "out/settings.md")
    assert "\nsums,ours,mini" not in (tmp_path / "out/cells.csv").read_text()
    assert "\nsums,ours,small" in (tmp_path / "out/cells.csv").read_text()
    heading, *runs = explain([root], "sums", "new", "sums")
    assert heading.startswith("new, sums: 10.0 ± 0.0 (2) (ours: profile small, ")
    assert len(runs) == 2


def test_its_runs_have_figures_and_a_score_in_the_report(
    toy_table: Callable[..., Path], tmp_path: Path
) -> None:
    toy_table()
    runs = toy_runs(tmp_path / "runs")
    with style.styled():
        names = [figure.name for _, drawn in by_kind(runs) for figure in drawn]
    start = "toy-small-SmolLM2-135M-Instruct-full-v1"
    assert [name for name in names if "toy" in name] == [
        f"parameters-{start}-product", f"parameters-{start}-sum", f"losses-{start}",
    ]  # fmt: skip
    page = page_of(runs)
    assert "Sums (Table 99)" in page
    assert "score (%)" in page


def test_a_table_of_an_experiment_that_is_not_there_is_left_out(
    monkeypatch: pytest.MonkeyPatch, toy_table: Callable[..., Path], tmp_path: Path
) -> None:
    toy_table(experiment="elsewhere")
    names = [table.name for table in read.tables()]
    assert "sums" not in names
    assert "squad" in names


def test_a_further_table_of_the_paper_is_one_file(
    monkeypatch: pytest.MonkeyPatch, no_plan: None, tmp_path: Path
) -> None:
    shutil.copytree(read.FOLDER, tmp_path / "tables")
    monkeypatch.setattr(read, "FOLDER", tmp_path / "tables")
    cells = [{"row": "Full", "column": "F1", "value": 90}]
    table = {
        "order": 4,
        "experiment": "squad_roberta",
        "paper": PAPER | {"cells": cells},
        "tasks": ["squad-v1.1"],
        "rows": [["full", "Full"]],
        "blocks": [{"columns": [{"field": "f1", "title": "F1", "unit": "%", "compared": True}]}],
    }
    (tmp_path / "tables/short.json").write_text(json.dumps(table))
    write_squad(tmp_path / "runs", "full", "squad-v1.1", 0, 77.0)
    made = document("short", read_runs([tmp_path / "runs"]))
    [grid] = made.parts[0].grids
    assert grid.lines == (
        ("Full", "paper", "90.000"), ("full", "ours", "87.000 (1)"), ("", "difference", "-3.000"),
    )  # fmt: skip
    names = [table.name for table in read.tables()]
    assert names[names.index("short") :][:2] == ["short", "squad"]  # equal orders: by name


def test_the_paper_s_numbers_alone_need_no_layout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(read, "FOLDER", tmp_path)
    (tmp_path / "sums.json").write_text(json.dumps({"paper": PAPER}))
    [part] = document("sums", Runs()).parts
    assert part.grids[0].lines == (("Counting", "paper", "40.00"), ("Guessing", "paper", "1.00"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"colums": []}, "there is no key 'colums' of "),
        ({"rows": [["add"]]}, "sums.json: rows[0] must be a list of 2 of a text or none"),
        ({"layout": "pie"}, "sums.json: layout must be one of methods, side_by_side, comparison"),
        ({"layout": "side_by_side", "paper": None}, "sums.json: the layout side_by_side needs"),
        ({"layout": "comparison"}, "sums.json: the layout comparison needs the method 'ours'"),
        ({"notes": [{"note": "x"}]}, "there is no note 'x' of "),
        ({"notes": [{"note": "selection"}]}, "sums.json: the note 'selection': missing a required"),
        ({"figure": "pie"}, "sums.json: figure must be one of task_bars, "),
        ({"row_note": "x"}, "there is no note on a row 'x' of "),
        ({"paired": ["x"]}, "there is no column 'x' of "),
        ({"lines": "x"}, "there is no lines 'x' of toy"),
        ({"blocks": [{"columns": [{"tasks": ["@x"]}]}]}, "there is no group of tasks 'x' of "),
        ({"blocks": [{"columns": [{"format": "x"}]}]}, "there is no format 'x' of "),
        ({"blocks": [{"columns": ["x"]}]}, "sums.json, a column must be a JSON object with field"),
        ({"blocks": [{"counts": True, "columns": []}]}, "counts tasks, but the experiment has no"),
        ({"drawn_with": ["x"]}, "there is no table 'x' of sums.json"),
        ({"paper": {"title": "x"}}, "sums.json lacks conditions, cells"),
        ({"paper": PAPER | {"cells": [{"row": "x"}]}}, "sums.json, cell 0 lacks column, value"),
    ],
)
def test_a_file_that_is_not_well_formed_is_named(
    toy_table: Callable[..., Path], changes: dict[str, Any], sentence: str
) -> None:
    path = toy_table(**changes)
    with pytest.raises(ZiaError) as raised:
        read.tables()
    assert sentence in str(raised.value)
    assert path.name in str(raised.value) or "toy" in str(raised.value)


def test_a_table_drawn_with_another_needs_its_headlines(toy_table: Callable[..., Path]) -> None:
    toy_table(headlines=[{"title": "sum", "column": "sums"}], drawn_with=["flickr8k"])
    with pytest.raises(ZiaError, match=r"there is no column 'sums' of flickr8k\.json"):
        read.tables()


def test_two_tables_of_one_name_are_refused(toy_table: Callable[..., Path]) -> None:
    path = toy_table()
    shutil.copy(path, path.with_name("squad.json"))
    with pytest.raises(ZiaError, match="there is another table squad: rename one of them"):
        read.tables()
