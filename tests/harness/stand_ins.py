"""Programs that stand in for Slurm's own and write down what they got; submissions to try them on.

The real ones are in tests/slurm.
"""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

from experiments.harness import slurm, submission, unfit
from experiments.harness.cluster import Cluster, Resources
from experiments.harness.submission import Group, Request, Submission
from experiments.harness.worker import name_of
from tests.toys.gated import experiment as gated

QUICK = Resources(timeout_min=5, workers=2)
STAND_IN = """#!{python}
import json, os, sys
from pathlib import Path
here = Path(__file__).parent
name = Path(__file__).name
with (here / "calls").open("a") as calls:
    calls.write(json.dumps([name, *sys.argv[1:]]) + "\\n")
(here / "environment").write_text(json.dumps(dict(os.environ)))
answer = here / (name + ".answer")
if answer.exists():
    sys.stdout.write(answer.read_text())
refusal = here / (name + ".refusal")
if refusal.exists():
    sys.exit(refusal.read_text())
"""


class StandIns:
    """Programs named as Slurm's, what they say, and how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("sbatch", "squeue", "scancel", "scontrol", "srun", "sinfo"):
            program = folder / name
            program.write_text(STAND_IN.format(python=sys.executable))
            program.chmod(0o755)
        self.answer("sbatch", "Submitted batch job 71\n")

    def answer(self, name: str, text: str) -> None:
        (self.folder / f"{name}.answer").write_text(text)

    def refuse(self, name: str, text: str) -> None:
        (self.folder / f"{name}.refusal").write_text(text)

    def calls(self, name: str) -> list[list[str]]:
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [call[1:] for call in map(json.loads, lines) if call[0] == name]


def request_in(folder: Path) -> Request:
    return Request("toy", "mini", "cpu", folder / "runs", folder / "out")


def queue(*submissions: Submission, state: str = "PENDING") -> str:
    """What squeue prints while all their jobs wait, and somebody else's besides."""
    own = [
        f"71_{task}|{state}||Priority|{submitted.job_name(number)}\n"
        for submitted in submissions
        for number, group in enumerate(submitted.groups)
        for task in range(group.workers)
    ]
    return "".join(["9|RUNNING|n1|None|zia-of|somebody-0\n", *own])


def submit(folder: Path, cluster: Cluster | None = None) -> Submission | None:
    return slurm.submit(request_in(folder), cluster or Cluster(QUICK))


def submission_in(folder: Path, experiment: str, signal_delay_s: int = 120) -> Submission:
    """One that a job can be started with; its code is the checkout."""
    runs = [replace(run, experiment=experiment) for run in gated.plan("mini", "cpu")]
    needs = asdict(Resources(signal_delay_s=signal_delay_s))
    submitted = Submission(
        folder=folder / "runs" / "submissions" / "one",
        executor="slurm",
        experiment=experiment,
        profile="mini",
        device="cpu",
        out=str(folder / "out"),
        snapshot="none",
        git=None,
        groups=(Group(tuple(map(name_of, runs)), 1, needs),),
    )
    (submitted.folder / submission.LOGS).mkdir(parents=True)
    submitted.write()
    unfit.prepare(submitted)
    return submitted
