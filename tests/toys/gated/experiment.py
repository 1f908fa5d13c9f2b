"""The toy experiment with a gate: its runs wait at step 4 until the file `$ZIA_TOY_GATE` exists.

There are four of them, and the last one fails a step later.
"""

import os
import time
from dataclasses import replace
from pathlib import Path

from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from tests.harness import toy

GATE = "ZIA_TOY_GATE"
STEP = 3


def run(spec: RunSpec, folder: RunFolder) -> None:
    report = folder.progress

    def progress(**fields: object) -> None:
        report(**fields)
        while fields["step"] == STEP and not (folder.stop_requested() or _is_open()):
            time.sleep(0.02)

    folder.progress = progress  # type: ignore[method-assign]
    toy.run(spec, folder)


def _is_open() -> bool:
    return Path(os.environ[GATE]).exists()


def plan(profile: str, device: str) -> list[RunSpec]:
    runs = [*(toy.spec(seed=seed) for seed in range(3)), toy.spec(fail="error")]
    return [replace(run, experiment="gated") for run in runs]


EXPERIMENT = replace(toy.EXPERIMENT, name="gated", plan=plan, run=run)
