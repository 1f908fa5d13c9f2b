"""Small run folders, written by hand."""

import gzip
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ALPACA = {
    "tuned_parameters": 173_070,
    "adapter_bytes": 700_000,
    "train_seconds": 300.0,
    "peak_memory_bytes": None,
    "tokens_per_s": 640.0,
    "val_loss_start": 2.5,
    "val_loss": 2.0,
    "val_ppl": 7.389,
}
ENCODER = {
    "tuned_parameters": 2_082,
    "head_parameters": 1_930,
    "adapter_bytes": 8_328,
    "train_seconds": 20.0,
    "train_loss_first": 2.3,
    "train_loss_last": 1.0,
}
VTAB = ENCODER | {"accuracy": 0.5, "peak_lr": 0.01, "weight_decay": 1e-4}
SQUAD = ENCODER | {
    "peak_lr": 0.02,
    "exact": 50.0,
    "f1": 60.0,
    "has_answer_exact": None,
    "has_answer_f1": None,
    "no_answer_exact": None,
    "no_answer_f1": None,
    "val_loss_start": 5.9,
    "val_loss": 2.0,
}
CLASSES = (
    "natural", "social", "language", "has_text", "has_image", "no_context", "grade_1_6",
    "grade_7_12", "average",
)  # fmt: skip
SCIENCEQA = ENCODER | {
    **{f"acc_{name}": 50.0 for name in CLASSES},
    "likelihood_accuracy": 55.0,
    "unparsable": 3,
    "questions": 361,
    "val_loss_start": 2.0,
    "val_loss": 0.4,
    "train_loss_epoch": 0.3,
}
COCO = ENCODER | {
    "Bleu_1": 0.6,
    "Bleu_2": 0.4,
    "Bleu_3": 0.3,
    "Bleu_4": 0.2,
    "ROUGE_L": 0.45,
    "CIDEr": 0.5,
    "images": 200,
    "empty_captions": 1,
    "val_loss_start": 4.0,
    "val_loss": 2.0,
}
RESULTS = {
    "alpaca_llama": ALPACA,
    "vtab_vit": VTAB,
    "squad_roberta": SQUAD,
    "scienceqa": SCIENCEQA,
    "coco_caption": COCO,
}
ENVIRONMENT = {
    "cpu": {"model": "Test CPU"},
    "torch": {"threads": 2, "gpus": []},
}


def write_run(
    root: Path,
    method: str = "zero-init",
    seed: int = 0,
    *,
    state: str = "done",
    reason: str | None = None,
    result: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    environment: dict[str, Any] | None = None,
    losses: Sequence[float] = (),
    **config: Any,
) -> Path:
    """Write one run folder and return it; a run that is not done has no result."""
    config = {
        "experiment": "alpaca_llama",
        "version": 1,
        "task": "alpaca",
        "method": method,
        "backbone": "SmolLM2-135M-Instruct",
        "data": "full",
        "profile": "small",
        "seed": seed,
        "settings": {"device": "cpu", "steps": 40} | (settings or {}),
    } | config
    name = "-".join(str(config[key]) for key in ("method", "backbone", "data", "profile", "seed"))
    identity = hashlib.sha256(json.dumps(config).encode()).hexdigest()[:16]
    folder = root / config["experiment"] / f"{name}-{identity}"
    folder.mkdir(parents=True)
    files = {
        "config.json": config,
        "environment.json": environment or ENVIRONMENT,
        "status.json": {"state": state, "reason": reason, "attempts": [], "progress": {}},
    }
    if state == "done":
        files["result.json"] = RESULTS.get(config["experiment"], ALPACA) | (result or {})
    for file, value in files.items():
        (folder / file).write_text(json.dumps(value))
    if losses:
        lines = [{"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def write_predictions(run: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write the predictions of a run."""
    with gzip.open(run / "predictions.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def write_vtab(
    root: Path, method: str, task: str, seed: int, accuracy: float, **changes: Any
) -> Path:
    """Write a final run of vtab_vit; `accuracy` in percent."""
    result = {"accuracy": accuracy / 100} | changes.pop("result", {})
    final = {
        "phase": "final",
        "protocol": "vpt",
        "resolution": 32,
        "candidates": [[0.01, 1e-4], [0.1, 0.0]],
        "selection_seed": 0,
    }
    settings = final | changes.pop("settings", {})
    config = {"experiment": "vtab_vit", "task": task, "backbone": "small-vit"} | changes
    return write_run(root, method, seed, result=result, settings=settings, **config)


def write_squad(
    root: Path, method: str, task: str, seed: int, exact: float, **changes: Any
) -> Path:
    """Write a run of squad_roberta; `exact` in percent."""
    result = {"exact": exact, "f1": exact + 10} | changes.pop("result", {})
    final = {"phase": "final", "candidates": [0.005, 0.02, 0.08], "peak_lr": None}
    settings = final | changes.pop("settings", {})
    config = {"experiment": "squad_roberta", "task": task, "backbone": "minilm-l6"} | changes
    return write_run(root, method, seed, result=result, settings=settings, **config)


def write_scienceqa(
    root: Path, method: str, task: str, seed: int, accuracy: float, **changes: Any
) -> Path:
    """Write a run of scienceqa on a backbone of 30 layers; `accuracy` in percent."""
    result = {"acc_average": accuracy} | changes.pop("result", {})
    evaluated_on = "val" if task == "ablation" else "test"
    usual = {"num_layers": 28, "epochs": 3.0, "evaluated_on": evaluated_on}
    settings = usual | changes.pop("settings", {})
    config = {
        "experiment": "scienceqa",
        "task": task,
        "backbone": "smollm2-135m-instruct-q4_1",
    } | changes
    return write_run(root, method, seed, result=result, settings=settings, **config)


VAL_LOSSES = {1.5: 0.15, 3.0: 0.3, 6.0: 0.6}


def write_ablations(
    root: Path,
    accuracies: dict[str, float],
    seed: int = 0,
    val_losses: dict[float, float] = VAL_LOSSES,  # by epochs
) -> None:
    """Write the seven ablation runs of a profile, with accuracies by their purpose."""
    for name, layers, epochs in (
        ("10 layers", 9, 3.0),
        ("20 layers", 19, 3.0),
        ("shared", 28, 3.0),
        ("32 layers", 30, 3.0),
        ("random-init", 28, 3.0),
        ("15 epochs", 28, 1.5),
        ("60 epochs", 28, 6.0),
    ):
        method = "random-init-text" if name == "random-init" else "zero-init-text"
        settings = {"num_layers": layers, "epochs": epochs}
        result = {"val_loss": val_losses[epochs], "likelihood_accuracy": accuracies[name] + 5}
        write_scienceqa(
            root, method, "ablation", seed, accuracies[name], settings=settings, result=result
        )


def lines_of(markdown: str, start: str) -> list[list[str]]:
    """The cells of every table line whose first cell is `start`."""
    lines = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line[:1] == "|"]
    return [cells for cells in lines if cells[0] == start]


def section(markdown: str, start: str) -> str:
    """The part under the heading that begins with `start`."""
    [part] = [part for part in markdown.split("\n## ")[1:] if part.startswith(start)]
    return part
