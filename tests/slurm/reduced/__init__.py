"""For `$ZIA_EXPERIMENTS`: the five experiments as they are, but for a `mini` of a few steps.

The harness refuses two experiments of one name. So whoever looks for experiments imports this, and
those that are there have another plan from then on: in that process, which is never the tests' own.
"""

from collections.abc import Callable

from experiments.harness.spec import RunSpec
from tests.slurm import few_steps

Plan = Callable[[str, str], list[RunSpec]]


def _with_few(name: str, before: Plan) -> Plan:
    def plan(profile: str, device: str) -> list[RunSpec]:
        return few_steps.few(name) if profile == few_steps.PROFILE else before(profile, device)

    return plan


for _each in few_steps.EXPERIMENTS:
    object.__setattr__(_each, "plan", _with_few(_each.name, _each.plan))
