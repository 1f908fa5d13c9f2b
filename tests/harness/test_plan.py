import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.cli import plan_table
from experiments.dispatch.in_process import run_one
from experiments.harness import plan, registry, stored
from experiments.harness.folder import RunFolder
from experiments.harness.registry import InvalidChoiceError
from tests.harness import toy
from zia_core.errors import ZiaError

find_experiments = registry.experiments


@pytest.fixture(autouse=True)
def _only_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "experiments", toy.only_toy)


def packages(root: Path, top: str, sources: dict[str, str | None]) -> None:
    for name, source in sources.items():
        folder = root / top / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
        if source is not None:
            (folder / "experiment.py").write_text(source)
    (root / top / "__init__.py").touch()


def test_the_registry_finds_every_package_with_an_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from tests.harness.toy import EXPERIMENT"
    packages(tmp_path, "some_experiments", {"toy": source, "harness": None, "report": None})
    packages(tmp_path, "misnamed_experiments", {"other": source})
    monkeypatch.syspath_prepend(tmp_path)
    assert find_experiments("some_experiments") == {"toy": toy.EXPERIMENT}
    with pytest.raises(ZiaError, match="an Experiment whose name is 'other'"):
        find_experiments("misnamed_experiments")
    with pytest.raises(ZiaError, match="two experiments toy, one in some_experiments"):
        find_experiments("tests.toys", "some_experiments")
    monkeypatch.setenv("ZIA_EXPERIMENTS", "tests.toys, nowhere")
    find_experiments.cache_clear()
    with pytest.raises(ZiaError, match="names 'nowhere', which is not a package"):
        find_experiments()
    monkeypatch.setenv("ZIA_EXPERIMENTS", "./mine")
    with pytest.raises(ZiaError, match=r"names '\./mine', which is not a package"):
        find_experiments()
    monkeypatch.setenv("ZIA_EXPERIMENTS", "tests.toys")
    find_experiments.cache_clear()
    assert {"alpaca_llama", "gated", "toy"} <= find_experiments().keys()
    find_experiments.cache_clear()


def test_planned_takes_one_experiment_or_all_that_have_the_profile() -> None:
    assert plan.planned(None, "small", "cpu") == toy.EXPERIMENT.plan("small", "cpu")
    assert plan.planned("toy", "mini", "cpu") == toy.EXPERIMENT.plan("mini", "cpu")
    with pytest.raises(InvalidChoiceError, match="choose from: mini, small"):
        plan.planned(None, "paper", "cpu")


def test_choose_takes_the_planned_run_that_fits() -> None:
    assert plan.choose("toy", "mini", "cpu", settings={}) == toy.spec()
    assert plan.choose("toy", "mini", "cpu", seed=1, settings={}) == toy.spec(seed=1)
    assert plan.choose("toy", "mini", "cpu", seed=9, settings={}) == toy.spec(seed=9)
    product = plan.choose("toy", "mini", "cpu", task="product", settings={"rate": "2"})
    assert product == toy.spec("add-twice", "product", rate=2.0)
    with pytest.raises(InvalidChoiceError, match="plans no run of that method and task"):
        plan.choose("toy", "mini", "cpu", task="product", method="add", settings={})


def test_choose_leaves_out_what_another_run_requires(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = replace(toy.EXPERIMENT, requires=lambda spec: [toy.spec()] if spec.seed == 1 else [])
    monkeypatch.setattr(registry, "experiments", lambda: {"toy": changed})
    assert plan.choose("toy", "mini", "cpu", method="add", settings={}) == toy.spec(seed=1)
    changed = replace(
        toy.EXPERIMENT,
        requires=lambda spec: [toy.spec(rate=0.1)] if spec.settings.rate == 0.5 else [],
        plan=lambda profile, device: [toy.spec(rate=0.1), toy.spec(seed=42)],
    )
    # A seed that only a required run has is a seed of the run that is reported.
    assert plan.choose("toy", "mini", "cpu", seed=0, settings={}) == toy.spec(seed=0)


def test_a_large_plan_has_a_line_for_each_method_and_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run_one(toy.spec(), tmp_path)
    specs = [toy.spec(seed=seed) for seed in range(70)] + [toy.spec("add-twice", "product")]
    runs = [plan.inspect(spec, tmp_path) for spec in specs]
    plan_table.show(runs)
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("add")]
    assert len(lines) == 2
    assert lines[0].split()[:4] == ["add", "sum", "1", "69"]
    assert "71 planned: 1 done, 70 missing; 0:15:00 to go, one after another" in printed
    assert max(map(len, printed.splitlines())) <= 80
    plan_table.show(runs, every_run=True)
    assert capsys.readouterr().out.count("add sum s") == 70


def test_inspect_tells_the_states_apart(tmp_path: Path) -> None:
    def state(**settings: object) -> str:
        return plan.inspect(toy.spec(**settings), tmp_path).state

    for changes in ({}, {"stop_at": 3}, {"fail": "error"}):
        assert state(**changes) == "missing"
        run_one(toy.spec(**changes), tmp_path)
    assert state() == "done"
    assert state(stop_at=3) == "preempted"
    assert state(fail="error") == "failed"
    assert plan.inspect(toy.spec(fail="error"), tmp_path).reason == "record 17 has no output"

    # Said to be done, but with a result that is none: it is to be run again.
    (tmp_path / "toy" / toy.spec().folder_name / stored.RESULT).write_text('{"score": "high"}')
    assert state() == "invalid"

    folder = RunFolder.claim(tmp_path, toy.spec(seed=5), toy.EXPERIMENT.result_fields)
    assert folder is not None
    with folder:
        assert state(seed=5) == "running"
    assert state(seed=5) == "interrupted"


def test_device_auto_asks_torch_only_where_there_is_a_gpu(repository: Path) -> None:
    program = (
        "import sys\nfrom experiments.harness import plan\n"
        "plan._shows_gpu = lambda: False\n"
        "print(plan.resolve_device('auto'), plan.resolve_device('cpu'), 'torch' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], cwd=repository, capture_output=True, text=True
    ).stdout
    assert out == "cpu cpu False\n"


@pytest.mark.parametrize("there", [True, False])
def test_device_is_what_torch_finds(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(plan, "_shows_gpu", lambda: True)
    assert plan.resolve_device("auto") == ("cuda" if there else "cpu")
    assert plan.resolve_device("cpu") == "cpu"
    if there:
        assert plan.resolve_device("cuda") == "cuda"
    else:
        with pytest.raises(ZiaError, match="torch finds no GPU here; use --device cpu"):
            plan.resolve_device("cuda")
