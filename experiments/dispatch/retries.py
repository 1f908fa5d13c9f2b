"""Failed runs become pending again, once for every time that this is asked for."""

from collections.abc import Sequence
from pathlib import Path

from experiments.harness import stored
from experiments.harness.ownership import Ownership


def make_pending(folders: Sequence[Path], reason: str = "") -> list[Path]:
    """Mark the failed runs among `folders` whose reason contains `reason`; return their folders.

    Their attempts and checkpoints stay: the next worker goes on from there.
    """
    marked = []
    for folder in folders:
        if not _has_failed(folder, reason):
            continue
        owner = Ownership.claim(folder)
        if owner is None:
            continue
        try:
            if _has_failed(folder, reason):  # still, now that nobody else can change it
                status = stored.read_status(folder) | {"state": "pending", "reason": None}
                owner.write_json(stored.STATUS, status)
                marked.append(folder)
        finally:
            owner.release()
    return marked


def _has_failed(folder: Path, reason: str) -> bool:
    status = stored.read_status(folder)
    return status["state"] == "failed" and reason in str(status["reason"])
