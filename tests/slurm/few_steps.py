"""The five experiments at a few steps: what is left of `mini` where a grid is to be disturbed."""

from dataclasses import replace
from typing import Any

from experiments.alpaca_llama.experiment import EXPERIMENT as ALPACA_LLAMA
from experiments.coco_caption.experiment import EXPERIMENT as COCO_CAPTION
from experiments.harness.spec import RunSpec
from experiments.scienceqa.experiment import EXPERIMENT as SCIENCEQA
from experiments.squad_roberta.experiment import EXPERIMENT as SQUAD_ROBERTA
from experiments.training.selection import shortened
from experiments.vtab_vit.experiment import EXPERIMENT as VTAB_VIT

PROFILE, METHOD, SEEDS = "mini", "zero-init", 2
EXPERIMENTS = (ALPACA_LLAMA, COCO_CAPTION, SCIENCEQA, SQUAD_ROBERTA, VTAB_VIT)
# 60 to 150 steps each, seconds of a core: status.json says every 2 seconds how far a run is.
# Those of `vtab_vit` have no checkpoint before their end.
EPOCHS = {
    "alpaca_llama": 1.0,
    "coco_caption": 0.6,
    "scienceqa": 0.6,
    "squad_roberta": 0.75,
    "vtab_vit": 0.5,
}
_PLANS = {each.name: each.plan for each in EXPERIMENTS}  # as they are before anybody changes them


def plan() -> list[RunSpec]:
    """The runs of all five, in the order in which they are worked off."""
    return [spec for name in EPOCHS for spec in few(name)]


def few(experiment: str) -> list[RunSpec]:
    """The first zero-init runs that report a score, of one task, at a given rate and short."""
    planned = [spec for spec in _PLANS[experiment](PROFILE, "cpu") if spec.method == METHOD]
    final = [spec for spec in planned if spec.settings.phase == "final"]
    return [_short(spec) for spec in final if spec.task == final[0].task][:SEEDS]


def _short(spec: RunSpec) -> RunSpec:
    """The run with the second of its candidates, so that it needs no run that chooses one."""
    chosen = spec.settings.candidates[1]
    changes: dict[str, Any] = shortened(spec.settings, EPOCHS[spec.experiment])
    if isinstance(chosen, tuple):
        changes["peak_lr"], changes["weight_decay"] = chosen
    else:
        changes["peak_lr"] = chosen
    return replace(spec, settings=replace(spec.settings, candidates=(), **changes))
