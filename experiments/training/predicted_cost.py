"""Hours and memory of a run, from the FLOPs and bytes of its largest micro-batch.

Computing those takes a second of torch for each kind of run, so the ones of the paper's runs are
kept in a file, `costs.json`, beside their experiment's code:

    python -m experiments.training.predicted_cost   # writes them again
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from experiments.backbones import language_models
from experiments.harness import gpus, registry
from experiments.harness.experiment import Estimate, Memory
from experiments.harness.needs import CONFIG
from experiments.harness.spec import RunSpec
from experiments.io.files import canonical_json, read_json, write_json_atomic
from experiments.io.output import tell
from experiments.training.step_cost import MicroBatch, StepCost, step_cost
from zia_core.errors import ZiaError
from zia_core.validation import conform_fields

FILE = "costs.json"
# Settings that neither change a micro-batch nor what is computed for it.
WITHOUT_EFFECT = frozenset(
    [
        "answered",
        "answered_together",
        "beta1",
        "beta2",
        "candidates",
        "clip_norm",
        "compile",
        "context",
        "decay",
        "decoding",
        "device",
        "encoder_device",
        "epochs",
        "eval_tokens",
        "evaluated_on",
        "evaluations",
        "gate_init",
        "lora_alpha",
        "loss_reduction",
        "max_answer_tokens",
        "min_lr",
        "n_best",
        "new_tokens",
        "output",
        "overhead_tokens",
        "peak_lr",
        "phase",
        "projection_lr",
        "prompt",
        "protocol",
        "selection_epochs",
        "selection_seed",
        "selection_task",
        "stride",
        "threads",
        "user_oriented",
        "validate_on",
        "vicuna",
        "warmup_epochs",
        "weight_decay",
    ]
)
# A decoding step is bound by the launch of its kernels rather than by FLOPs: declared.
DECODING_STEP_S = 0.04


@dataclass(frozen=True)
class Work:
    """What a run computes, in the unit of its micro-batch: padded tokens, or images.

    Attributes:
        trained: units of all training steps.
        evaluated: units that are passed forward only.
        decoding_steps: tokens generated one after another, for whole batches of prompts.
    """

    trained: float
    evaluated: float
    decoding_steps: float = 0.0


@dataclass(frozen=True)
class Predictor:
    """Predicts the costs of an experiment's runs; `folder` has its `costs.json`."""

    folder: Path
    micro_batch: Callable[[RunSpec], MicroBatch]
    work: Callable[[RunSpec], Work]

    def estimate(self, spec: RunSpec) -> Estimate:
        """The cost on the default GPU; without hours for a CPU, whose speed is not known.

        Unknown, with the reason, if the method does not take the model.
        """
        try:
            cost = self.known().get(kind(spec)) or self.computed(spec)
        except ZiaError as error:
            return Estimate(None, None, f"not predicted: {error}")
        if spec.settings.device == "cpu":
            return Estimate(None, cost.peak / 1e9, "not measured")
        work = self.work(spec)
        flops = cost.step_flops * work.trained + cost.forward_flops * work.evaluated
        decoding = work.decoding_steps * DECODING_STEP_S / 3600
        found = Estimate(
            None, cost.peak / 1e9, "", flops / cost.units, decoding, cost.sharded / 1e9
        )
        return found.on(gpus.GPUS[gpus.DEFAULT], gpus.UTILISATION)

    def memory(self, spec: RunSpec) -> Memory:
        """Weights and peak, of the sizes in config.json if the model is here."""
        source = language_models.BACKBONES.get(spec.backbone)
        known = (
            None if source and (source.local / CONFIG).exists() else self.known().get(kind(spec))
        )
        cost = known or self.computed(spec)
        return Memory(cost.weights, cost.peak, cost.sharded, cost.loaded)

    def computed(self, spec: RunSpec) -> StepCost:
        """The cost of the run's largest micro-batch."""
        return _computed(self.micro_batch, kind(spec), _Unhashed(spec))

    def known(self) -> dict[str, StepCost]:
        """The costs in the file."""
        return _known(self.folder / FILE)


@dataclass(frozen=True)
class _Unhashed:
    """A run that is not part of a cache's key, which is its kind."""

    spec: RunSpec

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unhashed)

    def __hash__(self) -> int:
        return 0


@cache
def _computed(make: Callable[[RunSpec], MicroBatch], kind: str, run: _Unhashed) -> StepCost:
    return step_cost(make(run.spec), run.spec.settings)


@cache
def _known(path: Path) -> dict[str, StepCost]:
    return {name: StepCost(**conform_fields(_KINDS, _OPTIONAL | each, str(path)))
            for name, each in read_json(path).items()} if path.exists() else {}  # fmt: skip


_KINDS: dict[str, Any] = {
    "weights": int,
    "peak": int,
    "step_flops": float,
    "forward_flops": float,
    "units": int,
    "sharded": int,
    "loaded": int,
}
_OPTIONAL = {"sharded": 0, "loaded": 0}


def kind(spec: RunSpec) -> str:
    """What a run's costs depend on, as a text: runs of a kind differ in data, rates and length."""
    defaults = asdict(type(spec.settings)())
    changed = {
        name: value
        for name, value in asdict(spec.settings).items()
        if name not in WITHOUT_EFFECT and value != defaults[name]
    }
    where = " in shards" if registry.get(spec.experiment).in_shards(spec) else ""
    return f"{spec.method} on {spec.backbone}{where} {canonical_json(changed)}"


def main() -> None:
    """Compute the costs of all runs of the profile `paper`, and write them."""
    for experiment in registry.experiments().values():
        # A bound method's owner; not an instance of this module's class if that is __main__.
        predictor: Any = getattr(experiment.largest_step, "__self__", None)
        if predictor is not None and "paper" in experiment.profiles:
            specs = {kind(spec): spec for spec in experiment.plan("paper", "cuda")}
            computed = {name: asdict(predictor.computed(spec)) for name, spec in specs.items()}
            costs = {
                name: {k: v for k, v in cost.items() if v or k not in _OPTIONAL}
                for name, cost in computed.items()
            }
            write_json_atomic(predictor.folder / FILE, costs)
            tell(predictor.folder / FILE)


if __name__ == "__main__":
    main()
