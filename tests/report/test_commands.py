"""The commands `zia tables`, `zia figures`, `zia claims` and `zia report`."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.harness import seal
from tests.report.run_folders import write_squad

Zia = Callable[..., tuple[int, str, str]]


@pytest.fixture
def zia(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Zia:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zia", *arguments])
        with pytest.raises(SystemExit) as end:
            main.main()
        return int(end.value.code or 0), *capsys.readouterr()

    return call


def test_a_damaged_run_is_named_and_can_be_left_out(zia: Zia) -> None:
    write_squad(Path("runs"), "lora", "squad-v1.1", 0, 50)
    damaged = write_squad(Path("runs"), "lora", "squad-v1.1", 1, 60)
    (damaged / "result.json").write_text("")
    for command in ("tables", "figures", "claims", "report"):
        code, out, err = zia(command, "--runs", "runs")
        assert (code, out) == (1, "")
        assert err.startswith(f"zia: {damaged}/result.json is not valid JSON")
        assert not Path("results").exists()

    code, out, _ = zia("tables", "--runs", "runs", "--keep-going")
    assert code == 0
    assert "results/fresh/tables/squad.md" in out.splitlines()
    assert "| lora | ours | 50.0 (1) |" in Path("results/fresh/tables/squad.md").read_text()

    code, out, _ = zia("figures", "--runs", "runs", "--keep-going")
    assert code == 0
    assert "results/fresh/figures/paper-loss-curves.png" in out.splitlines()
    assert out.splitlines()[-1].startswith(f"left out, because damaged: {damaged.parent.name}/")

    code, out, _ = zia("claims", "--runs", "runs", "--keep-going")
    assert code == 0
    assert out.splitlines()[-1] == "results/fresh/tables/claims.md"
    assert "  holds: The adapter of LLaMA-7B has 1.2M parameters." in out

    code, out, _ = zia("report", "--runs", "runs", "--keep-going")
    assert (code, out) == (0, "results/fresh/report.html\n")
    page = Path("results/fresh/report.html").read_text()
    assert f"<li>squad_roberta/{damaged.name}/result.json is not valid JSON" in page


@pytest.mark.parametrize("name", ["config.json", "environment.json", "result.json", "more.jsonl"])
def test_a_run_that_is_not_as_it_was_sealed_is_named(zia: Zia, name: str) -> None:
    write_squad(Path("runs"), "lora", "squad-v1.1", 0, 50)
    edited = write_squad(Path("runs"), "lora", "squad-v1.1", 1, 60)
    (edited / "more.jsonl").write_text("{}")
    for run in edited.parent.iterdir():
        seal.write(run)
    assert zia("claims", "--runs", "runs")[::2] == (0, "")
    (edited / name).write_text(f" {(edited / name).read_text()}")
    shutil.rmtree("results")
    Path("README.md").write_text("<!-- zia readme: table squad small 1 -->\n<!-- end -->\n")
    for command in ("tables", "figures", "claims", "report", "readme"):
        code, out, err = zia(command, "--runs", "runs")
        assert (code, out) == (1, "")
        assert err.startswith(f"zia: {edited / name} was changed since the run was done")
        assert not Path("results").exists()
    assert zia("tables", "--runs", "runs", "--keep-going")[0] == 0
    table = Path("results/fresh/tables/squad.md").read_text()
    assert "| lora | ours | 50.0 (1) |" in table
    assert f"squad_roberta/{edited.name}/{name} was changed" in table


def test_runs_older_than_seals_are_taken_with_a_remark(zia: Zia) -> None:
    write_squad(Path("older"), "lora", "squad-v1.1", 0, 50)
    remark = "finished runs in older that are not sealed: 1; `zia verify --seal DIR` checks and"
    code, _, err = zia("report", "--runs", "older")
    assert code == 0
    assert err.startswith(remark)
    assert len(err.splitlines()) == 1


def test_a_cell_is_explained_and_nothing_written(zia: Zia) -> None:
    run = write_squad(Path("runs"), "lora", "squad-v1.1", 0, 50)
    code, out, _ = zia("tables", "--runs", "runs", "--explain", "squad", "lora", "1.1 EM")
    assert code == 0
    assert out.splitlines()[1] == f"  squad-v1.1, seed 0: done, 50 %, {run.name}"
    assert not Path("results").exists()
    code, _, err = zia("tables", "--runs", "runs", "--explain", "squad", "lora", "EM")
    assert code == 2
    assert "choose from: 1.1 EM, 1.1 F1" in err


def test_only_published_runs_write_beside_them(zia: Zia) -> None:
    """Trial runs do not overwrite committed results."""
    runs = {"published": Path("results/published"), "fresh": Path("runs")}
    for root in runs.values():
        write_squad(root, "lora", "squad-v1.1", 0, 50)
    for command in ("tables", "figures", "claims", "report"):
        assert zia(command, "--runs", "runs")[0] == 0
    assert {path.name for path in Path("results").iterdir()} == {"published", "fresh"}
    fresh = {path.name for path in Path("results/fresh").iterdir()}
    assert fresh == {"tables", "figures", "report.html"}
    for command in ("tables", "figures", "claims", "report"):
        assert zia(command, "--runs", "results/published")[0] == 0
    assert {path.name for path in Path("results").iterdir()} == {"published", "fresh", *fresh}
