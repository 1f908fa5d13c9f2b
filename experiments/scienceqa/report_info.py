"""What the report needs to know of `scienceqa`: its score, and the lines of its ablation tables."""

from collections.abc import Mapping
from typing import Any

from experiments.harness.report_info import ReportInfo, Score, SharedTraining
from experiments.scienceqa import table_lines
from experiments.scienceqa.plan import ABLATION, OWN, TASK


def _is_final(task: str, settings: Mapping[str, Any]) -> bool:
    """Ablations are scored on the validation questions, all else on the test questions."""
    return settings.get("evaluated_on") == ("val" if task == ABLATION else "test")


REPORT = ReportInfo(
    score=Score("acc_average", "accuracy (%)", tasks=(TASK, OWN)),
    is_final=_is_final,
    lines={
        "same-inputs": table_lines.with_same_inputs,
        "layers": table_lines.by_layers,
        "initialisation": table_lines.by_initialisation,
        "epochs": table_lines.by_epochs,
    },
    # Table 2 has the run that the three ablations share, and random initialisation.
    shared=SharedTraining("also_validated", ABLATION, "val_", {"evaluated_on": "val"}),
    depth=table_lines.depth_of,
    guesses={
        "acc_average": ("chance_accuracy", "majority_accuracy"),
        "acc_has_image": ("chance_has_image",),
    },
)
