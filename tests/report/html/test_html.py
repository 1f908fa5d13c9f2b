"""`report.html`: its content, hostile content, and equal bytes."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from experiments.alpaca_llama.instructions import own_instructions
from experiments.harness.report_info import Asked
from experiments.mini_world import provided
from experiments.report.claims.matrix import LOOKS
from experiments.report.document import markdown
from experiments.report.html.browser import browse
from experiments.report.html.report import TEMPLATES, page_of, write_report
from experiments.report.html.samples import samples
from experiments.report.html.text import code, slug
from experiments.report.html.trace import trace
from experiments.report.runs import Runs, read_runs
from experiments.report.tables import write
from tests.coco_caption.world import write_coco
from tests.report.run_folders import write_predictions, write_run, write_squad, write_vtab
from zia_core.errors import ZiaError

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7 * 7 }} ' \" &lt;"


class Page(HTMLParser):
    """What a browser would see: elements with attributes, and the cells of each table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.tables[-1][-1][-1] += data


def runs_in(root: Path) -> Path:
    for seed in range(2):
        losses = [2.3 - 0.01 * step + 0.1 * seed for step in range(100)]
        write_vtab(root, "zero-init", "cifar10", seed, 60 + seed, losses=losses)
        write_vtab(root, "linear", "cifar10", seed, 50, losses=losses)
    write_squad(root, "lora", "squad-v1.1", 0, 50)
    for method in ("zero-init", "lora"):
        run = write_run(root, method, losses=[2.0, 1.5])
        write_predictions(run, [
            {"set": "nine", "id": "list", "decoding": "greedy", "output": f"1. Tyres ({method})"},
            {"set": "nine", "id": "list", "decoding": "sampled", "output": "by chance"},
            {"set": "alpaca", "id": "17", "decoding": "greedy", "output": "of the data set"},
        ])  # fmt: skip
    return root


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return read_runs([runs_in(tmp_path_factory.mktemp("runs"))])


@pytest.fixture(scope="module")
def text(runs: Runs) -> str:
    return page_of(runs)


def markdown_tables(text: str) -> Iterator[list[list[str]]]:
    """The cells of every table of a Markdown text."""
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        lines = [line[2:-2] for line in block.splitlines()]
        rows = [re.split(r"(?<!\\) \| ", line) for line in lines]
        yield [[cell.replace("\\|", "|") for cell in row] for row in rows if set(row) != {"---"}]


def test_its_tables_have_the_cells_of_the_markdown(runs: Runs, text: str) -> None:
    documents = write.made_of(runs)
    expected = [table for d in documents for table in markdown_tables(markdown(d))]
    page = Page(text)
    assert len(expected) > 10
    assert page.tables[:-1] == expected  # the last is the run browser; no claim has runs
    cells = [cell for table in page.tables for row in table for cell in row]
    assert len([cell for cell in cells if cell.startswith("60.5 ± 0.7 (2")]) == 1


def test_lines_of_ours_lead_to_their_runs(runs: Runs) -> None:
    documents, lines = write.made_of(runs), browse(runs).lines
    found = trace(documents, lines)
    title = "small: small-vit, data full (vtab_vit version 1)"
    behind = [lines[place].run for place in found["vtab_tasks", title, "zero-init"]]
    assert [(run.method, run.task, run.seed) for run in behind] == [
        ("zero-init", "cifar10", seed) for seed in range(2)
    ]
    assert ("vtab_tasks", title, "Zero-init.") not in found  # the paper's line
    assert {table for table, _, label in found if label == "lora"} >= {"squad", "efficiency"}


def test_lines_of_one_name_lead_each_to_their_own_runs(tmp_path: Path) -> None:
    for version in (1, 10):
        write_vtab(tmp_path, "zero-init", "cifar10", 0, 60, version=version)
    runs = read_runs([tmp_path])
    documents, lines = write.made_of(runs), browse(runs).lines
    found = trace(documents, lines)
    for version in (1, 10):
        title = f"small: small-vit, data full (vtab_vit version {version})"
        [place] = found["vtab_tasks", title, "zero-init"]
        assert lines[place].run.version == version


def test_its_claims_are_those_of_zia_claims(text: str) -> None:
    assert '<span class="verdict does-not-hold">does not hold</span>' in text
    assert '<span class="verdict no-runs">no runs</span>' in text
    assert "<strong>The lowest two layers hurt: 32 of 32 is worse than 30.</strong>" in text


def test_the_matrix_is_first_and_leads_to_the_evidence(tmp_path: Path) -> None:
    for method, tuned in (("zero-init", 2082), ("lora", 1041), ("p-tuning-v2", 2082)):
        write_squad(tmp_path, method, "squad-v1.1", 0, 50, result={"tuned_parameters": tuned})
    text = page_of(read_runs([tmp_path]))
    page = Page(text)
    assert page.tables[:2] == [
        [
            ["claim", "small"],
            ["Beats random init: SQuAD", "? inconclusive"],
            ["As good as LoRA: SQuAD", "✗ does not hold"],  # with more parameters
        ],
        [["claim", "small"], ["Beats P-tuning v2: SQuAD", "? inconclusive"]],
    ]
    anchors = {attributes.get("id") for _, attributes in page.elements}
    links = {str(a["href"])[1:] for tag, a in page.elements if tag == "a" and "href" in a}
    assert {"small-random-init-squad", "small-lora-squad", "small-p-tuning-v2"} <= links <= anchors
    places = [
        "small decides 1 of 24 claims",
        '<span class="small">Real data and small models.</span>',
        "<figcaption>SQuAD, development sets (Table 7)</figcaption>",
        '<section id="claims">',
    ]
    assert [text.count(place) for place in places] == [1, 1, 1, 1]
    assert sorted(places, key=text.index) == places


def test_cells_have_the_colours_of_the_figure() -> None:
    styles = (TEMPLATES / "style.css").read_text("utf-8")
    for verdict, look in LOOKS.items():
        rule = f".cell.{slug(verdict)} {{ background: {look.ground}; color: {look.ink}; }}"
        assert (rule in styles) == (verdict != "no runs")


def test_nothing_is_loaded_from_elsewhere(text: str) -> None:
    page = Page(text)
    addresses = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster") and value
    ]
    assert len([a for a in addresses if a.startswith("data:image/png;base64,")]) > 3
    assert {a.split(",")[0][:5] for a in addresses if not a.startswith("#")} == {"data:"}
    targets = {attributes.get("id") for _, attributes in page.elements}
    assert {a[1:] for a in addresses if a.startswith("#")} <= targets
    assert "@import" not in text
    assert "url(" not in text


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    method = HOSTILE.replace("/", "|")  # it becomes the name of a folder
    write_run(tmp_path, method, state="failed", reason=HOSTILE, task=HOSTILE)
    run = write_run(tmp_path, "lora", settings={"note": HOSTILE}, losses=[2.0, 1.0])
    records = [{"set": "nine", "id": "list", "decoding": "greedy", "output": HOSTILE + "\ud800"}]
    write_predictions(run, records)
    with (run / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"step": 3, "eval": {HOSTILE: 1.0}}) + "\n")
        log.write(json.dumps({"step": 4, "eval": {HOSTILE: 2.0}}) + "\n")
    text = write_report([tmp_path], tmp_path / "out").read_text()
    page = Page(text)
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
    assert {attributes["src"][:5] for tag, attributes in page.elements if tag == "img"} == {"data:"}
    assert "{{ 7 * 7 }}" in text
    assert "49 &#39;" not in text
    assert any(HOSTILE in row for row in page.tables[-1])
    data = re.search(r'id="data">(.*?)</script>', text, flags=re.DOTALL)
    opened = json.loads(data[1])["runs"][f"alpaca_llama/{run.name}"]
    assert opened["settings"]["note"] == HOSTILE
    assert opened["curves"] == {
        "training loss": [[1, 2], [2, 1]], HOSTILE: [[3, 1], [4, 2]],
    }  # fmt: skip


def test_control_characters_reach_neither_the_page_nor_its_script(tmp_path: Path) -> None:
    evil = "a\x1b[31mb\x00\x9bc\u202ed\x07"
    write_run(tmp_path, "lora", state="failed", reason=evil, settings={"note": evil})
    text = write_report([tmp_path], tmp_path / "out").read_text(encoding="utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
    data = re.search(r'id="data">(.*?)</script>', text, flags=re.DOTALL)
    assert data is not None
    (opened,) = json.loads(data[1])["runs"].values()
    assert opened["settings"]["note"] == r"a\x1b[31mb\x00\x9bc\u202ed\x07"


def test_only_our_own_instructions_have_their_texts(text: str) -> None:
    assert "<summary>List five things to check before a long bicycle tour.</summary>" in text
    first, second = (text.index(f"1. Tyres ({method})") for method in ("zero-init", "lora"))
    assert first < second
    assert "of the data set" not in text
    assert "by chance" not in text
    assert "Tell a story" not in text  # has no answers


def test_only_generated_images_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_coco(tmp_path / "world/coco")
    monkeypatch.setattr(provided, "world_folder", lambda: tmp_path / "world")
    first = Image.open(next((tmp_path / "world/coco").rglob("*_000000000014.jpg")))
    for profile in ("mini", "small"):
        run = write_run(
            tmp_path / "runs",
            experiment="coco_caption",
            task="coco",
            profile=profile,
            losses=[1, 2],
        )
        write_predictions(run, [
            {"set": "val-loss", "id": 11, "loss": 1.0, "labels": 2},
            {"set": "test", "id": 14, "caption": f"A {profile} picture."},
        ])  # fmt: skip
    mini, small = samples(read_runs([tmp_path / "runs"]))
    [shown], [other] = mini.samples, small.samples
    assert shown.asked.text == "image 14"
    assert shown.answers == (("zero-init, seed 0", "A mini picture."),)
    assert Image.open(BytesIO(shown.asked.png)).size == first.size
    assert other.asked == Asked("image 14")
    assert shown.asked.reference
    text = page_of(read_runs([tmp_path / "runs"]))
    assert text.count('<img class="sample"') == 1


def test_answers_to_the_world_s_instructions_stand_below_them(tmp_path: Path) -> None:
    asked = own_instructions("mini")
    for method in ("lora", "zero-init"):
        run = write_run(tmp_path, method, profile="mini", losses=[1, 2])
        write_predictions(run, [
            {"set": "alpaca", "id": asked[1].id, "decoding": "greedy", "output": f"By {method}."},
            {"set": "alpaca", "id": "1", "decoding": "greedy", "output": "Not shown."},
            {"set": "nine", "id": "list", "decoding": "greedy", "output": "Not shown."},
            {"set": "language", "id": asked[2].id, "loss": 1.0, "labels": 2},
        ])  # fmt: skip
    [part] = samples(read_runs([tmp_path]))
    [shown] = part.samples
    assert shown.asked == Asked(asked[1].instruction, asked[1].input, asked[1].reference or "?")
    assert [text for _, text in shown.answers] == ["By zero-init.", "By lora."]
    text = page_of(read_runs([tmp_path]))
    assert f"<summary>{asked[1].instruction}</summary>" in text
    assert f"<dd>{asked[1].reference}</dd>" in text
    assert "Not shown" not in text


def test_a_curve_is_thinned_by_means(tmp_path: Path) -> None:
    run = write_run(tmp_path, losses=[float(step) for step in range(1, 81)])
    data = re.search(r'id="data">(.*?)</script>', page_of(read_runs([tmp_path])), flags=re.DOTALL)
    curve = json.loads(data[1])["runs"][f"alpaca_llama/{run.name}"]["curves"]["training loss"]
    assert curve[:2] == [[1.5, 1.5], [3.5, 3.5]]
    assert curve[-1] == [79.5, 79.5]
    assert len(curve) == 40


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    first = write_report([runs_in(tmp_path / "runs")], tmp_path / "out").read_bytes()
    # The same runs, written in another order, elsewhere, and read in another environment.
    folders = [path for path in (tmp_path / "runs").glob("*/*") if path.is_dir()]
    random.Random(3).shuffle(folders)
    for folder in folders:
        shutil.copytree(folder, tmp_path / "elsewhere" / folder.relative_to(tmp_path / "runs"))
    program = (
        "import sys, pathlib; from experiments.report.html.report import write_report;"
        "write_report([pathlib.Path(sys.argv[1])], pathlib.Path(sys.argv[2]))"
    )
    environment = os.environ | {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[3])}
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "elsewhere"), str(tmp_path / "again")],
        env=environment,
        cwd=tmp_path,
        check=True,
    )
    assert (tmp_path / "again" / "report.html").read_bytes() == first


def test_a_damaged_log_is_named_or_left_out(tmp_path: Path) -> None:
    run = write_run(runs_in(tmp_path / "runs"), seed=5, losses=[1.0, 2.0])
    (run / "metrics.jsonl").write_text("{\n")
    with pytest.raises(ZiaError, match=rf"{run.name}/metrics\.jsonl, line 1"):
        write_report([tmp_path / "runs"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    page = write_report([tmp_path / "runs"], tmp_path / "out", keep_going=True).read_text()
    assert f"<li>alpaca_llama/{run.name}/metrics.jsonl, line 1" in page
    assert f'data-run="alpaca_llama/{run.name}"' not in page


def test_backticks_become_code_and_markup_does_not() -> None:
    assert code("use `a < b`, not <b>") == "use <code>a &lt; b</code>, not &lt;b&gt;"
    assert code("a ` alone") == "a ` alone"
