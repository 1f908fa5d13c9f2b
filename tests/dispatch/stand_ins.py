"""Programs that stand in for Slurm's own and write down what they got; submissions to try them on.

The real ones are in tests/slurm.
"""

import json
import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path

from experiments.dispatch import bad_nodes, code_snapshot, slurm, submission
from experiments.dispatch.cluster_file import Cluster, Resources
from experiments.dispatch.submission import Group, Request, Submission
from experiments.dispatch.worker import name_of
from experiments.harness.provenance import PROJECT
from tests.toys.gated import experiment as gated

QUICK = Resources(timeout_min=5, workers=2)
# An interpreter whose path has a space in it cannot stand behind #!, nor can a long one.
SCRIPT = '#!/bin/sh\nexec {python} {program} {name} "$@"\n'
PROGRAM = """
import json, os, sys
from pathlib import Path
here = Path(__file__).parent
name, *arguments = sys.argv[1:]
with (here / "calls").open("a") as calls:
    calls.write(json.dumps([name, *arguments]) + "\\n")
(here / (name + ".environment")).write_text(json.dumps(dict(os.environ)))
asked = arguments[-1] if arguments and arguments[-1].startswith("%") else ""
answers = [here / (name + suffix + ".answer") for suffix in ("." + asked, "")]
for answer in filter(Path.exists, answers):
    sys.stdout.write(answer.read_text())
    break
refusal = here / (name + ".refusal")
if refusal.exists():
    sys.exit(refusal.read_text())
"""


class StandIns:
    """Programs named as Slurm's, what they say, and how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "program.py").write_text(PROGRAM)
        python, program = shlex.quote(sys.executable), shlex.quote(str(folder / "program.py"))
        for name in ("sbatch", "squeue", "scancel", "scontrol", "srun", "sinfo"):
            script = folder / name
            script.write_text(SCRIPT.format(python=python, program=program, name=name))
            script.chmod(0o755)
        self.answer("sbatch", "Submitted batch job 71\n")

    def answer(self, name: str, text: str, to: str = "") -> None:
        """Have a program say `text`, to all that is asked or to what ends with the word `to`."""
        (self.folder / f"{name}{to and f'.{to}'}.answer").write_text(text)

    def call_jobs(self, name: str) -> None:
        """Have Slurm say that the job which it is asked about has this name."""
        self.answer("squeue", f"{name}\n", to="%j")

    def environment(self, name: str) -> dict[str, str]:
        """What a program had in its environment when it was called last."""
        found: dict[str, str] = json.loads((self.folder / f"{name}.environment").read_text())
        return found

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
    """One that a job can be started with, its code copied from the checkout."""
    runs = [replace(run, experiment=experiment) for run in gated.plan("mini", "cpu")]
    needs = asdict(Resources(signal_delay_s=signal_delay_s))
    submitted = Submission(
        folder=folder / "runs" / "submissions" / "one",
        executor="slurm",
        experiment=experiment,
        profile="mini",
        device="cpu",
        out=str(folder / "out"),
        snapshot=code_snapshot.take_snapshot(PROJECT, folder / "runs").digest,
        git=None,
        groups=(Group(tuple(map(name_of, runs)), 1, needs),),
    )
    (submitted.folder / submission.LOGS).mkdir(parents=True)
    submitted.write()
    bad_nodes.prepare(submitted)
    return submitted
