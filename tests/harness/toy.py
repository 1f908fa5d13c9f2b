"""A toy experiment for tests: it adds numbers, and fails on demand.

As a script it is the command line `zia` with no other experiment: `python toy.py run toy ...`.
"""

import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.cli import main
from experiments.harness import registry, stored
from experiments.harness.experiment import Answer, Estimate, Experiment, NeedsData
from experiments.harness.folder import RunFolder
from experiments.harness.rehearsal import Rehearsal
from experiments.harness.spec import RunSpec
from zia_core.errors import ZiaError

REFERENCES = "ZIA_TOY_REFERENCES"  # when set, the references that `rescore` needs are there


@dataclass(frozen=True)
class ToySettings:
    steps: int = 6
    rate: float = 0.5
    fail: str | None = None  # "error": a ZiaError; "bug": something unforeseen; "result": no result
    stop_at: int = 0  # a first attempt gets SIGINT at this step
    step_s: float = 0.0  # for whoever watches


def run(spec: RunSpec, folder: RunFolder) -> None:
    import torch

    from zia_core.training import Interrupted

    settings: ToySettings = spec.settings
    loaded = folder.load_checkpoint()
    done, total = (0, 0.0) if loaded is None else (loaded[0], float(loaded[1]["total"]))
    if loaded is None:
        folder.metrics({"step": 0, "eval": {"score": 0.0}})
    for step in range(done + 1, settings.steps + 1):
        if reason := folder.stop_requested():
            folder.save_checkpoint(
                step - 1, {"total": torch.tensor(total, dtype=torch.float64)}, {}
            )
            raise Interrupted(reason, step - 1)
        if step == 4 and settings.fail == "error":
            raise ZiaError("record 17 has no output")
        if step == 4 and settings.fail == "bug":
            raise RuntimeError("not foreseen")
        if step == settings.stop_at and loaded is None:
            os.kill(os.getpid(), signal.SIGINT)
        total += settings.rate * random.Random(f"{spec.seed}/{step}").random()
        folder.metrics({"step": step, "loss": total})
        folder.timing({"step": step, "seconds": settings.step_s})
        eta = settings.step_s * (settings.steps - step)
        folder.progress(
            step=step, total=settings.steps, loss=total, lr=settings.rate, tokens_per_s=8, eta_s=eta
        )
        time.sleep(settings.step_s)
    folder.write_predictions([{"id": i, "output": i % 3} for i in range(4)])
    if settings.fail != "result":
        folder.write_result({"score": score([0, 1, 2, 0]), "steps": settings.steps})


def score(outputs: list[int]) -> float:
    return sum(outputs) / len(outputs)


def rescore(path: Path) -> dict[str, float]:
    if REFERENCES not in os.environ:
        raise NeedsData(f"set ${REFERENCES}")
    return {"score": score([record["output"] for record in stored.load(path).predictions()])}


def generate(path: Path, prompts: Sequence[str], device: str) -> list[Answer]:
    return [Answer(prompt, prompt.lower(), prompt.upper()) for prompt in prompts or ["Hello"]]


def spec(method: str = "add", task: str = "sum", seed: int = 0, **settings: object) -> RunSpec:
    return RunSpec(
        experiment="toy",
        version=1,
        task=task,
        method=method,
        backbone="toys/pocket",
        data="numbers",
        profile="mini",
        seed=seed,
        settings=ToySettings(**settings),  # type: ignore[arg-type]
    )


def shorten(spec: RunSpec) -> RunSpec:
    """Three steps, slow enough to be killed between two."""
    return replace(spec, settings=replace(spec.settings, steps=3, step_s=0.2))


EXPERIMENT = Experiment(
    name="toy",
    version=1,
    title="adds numbers",
    settings=ToySettings,
    tasks=("sum", "product"),
    methods=("add", "add-twice", "never"),
    profiles=("mini", "small"),
    result_fields={"score": float, "steps": int},
    plan=lambda profile, device: [spec("add"), spec("add", seed=1), spec("add-twice", "product")],
    run=run,
    estimate=lambda spec: Estimate(
        0.25 if spec.seed == 0 else None, 0.1, "counted on fingers while nobody was looking"
    ),
    rescore=rescore,
    generate=generate,
    rehearsal=Rehearsal(shorten, ()),
)


def only_toy() -> dict[str, Experiment]:
    return {"toy": EXPERIMENT}


if __name__ == "__main__":
    registry.experiments = only_toy  # type: ignore[assignment]
    main.main()
