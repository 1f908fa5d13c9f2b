"""Real zero-init attention, tiny, trained by the engine; some runs fail on demand.

Each profile is the plan of one test. For whoever wants to catch a run at a certain step, the file
`pace` in the folder `$TINY_PACE` says for how many seconds a step rests, and the process of that
number does not go on while there is a file `frozen-<number>`; none of this changes a number.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.harness import stored
from experiments.harness.experiment import Estimate, Experiment
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from torch import Tensor, nn

PACE = "TINY_PACE"
FAILS_AT = 4  # the micro-batch at which a run fails that is to fail
OUT_OF_MEMORY = "tried to allocate 20.00 MiB"
OUT_OF_ORDER = "CUDA error: device-side assert triggered"


@dataclass(frozen=True)
class Settings:
    steps: int = 24
    checkpoint_every: int = 5
    dropout: float = 0.1  # so that the random generators matter
    fail: str | None = None  # "nan", "memory", "data" or "gpu"


# fail: the runs, in the order in which they are done
PLANS: dict[str, Sequence[str | None]] = {
    "one": [None],
    "two": [None, None],
    "five": [None] * 5,
    "six": [None] * 6,
    "failing": ["nan", None, "memory", "data", None, "gpu", None],
    "spoilt": ["gpu", None, "gpu", "gpu", "gpu", None],
}


def run(spec: RunSpec, folder: RunFolder) -> None:
    import torch
    from safetensors.torch import save

    from tests.slurm.faulty.tiny.model import TinyModel
    from zia_core.engine import train
    from zia_core.training import TrainSettings

    settings: Settings = spec.settings
    torch.set_num_threads(1)
    model = TinyModel(spec.seed, settings.dropout)
    engine = TrainSettings(
        total_steps=settings.steps,
        batch_size=4,
        peak_lr=0.02,
        warmup_steps=2,
        weight_decay=0.02,
        token_budget=64,
        eval_every=8,
        checkpoint_every=settings.checkpoint_every,
        seed=spec.seed,
        device="cpu",
    )
    summary = train(model, _Task(settings.fail), engine, folder)
    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    with folder.writing(stored.ADAPTER) as path:
        path.write_bytes(save(trained))
    folder.write_predictions([{"id": i, "output": i % 3} for i in range(4)])
    folder.write_result({"val_loss": summary.last_evaluation["val_loss"], "steps": summary.steps})


def _rest() -> None:
    if PACE not in os.environ:
        return
    folder, began = Path(os.environ[PACE]), time.monotonic()
    frozen = folder / f"frozen-{os.getpid()}"
    while frozen.exists() or time.monotonic() - began < float((folder / "pace").read_text()):
        time.sleep(0.05)


class _Task:
    """Records of random tokens; the last third of each is to be predicted."""

    def __init__(self, fail: str | None) -> None:
        import random

        numbers = random.Random(3)
        lengths = [numbers.randint(6, 30) for _ in range(20)]
        self.tokens = [[numbers.randrange(1, 64) for _ in range(n)] for n in lengths]
        self.fail, self.batches = fail, 0

    def __len__(self) -> int:
        return len(self.tokens)

    def length(self, index: int) -> int:
        return len(self.tokens[index])

    def labels(self, index: int) -> int:
        return len(self.tokens[index]) // 3

    def record_id(self, index: int) -> str:
        return f"tiny-{index}"

    def batch(self, indices: Sequence[int]) -> "dict[str, Tensor]":
        import torch

        shape = (len(indices), max(self.length(index) for index in indices))
        tokens, labelled = (
            torch.zeros(shape, dtype=torch.long),
            torch.zeros(shape, dtype=torch.bool),
        )
        for row, index in enumerate(indices):
            length, n = self.length(index), self.labels(index)
            tokens[row, :length] = torch.tensor(self.tokens[index])
            labelled[row, length - n : length] = True
        return {"tokens": tokens, "labelled": labelled}

    def loss(self, model: "nn.Module", batch: "dict[str, Tensor]") -> "tuple[Tensor, int]":
        from torch.nn.functional import cross_entropy

        tokens, labelled = batch["tokens"], batch["labelled"][:, 1:]
        logits = model(tokens)[:, :-1][labelled]
        loss = cross_entropy(logits, tokens[:, 1:][labelled], reduction="sum")
        if model.training:
            self.batches += 1
            _rest()
            if self.fail and self.batches >= FAILS_AT:
                loss = self._failing(model, loss)
        return loss, len(logits)

    def _failing(self, model: "nn.Module", loss: "Tensor") -> "Tensor":
        import torch

        if self.fail == "data":
            raise ZiaError("record tiny-17 has no output")
        if self.fail == "nan":
            return loss * float("nan")

        def fail(gradient: "Tensor") -> None:
            if self.fail == "gpu":
                raise torch.AcceleratorError(f"{OUT_OF_ORDER}\nCompile with `TORCH_USE_CUDA_DSA`")
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)

        model.get_parameter("prompt_key").register_hook(fail)
        return loss

    def evaluate(self, model: "nn.Module") -> dict[str, float]:
        total, labels = self.loss(model, self.batch(range(4)))
        return {"val_loss": total.item() / labels}


def plan(profile: str, device: str) -> list[RunSpec]:
    return [
        RunSpec(
            experiment="tiny",
            version=1,
            task="tokens",
            method="zero-init",
            backbone="tiny/attention",
            data="random",
            profile=profile,
            seed=seed,
            settings=Settings(fail=fail),
        )
        for seed, fail in enumerate(PLANS.get(profile, ()))
    ]


EXPERIMENT = Experiment(
    name="tiny",
    version=1,
    title="a tiny model to be disturbed",
    settings=Settings,
    tasks=("tokens",),
    methods=("zero-init",),
    profiles=tuple(PLANS),
    result_fields={"val_loss": float, "steps": int},
    plan=plan,
    run=run,
    estimate=lambda spec: Estimate(0.001, 0.5, "a guess"),
)
