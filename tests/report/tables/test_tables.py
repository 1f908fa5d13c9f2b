"""All tables together: the files, their bytes, and damaged runs."""

import csv
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.harness.registry import InvalidChoiceError
from experiments.report import formats
from experiments.report.document import Document, Grid, Part
from experiments.report.tables import latex
from experiments.report.tables.write import CELLS, explain, write_tables
from tests.report.run_folders import lines_of, write_run, write_squad, write_vtab
from zia_core.errors import ZiaError


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for seed, accuracy in ((0, 60.04), (1, 61.96)):
        write_vtab(root, "zero-init", "cifar10", seed, accuracy)
        write_vtab(root, "zero-init", "cifar", seed, accuracy)
        write_squad(root, "lora", "squad-v1.1", seed, 50)
    write_vtab(root, "full", "cifar10", 0, 70, data="reduced-1")
    write_run(root, "lora")
    return root


@pytest.fixture(scope="module")
def written(runs: Path) -> Path:
    out = runs.parent / f"{runs.name}-out"
    write_tables([runs], out)
    return out


def test_every_table_is_markdown_and_latex_with_one_file_of_cells(written: Path) -> None:
    names = {path.stem for path in written.glob("*.md")}
    assert {"efficiency", "vtab_groups", "vtab_tasks", "squad", "scienceqa", "coco"} <= names
    assert {"layers", "initialisation", "overfitting", "lora_ranks", "settings"} <= names
    assert {"own_split", "flickr8k"} <= names
    assert {path.stem for path in written.glob("*.tex")} == names
    assert [path.name for path in written.iterdir() if path.suffix not in (".md", ".tex")] == [
        CELLS
    ]


def test_tables_without_runs_show_the_paper_and_missing(written: Path) -> None:
    table = (written / "scienceqa.md").read_text()
    assert lines_of(table, "LLaMA-Adapter")[0][1:4] == ["paper", "1.8M", "85.19"]
    assert lines_of(table, "zero-init")[0][1:] == ["ours"] + ["missing"] * 10
    assert len(lines_of(table, "ChatGPT CoT")) == 1
    coco = (written / "coco.md").read_text()
    assert lines_of(coco, "zero-init") == [["zero-init", "ours", "-", "-", "missing", "missing"]]
    for name in ("own_split", "flickr8k"):  # tables that the paper does not have
        table = (written / f"{name}.md").read_text()
        assert lines_of(table, "zero-init") == [["zero-init", "missing"]]
        assert "The paper's numbers" not in table


def test_markdown_latex_and_cells_have_the_same_numbers(written: Path) -> None:
    assert "| zero-init | ours | 61.0 ± 1.4 (2) |" in (written / "vtab_tasks.md").read_text()
    assert r"zero-init & ours & 61.0 $\pm$ 1.4 (2) &" in (written / "vtab_tasks.tex").read_text()
    cells = list(csv.DictReader(io.StringIO((written / CELLS).read_text())))
    ours = [
        cell
        for cell in cells
        if cell["source"] == "ours" and (cell["row"], cell["column"]) == ("zero-init", "CIFAR-100")
    ]
    [cell] = [cell for cell in ours if cell["n"] == "2"]
    assert (cell["table"], cell["task"], cell["unit"]) == ("vtab_tasks", "cifar", "%")
    assert (float(cell["mean"]), float(cell["difference"])) == pytest.approx((61.0, -21.2))
    [paper] = [c for c in cells if (c["row"], c["column"]) == ("Zero-init.", "CIFAR-100")]
    assert (paper["source"], paper["mean"]) == ("paper, v3 Tab. 12", "82.2")
    assert paper["confidence"] == "B"


def test_latex_is_whole(written: Path) -> None:
    for path in written.glob("*.tex"):
        text = path.read_text()
        assert text.isascii(), path.name
        for kind in ("table", "tabular"):
            assert text.count(rf"\begin{{{kind}}}") == text.count(rf"\end{{{kind}}}") > 0
        for table in re.findall(r"\\begin{tabular}{(.*?)}\n(.*?)\\end{tabular}", text, re.DOTALL):
            columns, body = table
            lines = [line for line in body.splitlines() if line.endswith(r"\tabularnewline")]
            assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines} == {len(columns)}
            for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
                assert body.count(rule) == 1


def test_latex_prints_every_character_as_it_is() -> None:
    assert latex.escaped("a_b & 5% #1 ~ {x} \\ ^") == (
        r"a\_b \& 5\% \#1 \textasciitilde{} \{x\} \textbackslash{} \textasciicircum{}"
    )
    assert latex.escaped("-1.5") == "$-$1.5"
    assert latex.escaped("-") == "-"
    assert latex.escaped("`--set`") == r"\textasciigrave{}-{}-set\textasciigrave{}"
    assert latex.escaped("two\nlines") == "two lines"
    part = Part((Grid(("method", "x"), (("a&b", "1"),)),), notes=("50 %\nof it",))
    text = latex.latex(Document("t", "T", "", (part,), "s", ()))
    assert r"a\&b & 1 \tabularnewline" in text
    assert "50 \\% of it\\par\n" in text


def test_a_cell_is_explained_by_its_runs(runs: Path) -> None:
    heading, first, second = explain([runs], "vtab_tasks", "zero-init", "CIFAR-10")
    assert heading.startswith("zero-init, CIFAR-10: 61.0 ± 1.4 (2) (ours: profile small, ")
    folders = {path.name for path in (runs / "vtab_vit").iterdir()}
    assert first.startswith("  cifar10, seed 0: done, 60.04 %, ")
    assert first.rsplit(" ", 1)[1] in folders
    assert second.startswith("  cifar10, seed 1: done, 61.96 %, ")
    # By method, although the label of the row says more.
    heading, *_ = explain([runs], "vtab_tasks", "full", "CIFAR-10")
    assert heading.startswith("full †, CIFAR-10: 70.0 (1) (ours: profile small, ")
    [paper] = explain([runs], "squad", "Zero-init.", "1.1 EM")
    assert paper == "Zero-init., 1.1 EM: 88.8% (paper, v3 Tab. 7, confidence B-)"


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        (("x", "zero-init", "CIFAR-10"), "there is no table 'x'; choose from: efficiency, "),
        (("squad", "x", "1.1 EM"), "there is no row 'x' of the table squad; choose from: Full, "),
        (("squad", "lora", "x"), "there is no column 'x' of the table squad; choose from: 1.1 EM"),
    ],
)
def test_a_cell_that_is_not_there_is_answered_with_the_choices(
    runs: Path, cell: tuple[str, str, str], sentence: str
) -> None:
    with pytest.raises(InvalidChoiceError, match=re.escape(sentence)):
        list(explain([runs], *cell))


def test_bytes_depend_on_neither_order_nor_locale_nor_time_zone(
    runs: Path, written: Path, tmp_path: Path
) -> None:
    # Copied in the opposite order, so that listings may differ.
    copied = tmp_path / "copied"
    for folder in sorted(runs.glob("*/*"), reverse=True):
        shutil.copytree(folder, copied / folder.parent.name / folder.name)
    program = (
        "import sys, locale, pathlib; locale.setlocale(locale.LC_ALL, '');"
        "from experiments.report.tables.write import write_tables;"
        "write_tables([pathlib.Path(sys.argv[1])], pathlib.Path(sys.argv[2]))"
    )
    environment = os.environ | {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[3]), "PYTHONUTF8": "0"}
    subprocess.run(
        [sys.executable, "-c", program, str(copied), str(tmp_path / "out")],
        env=environment,
        cwd=tmp_path,
        check=True,
    )
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == {
        p.name: p.read_bytes() for p in written.iterdir()
    }


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("result.json", "{", "result.json is not valid JSON"),
        ("result.json", '{"accuracy": "x"}', "result.json lacks"),
        ("config.json", "[]", "config.json must hold a JSON object"),
    ],
)
def test_a_damaged_run_stops_or_is_left_out_and_named(
    tmp_path: Path, no_plan: None, file: str, content: str, sentence: str
) -> None:
    write_vtab(tmp_path / "runs", "full", "cifar10", 0, 60)
    run = write_vtab(tmp_path / "runs", "full", "cifar10", 1, 90)
    (run / file).write_text(content)
    with pytest.raises(ZiaError, match=re.escape(f"{run.name}/{sentence}")):
        write_tables([tmp_path / "runs"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    write_tables([tmp_path / "runs"], tmp_path / "out", keep_going=True)
    table = (tmp_path / "out" / "vtab_tasks.md").read_text()
    assert lines_of(table, "full")[0][1:] == ["60.0 (1)"]
    assert "Left out, because damaged:" in table
    assert f"- vtab_vit/{run.name}/{sentence}" in table
    assert str(tmp_path) not in table
    assert f"vtab\\_vit/{run.name}" in (tmp_path / "out" / "vtab_tasks.tex").read_text()
    assert "Left out" not in (tmp_path / "out" / "squad.md").read_text()


def test_settings_are_shown_without_the_noise_of_floats() -> None:
    assert formats.setting([[3 * 1e-4, 0.0], 8.0, 1e-12, True, None, "a"]) == (
        "((0.0003, 0.0), 8.0, 1e-12, yes, none, a)"
    )
