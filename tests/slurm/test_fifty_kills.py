import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from experiments.harness import stored
from tests.slurm.grid import PRODUCTS, PROJECT, contents


def test_a_local_run_killed_at_fifty_random_moments(
    tmp_path: Path, killed: Callable[[str], None]
) -> None:
    """In steps, checkpoints, evaluations, writing the result: it continues bitwise each time."""
    command = [sys.executable, "-m", "tests.slurm.fifty_kills", str(tmp_path)]
    child = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    report = json.loads(child.stdout)
    for _ in range(sum(report["hit"].values())):
        killed("SIGKILL of a local run")
    assert sum(report["hit"].values()) == 50
    assert {"before any record", "between checkpoints"} <= report["hit"].keys(), report["hit"]
    assert set(report["codes"]) == {0}
    for name in report["runs"]:
        ours, theirs = tmp_path / "killed" / name, tmp_path / "undisturbed" / name
        assert contents(ours) == contents(theirs)
        for product in PRODUCTS:
            assert (ours / product).read_bytes() == (theirs / product).read_bytes(), name
        ends = [attempt["end"] for attempt in stored.read_status(ours)["attempts"]]
        assert ends.count("done") == 1
        assert set(ends) <= {"done", "lost"}
