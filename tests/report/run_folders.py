"""Small run folders written by hand, with the files that design and harness agree on."""

import json
from pathlib import Path
from typing import Any

RESULT = {
    "tuned_parameters": 173_070,
    "adapter_bytes": 700_000,
    "train_seconds": 300.0,
    "peak_memory_bytes": None,
    "tokens_per_s": 640.0,
    "val_loss_start": 2.5,
    "val_loss": 2.0,
    "val_ppl": 7.389,
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
    folder = root / config["experiment"] / f"{name}-{sum(map(ord, json.dumps(config))):016x}"
    folder.mkdir(parents=True)
    files = {
        "config.json": config,
        "environment.json": environment or ENVIRONMENT,
        "status.json": {"state": state, "reason": reason, "attempts": [], "progress": {}},
    }
    if state == "done":
        files["result.json"] = RESULT | (result or {})
    for file, value in files.items():
        (folder / file).write_text(json.dumps(value))
    return folder
