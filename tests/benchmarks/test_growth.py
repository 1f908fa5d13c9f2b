"""The plot of growing costs, and the folders on which the harness is measured."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import goals, growth, many_runs
from benchmarks.harness import toy_is_known
from benchmarks.toys.nothing.experiment import spec
from experiments.dispatch import in_process
from experiments.dispatch.stop_signals import StopSignals
from experiments.dispatch.worker import Worker
from experiments.harness import verify
from experiments.harness.folder import RunFolder
from zia_core.errors import ZiaError


def result(**parts: dict[str, dict[str, float]]) -> dict[str, Any]:
    titles = {name.replace("_", " "): points for name, points in parts.items()}
    return {
        "parts": {f"{growth.GROWS}{title}": {"figures": of} for title, of in titles.items()}
        | {"a step": {"figures": {"1": {"floor, ms": 1.0}}}}
    }


def quadratic(values: list[int]) -> dict[str, dict[str, float]]:
    return {str(n): {"CPU seconds": 1e-3 * n * n, "seconds": 1.0} for n in values}


def test_curves_are_the_drawn_columns_of_the_growing_tables() -> None:
    step = {"floor, ms": 2.0, "time / floor": 1.1, "floor, kept bytes": float(2**20)}
    points = {"100": {name: 10 * value for name, value in step.items()}, "10": step}
    found = list(growth.curves(result(batch=points) | {}))
    assert [(curve.name, curve.x, curve.y) for curve in found] == [
        ("floor", "batch", "ms a step"),
        ("floor", "batch", "MiB kept for backward"),
    ]
    assert [curve.points for curve in found] == [((10, 2), (100, 20)), ((10, 1), (100, 10))]
    assert [curve.exponent for curve in found] == pytest.approx([1, 1])


def test_a_command_that_grows_with_the_square_misses_its_goal() -> None:
    made = result(**{"runs (plan)": quadratic([10, 100, 1000])})
    [curve] = growth.curves(made)
    assert (curve.name, curve.x, curve.y) == ("plan", "runs", "CPU seconds")
    assert goals._steepest(made) == pytest.approx(2.0)


def test_the_picture_is_drawn_again_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = result(**{"runs (plan)": quadratic([10, 100]), "runs (status)": quadratic([10, 100])})
    (tmp_path / "many_runs-cpu.json").write_text(json.dumps(stored))
    pictures = []
    for out in (tmp_path, tmp_path / "made" / "here"):
        monkeypatch.setattr("sys.argv", ["growth", str(tmp_path), "--out", str(out)])
        growth.main()
        pictures.append((out / "growth-cpu.png").read_bytes())
        assert "CPU seconds of plan: as runs to the power of 2.00" in capsys.readouterr().out
    assert pictures[0] == pictures[1]
    assert pictures[0].startswith(b"\x89PNG")
    assert not list(tmp_path.rglob("*cuda*"))


@pytest.mark.parametrize("content", ["{}", '{"parts": {"as it grows: x": {}}}', "[]"])
def test_a_damaged_result_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    (tmp_path / "scale-cpu.json").write_text(content)
    monkeypatch.setattr("sys.argv", ["growth", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"growth: .*scale-cpu\.json"):
        growth.main()


def test_without_results_it_says_what_makes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["growth", str(tmp_path)])
    with pytest.raises(SystemExit, match="zia bench makes them"):
        growth.main()


def test_copies_are_whole_runs_of_their_own(tmp_path: Path) -> None:
    with toy_is_known():
        specs = [spec(seed, many_runs.TRAINED) for seed in range(3)]
        in_process.run_one(specs[0], tmp_path / "first")
        many_runs._copies([tmp_path / "first" / many_runs.name_of(specs[0])], specs, tmp_path / "r")
        findings = verify.verify(tmp_path / "r")
    assert {finding.run for finding in findings} == {many_runs.name_of(one) for one in specs}
    assert {finding.outcome for finding in findings if finding.check != "adapter"} == {"ok"}


def test_a_run_done_twice_is_no_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, but one run of the shared folder was attempted before."""
    with toy_is_known():
        one = spec(0, many_runs.Settings())
        folder = RunFolder.claim(tmp_path / "runs", one, {"steps": int})
        assert folder is not None
        with folder:
            folder.set_status("preempted", "tried")
        with pytest.raises(ZiaError, match="2 workers did 2 of 2 runs"):
            many_runs._shared(tmp_path, 2, 2)
        # Otherwise, every run is done once.
        assert many_runs._shared(tmp_path / "fresh", 3, 2)["runs done twice"] == 0


def test_an_idle_worker_s_cost_is_measured_on_runs_that_are_done(tmp_path: Path) -> None:
    with toy_is_known():
        specs = [spec(seed, many_runs.Settings()) for seed in range(2)]
        for one in specs:
            in_process.run_one(one, tmp_path)
        assert Worker(tmp_path, StopSignals()).work(specs).done_here == 0
