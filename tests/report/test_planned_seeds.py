"""How many seeds a table says are planned."""

from dataclasses import asdict

from experiments.alpaca_llama import plan
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
