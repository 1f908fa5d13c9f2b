"""Submits workers to Slurm: a job array for all missing runs that need the same resources."""

import os
import shlex
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.dispatch import (
    bad_nodes,
    code_snapshot,
    final_report,
    live_view,
    squeue,
    submission,
)
from experiments.dispatch.active_jobs import AtWork, Oversight, at_work
from experiments.dispatch.cluster_file import Cluster, Resources
from experiments.dispatch.job_environment import nothing_inherited
from experiments.dispatch.slurm_job import WorkerJob
from experiments.dispatch.submission import LOGS, Group, Request, Submission
from experiments.dispatch.worker import name_of
from experiments.harness.provenance import PROJECT
from experiments.harness.spec import RunSpec
from experiments.io.output import say, tell
from zia_core.errors import ZiaError

# submitit gives a job up after so many time-outs, and takes every USR2 in a short job for one.
# Whether a job gets on is for slurm_job.advances to say.
TIMEOUTS = 1_000_000
# While Python starts, for seconds, USR2 would kill it, and the job would be over. Lost, it does no
# harm: Slurm requeues by itself what it preempts.
DEAF_TO_USR2 = ("/bin/sh", "-c", 'trap "" USR2; exec "$0" "$@"')


def plan_groups(
    specs: Sequence[RunSpec], cluster: Cluster, device: str
) -> list[tuple[Group, Resources]]:
    """The runs by what they need, each group with as many workers as it has use for."""
    by_resources: dict[Resources, list[str]] = {}
    for spec in specs:
        by_resources.setdefault(cluster.resources(spec, device), []).append(name_of(spec))
    return [
        (Group(tuple(names), min(needs.workers, len(names)), asdict(needs)), needs)
        for needs, names in by_resources.items()
    ]


def reproduce(request: Request, cluster: Cluster, *, wait: bool) -> int | None:
    """Submit what is missing; return None at once, or (`wait`) the exit code when jobs have ended.

    Where nothing is missing, tables, figures and claims are made here.
    """
    submitted = submit(request, cluster)
    names = [name_of(spec) for spec in request.specs()]
    if not submission.missing(request.specs(), request.runs_root):
        return final_report.finish(request)
    if not wait:
        return None
    queue = Oversight(request.runs_root)
    try:
        live_view.follow(
            names,
            request.runs_root,
            lambda: bool(queue.look()) or not queue.knows,
            lambda: "; ".join(map(str, queue.look())) if queue.knows else "Slurm does not answer",
        )
    except KeyboardInterrupt:
        say("the jobs go on: `zia status` shows them, `zia cancel` ends them")
        return 128 + signal.SIGINT
    return final_report.finish(request, submitted)


def submit(request: Request, cluster: Cluster) -> Submission | None:
    """Submit workers for the missing runs that no queued or running job is there for.

    Prints what is submitted and what was queued before; None if there is nothing to submit.
    ZiaError if Slurm refuses; what was submitted until then stays.
    """
    check_path(request.runs_root)
    with submission.one_at_a_time(request.runs_root):
        missing = submission.missing(request.specs(), request.runs_root)
        working = at_work(request.runs_root, squeue.jobs())
        for work in working:
            tell(f"there already: {work}")
        groups = plan_groups(_not_covered(missing, working), cluster, request.device)
        if not groups:
            return None
        submitted = submission.create(request, "slurm", [group for group, _ in groups])
        bad_nodes.prepare(submitted)
        for number, (group, _) in enumerate(groups):
            ids = _submit_group(submitted, number)
            submitted = submitted.with_group(number, jobs=tuple(ids))
            submitted.write()
            tell(f"{len(group.runs)} runs: {describe_group(group)}, job {ids[0].split('_')[0]}")
        tell(f"submission {submitted.name}; logs in {submitted.folder / LOGS}")
    return submitted


def dry_run(request: Request, cluster: Cluster) -> Iterable[str]:
    """Yield what `submit` would do, and the scripts; nothing is written and Slurm is not needed."""
    check_path(request.runs_root)
    missing = submission.missing(request.specs(), request.runs_root)
    working = at_work(request.runs_root, squeue.jobs_if_known() or [])
    yield from (f"there already: {work}" for work in working)
    specs = _not_covered(missing, working)
    groups = plan_groups(specs, cluster, request.device)
    code = code_snapshot.read_code(PROJECT)
    submitted = submission.describe(request, "slurm", code, [group for group, _ in groups])
    for number, (group, _) in enumerate(groups):
        yield f"{len(group.runs)} runs: {describe_group(group)}"
        yield from (f"  {name}" for name in group.runs)
        yield _script(submitted, number)
    yield f"{len(specs)} runs would be submitted, {len(missing) - len(specs)} are queued already"


def _not_covered(missing: Sequence[RunSpec], working: Sequence[AtWork]) -> list[RunSpec]:
    covered = {run for work in working for run in work.runs}
    return [spec for spec in missing if name_of(spec) not in covered]


def describe_group(group: Group) -> str:
    """For example "4 workers, 2 at a time, each 1 GPU, 8 CPUs, 64 GB, 240 min"."""
    needs = group.resources
    gpus = f"{needs['gpus_per_node']} GPU, " if needs["gpus_per_node"] else ""
    return (
        f"{group.workers} workers, {min(group.workers, needs['parallelism'])} at a time, each "
        f"{gpus}{needs['cpus_per_task']} CPUs, {needs['mem_gb']:g} GB, {needs['timeout_min']} min"
    )


def check_path(runs_root: Path) -> None:
    """Raise ZiaError for a folder of runs whose name a script could not hold as it is."""
    submission.check_path(runs_root)
    # In the names of logs, Slurm and submitit put job ids in place of %j and the like, and Slurm
    # takes a backslash for a sign of its own: such a job would end at once, without a log.
    if set("%\\") & set(str(runs_root)) or not str(runs_root).isprintable():
        raise ZiaError(
            f"the folder of runs {str(runs_root)!r} has a %, a backslash or a control character in "
            "its name, and Slurm cannot write logs there: use --runs with another"
        )


def parameters(submitted: Submission, number: int) -> dict[str, Any]:
    """What submitit's SlurmExecutor is given for a group."""
    needs = submitted.groups[number].resources
    environment = submitted.environment()
    code = shlex.quote(environment.pop("PYTHONPATH"))
    exports = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    # Behind the cluster file's own commands, which may change it ("module load").
    exports.append(f'export PYTHONPATH={code}"${{PYTHONPATH:+:$PYTHONPATH}}"')
    partition = needs["partition"] or os.environ.get("SBATCH_PARTITION")
    exports.append(f"export {bad_nodes.SPARE}={bad_nodes.spare_nodes(partition)}")
    optional = ("partition", "account", "qos", "constraint", "exclude", "gpus_per_node")
    return {
        "job_name": submitted.job_name(number),
        "time": needs["timeout_min"],
        "nodes": 1,
        "ntasks_per_node": 1,
        "cpus_per_task": needs["cpus_per_task"],
        "mem": f"{round(needs['mem_gb'] * 1024)}M",
        "signal_delay_s": needs["signal_delay_s"],
        "array_parallelism": needs["parallelism"],
        # Since Slurm 22.05 srun does not take this over from sbatch: a worker would have one core.
        "srun_args": [f"--cpus-per-task={needs['cpus_per_task']}"],
        "stderr_to_stdout": True,  # one log, in which a traceback stands below its run
        "setup": [*needs["setup"], *exports],
        "teardown": bad_nodes.teardown(submitted, number),
        "additional_parameters": {"requeue": True},  # also where the cluster's default is not to
        **{name: needs[name] for name in optional if needs[name]},
    }


def _submit_group(submitted: Submission, number: int) -> list[str]:
    """Submit the workers of a group; the ids of their jobs."""
    worker, group = WorkerJob(str(submitted.folder), number), submitted.groups[number]
    # What the cluster file says goes over a variable of sbatch's, which would go over the script.
    named = [f"SBATCH_{name.upper()}" for name, value in group.resources.items() if value]
    with nothing_inherited(*named):
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            jobs = _executor(submitted, number).submit_array([worker] * group.workers)
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            said = " ".join(str(error).split())
            raise ZiaError(f"Slurm refused the jobs of {submitted.folder}: {said:.500}") from error
    return [str(job.job_id) for job in jobs]


def _script(submitted: Submission, number: int) -> str:
    """The sbatch script of a group, as submitit writes it."""
    workers = submitted.groups[number].workers
    with nothing_inherited():
        executor = _executor(submitted, number)
        if workers > 1:
            executor.parameters["map_count"] = workers
        return executor._make_submission_file_text(executor._submitit_command_str, "")


def _executor(submitted: Submission, number: int) -> Any:
    from submitit import SlurmExecutor

    class Executor(SlurmExecutor):
        """One that can also be made where there is no Slurm, to show the script."""

        @classmethod
        def affinity(cls) -> int:
            return 2

    python = shlex.join([*DEAF_TO_USR2, sys.executable])
    executor = Executor(submitted.folder / LOGS, max_num_timeout=TIMEOUTS, python=python)
    executor.update_parameters(**parameters(submitted, number))
    return executor
