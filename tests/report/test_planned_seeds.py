"""How many seeds a table says are planned."""

from dataclasses import asdict, replace

from experiments.alpaca_llama import plan
from experiments.harness import registry
from experiments.harness.spec import RunSpec
from experiments.report.planned_seeds import Plans
from experiments.report.run import Run


def done(spec: RunSpec) -> Run:
    fields = asdict(spec) | {"settings": asdict(spec.settings)}
    return Run(**fields, state="done", reason="", hardware="", folder="", result={})


def test_a_run_in_shards_is_one_of_those_that_larger_jobs_have_planned() -> None:
    planned = plan.plan("paper", "cuda")
    full = [spec for spec in planned if plan.in_shards(spec)]
    others = [spec for spec in planned if not plan.in_shards(spec)]
    plans = Plans()
    assert plans.seeds(done(full[0])) == len(full) > 0
    assert plans.seeds(done(others[0])) == 3
    # A table of smaller jobs does not say that it is missing.
    assert plans.leaves_out(done(others[0]), "full", ["instruct"])


def test_a_line_is_later_if_the_first_stage_has_none_of_its_runs() -> None:
    def run_of(experiment: str, task: str) -> Run:
        specs = registry.get(experiment).plan("mini", "cpu")
        return done(next(spec for spec in specs if spec.task == task))

    plans = Plans()
    squad, main = run_of("squad_roberta", "squad-v1.1"), run_of("scienceqa", "qcm-a")
    assert plans.later(squad, "full", ["squad-v2.0"])
    assert not plans.later(squad, "full", ["squad-v1.1", "squad-v2.0"])
    assert not plans.later(squad, "prompt-tuning", ["squad-v2.0"])  # not planned at all
    assert not plans.later(replace(squad, profile="small"), "full", [])
    by_epochs = registry.get("scienceqa").report.lines["epochs"]  # type: ignore[union-attr]
    for epochs, later in ((15, False), (60, True), (120, True)):
        line = f"zero-init, as for {epochs} epochs"
        assert plans.later(main, line, ["ablation"], by_epochs) is later
