"""Metrics as `evaluate` modules, loaded from this folder and never from the hub."""

import atexit
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from evaluate import EvaluationModule


def load_metric(name: str) -> "EvaluationModule":
    """Return the metric `experiments/metrics/<name>/<name>.py`; ZiaError for an unknown name.

    It does not use the network, and writes only to a temporary folder that is removed at exit.
    """
    folder = Path(__file__).parent
    names = sorted(path.stem for path in folder.glob("*/*.py") if path.stem == path.parent.name)
    if name not in names:
        raise ZiaError(f"no metric named {name!r:.60}; there are: {', '.join(names)}")
    import evaluate

    script = folder / name / f"{name}.py"
    return evaluate.load(str(script), cache_dir=_temporary_folder(), keep_in_memory=True)


@cache
def _temporary_folder() -> str:
    """The folder for `evaluate` to write to, by default the user's home."""
    from evaluate import config

    folder = tempfile.mkdtemp(prefix="zia-metrics-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # `evaluate` imports copies of scripts from one folder per process, which is already in use if
    # another metric was loaded before.
    if config.MODULE_NAME_FOR_DYNAMIC_MODULES not in sys.modules:
        config.HF_MODULES_CACHE = Path(folder)
    return folder
