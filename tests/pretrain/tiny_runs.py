"""Do tiny pretraining runs, or interrupt them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from zia_core.engine import Interrupted


def attempt(
    runs: Path,
    spec: RunSpec,
    run: Callable[[RunSpec, RunFolder], None],
    fields: Mapping[str, Any],
    stop_at: int | None = None,
) -> RunFolder:
    """Do a run, or interrupt it after a step."""
    folder = RunFolder.claim(runs, spec, fields)
    assert folder is not None

    def watch(progress: dict[str, Any]) -> None:
        if progress["step"] == stop_at:
            folder.request_stop("asked to")

    folder.on_progress = watch
    with folder:
        folder.write_environment({"python": "3"})
        if stop_at is None:
            run(spec, folder)
            folder.set_status("done")
        else:
            with pytest.raises(Interrupted):
                run(spec, folder)
            folder.set_status("preempted", "asked to")
    return folder
