"""An experiment that writes down where its process takes code and weights from."""

import os
from dataclasses import replace

from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from tests.harness import toy


def run(spec: RunSpec, folder: RunFolder) -> None:
    import experiments
    import zia_core

    places = {
        "zia_core": zia_core.__file__,
        "experiments": experiments.__file__,
        "weights": os.environ["ZIA_WEIGHTS"],
    }
    folder.write_predictions([places])
    folder.write_result({"score": 0.0, "steps": 0})


EXPERIMENT = replace(
    toy.EXPERIMENT,
    name="where",
    run=run,
    plan=lambda profile, device: [replace(toy.spec(), experiment="where")],
)
