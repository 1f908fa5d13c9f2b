"""Numbers that people typed: those of runs are made, and those of plans are what plans count."""

import json
import re
from pathlib import Path

import pytest
import typer

from experiments.cli.main import app
from experiments.harness import plan, registry
from experiments.harness.rehearsal import profile_of
from experiments.harness.stage import Stage
from experiments.report.readme import BEGIN, END
from experiments.report.stages import cpu_hours, to_do

BLOCK = re.compile(f"{BEGIN.pattern}.*?{END}", re.DOTALL)
IGNORED = re.compile(r"`[^`]*`|\]\([^)]*\)|\bv[12]\.\d\b|N\(0, 1\)|95 %")
RESULT = re.compile(r"\d+\.\d+|\d ?%|[+±]\s?\d|\d (?:points|nats)\b")
TIME = re.compile(r"(?:\d+|half|an?) (?:seconds?|minutes?|hours?)\b")


def results_in(text: str) -> str:
    """The sections about results, without what is made, code, addresses and names."""
    sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    about = [one for one in sections if re.match(r"## (?:Results|What was found|`)", one)]
    return IGNORED.sub("", BLOCK.sub("", "".join(about)))


def test_no_result_is_typed(repository: Path) -> None:
    """A number of runs, in a section about results, is in a block of `zia readme`."""
    names = [f"experiments/{name}/README.md" for name in registry.experiments()]
    paths = [repository / name for name in ("README.md", "results/README.md", *names)]
    typed = {path: results_in(path.read_text("utf-8")) for path in paths if path.exists()}
    assert sum(map(bool, typed.values())) == 7
    assert {
        str(path.relative_to(repository)): found
        for path, text in typed.items()
        if (found := RESULT.findall(text))
    } == {}


def test_a_typed_result_is_found() -> None:
    made = f"<!-- zia readme: table squad mini 1 -->\n| 1.5 |\n{END}"
    fine = "## Results: `mini`\n\nSQuAD v1.1, the 95 % interval, 1,000 questions, `a 2.5`.\n"
    assert RESULT.findall(results_in(f"{fine}{made}## Choices\n\n2.5 epochs\n")) == []
    for typed in ("LoRA has 26.7", "fell by 19 %", "ahead by +3", "3 points", "40 ± 2"):
        assert RESULT.findall(results_in(f"{fine}{typed}\n{made}"))


def test_documents_count_the_runs_of_mini_as_the_plan_does(repository: Path) -> None:
    specs = plan.planned(None, "mini", "cpu")
    contributing = (repository / "CONTRIBUTING.md").read_text("utf-8")
    assert f"# {len(specs)} planned: {len(specs)} done:" in contributing
    first, captions = (
        to_do(Stage("first"), plan.planned(e, "mini", "cpu")) for e in (None, "coco_caption")
    )
    assert f"# {len(first)} of {len(first)} runs are as published" in contributing
    assert f"# {len(captions)} of {len(captions)} runs are as published" in contributing
    assert f"`mini` ({len(specs)})" in (repository / "CHANGELOG.md").read_text("utf-8")


def test_the_rehearsal_counts_its_runs(repository: Path) -> None:
    runs = plan.with_requirements(plan.planned(None, profile_of("paper"), "cuda"))
    text = (repository / "experiments/rehearsal/README.md").read_text("utf-8")
    assert f"All of `paper`, {len(runs)} runs" in text


@pytest.mark.parametrize("file", ["README.md", "results/README.md"])
def test_the_first_stage_fits_into_the_minutes_that_it_promises(
    repository: Path, file: str
) -> None:
    text = " ".join((repository / file).read_text("utf-8").split())
    [minutes] = re.findall(r"about (\d+) minutes (?:on 2|of two idle) cores", text)
    planned = 60 * cpu_hours(to_do(Stage("first"), plan.planned(None, "mini", "cpu"))) / 2
    assert 0.8 * int(minutes) < planned < int(minutes)


def test_no_help_text_promises_a_time() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    told = {name: TIME.findall(command.help or "") for name, command in commands.items()}
    assert len(told) > 15
    assert {name: times for name, times in told.items() if times} == {}


def test_the_small_vit_s_accuracy_is_that_of_its_card(repository: Path) -> None:
    card = json.loads(
        (repository / "experiments/backbones/released/small-vit/card.json").read_text()
    )
    text = (repository / "experiments/pretrain/vit/README.md").read_text("utf-8")
    assert f"**{100 * card['test_accuracy']:.2f} % on the test set**" in text
