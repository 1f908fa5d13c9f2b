"""Mark failed runs as pending again."""

from collections.abc import Sequence
from pathlib import Path

from experiments.harness import stored
from experiments.harness.ownership import Ownership


def make_pending(folders: Sequence[Path], reason: str = "") -> list[Path]:
    """Mark the failed runs among `folders` whose reason contains `reason`; return their folders.

    Attempts and checkpoints stay: the next worker continues from there.
    """
    marked = []
    for folder in folders:
        if not _has_failed(folder, reason):
            continue
        owner = Ownership.claim(folder)
        if owner is None:
            continue
        try:
            if _has_failed(folder, reason):  # still, now that it is claimed
                status = stored.read_status(folder) | {"state": "pending", "reason": None}
                owner.write_json(stored.STATUS, status)
                marked.append(folder)
        finally:
            owner.release()
    return marked


def _has_failed(folder: Path, reason: str) -> bool:
    status = stored.read_status(folder)
    return status["state"] == "failed" and reason in str(status["reason"])
