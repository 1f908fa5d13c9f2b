"""Runs use the device of `--device`; a missing one is one sentence."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import typer

from experiments.cli import main, plan_table
from experiments.dispatch import in_process
from experiments.harness import plan, registry, stored, unpacking
from experiments.harness.archive import Archive
from zia_core.errors import ZiaError

PAPER = ("alpaca_llama", "coco_caption", "scienceqa", "squad_roberta", "vtab_vit")
PROFILES = [
    (experiment.name, profile)
    for experiment in registry.experiments().values()
    for profile in experiment.profiles
]
Zia = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def zia(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Zia:
    """`zia("run toy")` in an empty folder, without data: exit code, stdout, stderr.

    Words beside the line may have spaces.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("ZIA_DATA", raising=False)
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))

    def call(line: str, *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zia", *line.split(), *words])
        with pytest.raises(SystemExit) as end:
            main.main()
        return (int(end.value.code or 0), *capfd.readouterr())

    return call


def placed(settings: object) -> set[str]:
    return {
        value
        for name, value in asdict(settings).items()  # type: ignore[call-overload]
        if name.endswith("device")
    }


@pytest.mark.parametrize(("experiment", "profile"), PROFILES)
def test_on_a_cpu_nothing_of_a_plan_is_left_to_a_gpu(experiment: str, profile: str) -> None:
    specs = plan.with_requirements(plan.planned(experiment, profile, "cpu"))
    assert {place for spec in specs for place in placed(spec.settings)} == {"cpu"}
    # Runs on a CPU that were planned as such keep their identity, and with it their folder.
    planned = registry.get(experiment).plan(profile, "cpu")
    if profile != "paper":
        assert plan.planned(experiment, profile, "cpu") == planned


def test_cost_estimates_depend_on_the_device() -> None:
    for experiment in PAPER:
        owner = registry.get(experiment)
        for spec in plan.planned(experiment, "paper", "cpu"):
            assert owner.estimate(spec).hours is None


@pytest.mark.parametrize("experiment", PAPER)
def test_run_honours_the_cpu(zia: Zia, experiment: str) -> None:
    code, _, err = zia(f"run {experiment} --profile paper --device cpu")
    assert code == 1
    assert "Traceback" not in err
    assert err.startswith("failed: no "), err  # data or weights: they are not here
    made = [json.loads(path.read_text()) for path in Path("results").rglob(stored.CONFIG)]
    assert made
    assert {made_of["settings"]["device"] for made_of in made} == {"cpu"}


@pytest.mark.parametrize(
    "line",
    [
        "run alpaca_llama --profile paper",
        "run vtab_vit --profile paper --device auto",
        "reproduce --profile paper",
        "reproduce squad_roberta --profile paper --executor inprocess",
        "worker all --profile paper",
    ],
)
def test_runs_for_a_gpu_are_not_moved_to_a_cpu_unasked(zia: Zia, line: str) -> None:
    code, out, err = zia(line)
    assert (code, out) == (1, "")
    assert err == (
        "zia: the runs of the profile paper are for a GPU, and torch finds none here; use "
        "--device cpu to do them on the CPU, however long that takes\n"
    )
    assert not Path("results").exists()


@pytest.mark.parametrize(
    "line",
    [
        "run alpaca_llama --profile paper --device cuda",
        "run alpaca_llama --set device=cuda",
        "run scienceqa --device cpu --set encoder_device=cuda",
        "pretrain llama --device cuda",
        "reproduce --device cuda",
        "worker all --device cuda",
        'bench train_step --shape {"device":"cuda"}',
        "bench llama7b",
    ],
)
def test_a_gpu_that_is_not_there_is_one_sentence(zia: Zia, line: str) -> None:
    code, out, err = zia(line)
    assert (code, out) == (1, "")
    assert err.startswith("zia: device cuda: torch finds no ")
    assert err.count("\n") == 1
    assert not Path("results").exists()


def test_generate_says_so_too(zia: Zia, repository: Path, tmp_path: Path) -> None:
    published = Archive(repository / "results/published/alpaca_llama-mini.zip")
    run = unpacking.unpack(published.runs[0], tmp_path / "unpacked")
    code, _, err = zia("generate --device cuda", str(run), "Hello")
    assert (code, err) == (1, "zia: device cuda: torch finds no GPU here; use --device cpu\n")


def test_a_run_whose_gpu_has_gone_fails_with_a_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = plan.planned("alpaca_llama", "mini", "cpu")[0]
    spec = replace(spec, settings=replace(spec.settings, device="cuda"))
    outcome = in_process.run_one(spec, tmp_path)
    assert (outcome.state, outcome.reason) == (
        "failed",
        "device cuda: torch finds no GPU here; use --device cpu",
    )
    assert capfd.readouterr() == ("", "")


def test_a_plan_for_a_gpu_can_be_looked_at_anywhere(zia: Zia) -> None:
    for device in ("auto", "cuda"):
        code, out, _ = zia(f"plan alpaca_llama --profile paper --device {device}")
        assert code == 0
        assert plan.planned("alpaca_llama", "paper", "cuda")[0].identity[:8] in out
        assert "time and GB: 312 TFLOP/s (a100), 31 % used" in out
    _, out, _ = zia("plan alpaca_llama --profile paper --device cpu")
    assert plan.planned("alpaca_llama", "paper", "cpu")[0].identity[:8] in out
    assert "time and GB: not measured" in out


@pytest.mark.parametrize("every_run", [False, True])
@pytest.mark.parametrize(("experiment", "profile"), PROFILES)
def test_a_plan_has_one_whole_line_a_row_at_80_columns(
    experiment: str,
    profile: str,
    every_run: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    specs = plan.planned(experiment, profile, "cuda")
    runs = [plan.inspect(spec, tmp_path) for spec in specs]
    plan_table.show(runs, every_run=every_run)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    by_run = every_run or len(runs) <= plan_table.LISTED
    expected = len(specs) if by_run else len({(spec.method, spec.task) for spec in specs})
    rule = next(i for i, line in enumerate(lines) if line.startswith("─"))
    end = next(i for i, line in enumerate(lines) if line.startswith("time and GB: "))
    rows = lines[rule + 1 : end]
    assert len(rows) == expected
    cells = len(lines[rule - 1].split())
    assert all(len(row.rsplit(maxsplit=cells - 1)) == cells for row in rows)


@pytest.mark.parametrize("group", [main.app, main.score, main.dispatch.retry_app])
def test_help_is_whole_at_80_columns(
    group: typer.Typer, zia: Zia, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {main.app: "", main.score: "score", main.dispatch.retry_app: "retry"}
    _, out, _ = zia(f"{names[group]} --help")
    listed = out.partition("Commands:")[2].partition("\n\n")[0]
    assert listed
    assert "..." not in listed  # a sentence that is cut says nothing
    commands = [line.split()[0] for line in listed.splitlines() if re.match(r"  \w", line)]
    assert len(commands) == len(group.registered_commands) + len(group.registered_groups)
    for command in commands:
        code, out, _ = zia(f"{names[group]} {command} --help")
        assert code == 0
        assert max(map(len, out.splitlines())) <= 80


def test_list_fits_80_columns(zia: Zia) -> None:
    code, out, _ = zia("list")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    words = set(out.replace(",", " ").split())
    for experiment in registry.experiments().values():
        named = (*experiment.tasks, *experiment.methods, *experiment.profiles)
        assert words >= {experiment.name, *named}


def test_retry_of_nothing_says_so(zia: Zia) -> None:
    assert zia("retry failed")[1] == "no run in results/runs has failed\n"
    said = "no run in results/runs has failed with 'Memory' in its reason\n"
    assert zia("retry failed --reason Memory")[1] == said


def test_resolve_names_the_choices() -> None:
    with pytest.raises(ZiaError, match="choose from: auto, cpu, cuda"):
        plan.device_of("tpu", None, "paper")
