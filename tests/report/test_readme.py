"""Blocks of READMEs that are made from run folders."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.harness import plan
from experiments.harness.stage import is_choice, is_later
from experiments.report.document import markdown
from experiments.report.readme import END, filled, marked, update
from experiments.report.runs import read_runs
from experiments.report.tables.write import document
from tests.report.run_folders import write_run, write_squad
from zia_core.errors import ZiaError


def block(what: str, inside: str = "") -> str:
    return f"<!-- zia readme: {what} -->\n{inside}{END}"


def test_blocks_are_replaced_and_nothing_else(tmp_path: Path) -> None:
    for method in ("lora", "zero-init"):
        result = {"tuned_parameters": {"lora": 9, "zero-init": 8}[method]}
        write_squad(tmp_path / "runs", method, "squad-v1.1", 0, 50, result=result)
    old = block("table squad small 1", "old\n")
    text = f"# Title\n\n{old}\nText.\n{block('findings squad_roberta')}end"
    readme = tmp_path / "README.md"
    readme.write_text(text)
    assert update([readme], [tmp_path / "runs"]) == [readme]
    made = readme.read_text()
    assert made.startswith("# Title\n\n<!-- zia readme: table squad small 1 -->\n| method |")
    assert "\n| lora | ours | 50.0 (1) | 60.0 (1) | not planned | not planned |\n" in made
    assert "old" not in made
    assert f"{END}\nText.\n<!-- zia readme: findings squad_roberta -->\n| claim | `small` |" in made
    told = "⬜ **inconclusive**: v1.1 F1: +0.0 points (1 seed, 5 needed)"
    assert f"\n| As good as LoRA: SQuAD | {told} |\n" in made
    assert "no runs" not in made
    assert made.endswith(f"{END}end")
    assert update([readme], [tmp_path / "runs"]) == []
    # Another profile has none of these runs.
    readme.write_text(block("table squad paper 1"))
    update([readme], [tmp_path / "runs"])
    assert readme.read_text() == block("table squad paper 1", "No runs yet.\n")


def test_what_a_later_stage_has_is_not_missing(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(block("table squad mini 1"))
    mini = {"profile": "mini", "backbone": "pocket-roberta"}
    write_squad(tmp_path / "runs", "full", "squad-v1.1", 0, 50, **mini)
    update([readme], [tmp_path / "runs"])
    assert "\n| full | ours | 50.0 (1) | 60.0 (1) | later | later |\n" in readme.read_text()
    assert (
        "\n| lora | ours | missing | missing | not planned | not planned |\n" in readme.read_text()
    )
    made = markdown(document("squad", read_runs([tmp_path / "runs"])))
    assert "- later: not in the first stage; `make reproduce SEEDS=all` does it.\n" in made


def test_verdicts_of_all_profiles_are_side_by_side(tmp_path: Path) -> None:
    for profile in ("mini", "small"):
        for seed in range(5):
            for method, score in (("lora", 50), ("zero-init", 60)):
                if (profile, method) != ("small", "lora"):
                    result = {"tuned_parameters": {"lora": 9, "zero-init": 8}[method]}
                    write_squad(
                        tmp_path / "runs",
                        method,
                        "squad-v1.1",
                        seed,
                        score + seed,
                        profile=profile,
                        result=result,
                    )
    readme = tmp_path / "README.md"
    readme.write_text(block("findings squad_roberta") + block("decided"))
    update([readme], [tmp_path / "runs"])
    made = readme.read_text()
    assert "\n| claim | `mini` | `small` |\n| --- | --- | --- |\n" in made
    told = "✅ **holds**: v1.1 F1: +10.0 [+10.0, +10.0] points; 8 against 9 parameters"
    assert f"\n| As good as LoRA: SQuAD | {told} | - |\n" in made
    assert "1.2M parameters" not in made  # arithmetic needs no runs
    assert (
        "\nmini decides 1 of 24 claims: 1 holds, 0 do not hold, 0 level; small decides 0 of" in made
    )
    readme.write_text(block("findings squad_roberta") + block("decided"))
    update([readme], [tmp_path / "none"])
    nothing = "No runs yet.\n"
    assert readme.read_text() == block("findings squad_roberta", nothing) + block(
        "decided", nothing
    )


def test_differences_of_all_profiles_are_side_by_side(tmp_path: Path) -> None:
    for seed in range(5):
        for method, score in (("zero-init", 0.5), ("lora", 0.5), ("zero-init-text", 0.2)):
            for task, profile in (("coco", "mini"), ("flickr8k", "small")):
                if (method, profile) != ("lora", "small"):
                    changes = {"experiment": "coco_caption", "task": task, "profile": profile}
                    result = {"ROUGE_L": score + 0.01 * (seed % 2) * (method == "lora")}
                    write_run(tmp_path / "runs", method, seed, result=result, **changes)
    readme = tmp_path / "README.md"
    readme.write_text(block("pairs ROUGE-L coco flickr8k"))
    update([readme], [tmp_path / "runs"])
    ahead = "+30.0 [+30.0, +30.0] ahead"
    assert readme.read_text() == block(
        "pairs ROUGE-L coco flickr8k",
        "| ROUGE-L | `mini` | `small` |\n| --- | --- | --- |\n"
        f"| zero-init minus zero-init-text | {ahead} | {ahead} |\n"
        "| zero-init minus lora | -0.4 [-1.1, +0.3] level | - |\n",
    )


def test_only_our_own_readmes_with_blocks_are_filled_by_default(tmp_path: Path) -> None:
    for folder in (".", "experiments/squad", "experiments/a/b", "results", ".venv/lib", "tests"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "README.md").write_text(block("decided"))
    (tmp_path / "experiments/README.md").write_text("no block")
    assert [str(path.relative_to(tmp_path)) for path in marked(tmp_path)] == [
        "README.md",
        "experiments/a/b/README.md",
        "experiments/squad/README.md",
        "results/README.md",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("<!-- zia readme: decided -->\n", "'decided' is not closed"),
        (f"<!-- zia readme: table a -->\n{block('decided')}", "'table a' is not closed"),
        (block("table squads small 1"), "made: .*'squads'.*choose from: efficiency"),
        (block("table squad small 7"), "made: .*'7'.*choose from: 1, 2"),
        (block("table squad small"), "made: .*missing 1 required"),
        (
            block("graph squad"),
            "made: .*'graph'.*choose from: table, pairs, decided, findings, stages",
        ),
    ],
)
def test_a_block_that_cannot_be_made_is_named_and_nothing_written(
    tmp_path: Path, text: str, sentence: str
) -> None:
    write_squad(tmp_path / "runs", "lora", "squad-v1.1", 0, 50)
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    good.write_text(block("table squad small 1"))
    bad.write_text(text)
    with pytest.raises(ZiaError, match=sentence) as error:
        update([good, bad], [tmp_path / "runs"])
    assert str(error.value).startswith(f"{bad}: the block ")
    assert good.read_text() == block("table squad small 1")


def test_the_stages_of_a_profile_are_counted(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(block("stages mini"))
    update([readme], [tmp_path / "none"])
    lines = readme.read_text().splitlines()
    specs = plan.planned(None, "mini", "cpu")
    finals = [spec for spec in specs if not is_choice(spec)]
    firsts = {replace(spec, seed=0).identity for spec in finals if not is_later(spec)}
    assert lines[1] == "| command | runs | CPU time |"
    assert [line.rpartition(" | ")[0] for line in lines[3:-1]] == [
        f"| `make reproduce` | {len(firsts)}",
        f"| `make reproduce SEEDS=all` | {len(finals)}",
        f"| `make reproduce SEEDS=all RESELECT=1` | {len(specs):,}",
    ]
    assert re.search(r"\| \d\d min \|$", lines[3])
    assert re.search(r"\| \d+ h \d+ min \|$", lines[5])


def test_the_blocks_of_our_readmes_are_current(repository: Path) -> None:
    """If not: `make tables`."""
    files = [(path, path.read_text()) for path in marked(repository)]
    assert repository / "README.md" in dict(files)
    runs = read_runs([repository / "results/published"])
    assert filled(files, runs) == [text for _, text in files]
