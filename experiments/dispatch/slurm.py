"""Submit workers to Slurm: one job array for all missing runs with equal resources."""

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
from experiments.dispatch.active_jobs import ActiveJobs, ActiveSubmission, active_submissions
from experiments.dispatch.cluster_file import Cluster, Resources
from experiments.dispatch.job_environment import clean_environment
from experiments.dispatch.slurm_job import WorkerJob
from experiments.dispatch.submission import LOGS, Group, Request, Submission
from experiments.dispatch.worker import name_of
from experiments.harness.provenance import PROJECT
from experiments.harness.spec import RunSpec
from experiments.io.output import say, tell
from zia_core.errors import ZiaError

# submitit gives up a job after this many time-outs, and counts each USR2 of a short job as one.
# slurm_job.is_worth_restarting decides instead.
TIMEOUTS = 1_000_000
# USR2 would kill a Python that is still starting, and so the job. Ignoring it is safe: Slurm
# requeues preempted jobs itself.
IGNORING_USR2 = ("/bin/sh", "-c", 'trap "" USR2; exec "$0" "$@"')


def plan_groups(
    specs: Sequence[RunSpec], cluster: Cluster, device: str
) -> list[tuple[Group, Resources]]:
    """Group the runs by resources, each group with as many workers as it can use."""
    by_resources: dict[Resources, list[str]] = {}
    for spec in specs:
        by_resources.setdefault(cluster.resources(spec, device), []).append(name_of(spec))
    return [
        (Group(tuple(names), min(needs.workers, len(names)), asdict(needs)), needs)
        for needs, names in by_resources.items()
    ]


def reproduce(request: Request, cluster: Cluster, *, wait: bool) -> int | None:
    """Submit what is missing; return None at once or, with `wait`, the exit code when jobs ended.

    If nothing is missing, make tables, figures and claims here.
    """
    submitted = submit(request, cluster)
    names = [name_of(spec) for spec in request.specs()]
    if not submission.missing(request.specs(), request.runs_root):
        return final_report.finish(request)
    if not wait:
        return None
    queue = ActiveJobs(request.runs_root)
    try:
        live_view.follow(
            names,
            request.runs_root,
            lambda: bool(queue.current()) or not queue.slurm_answers,
            lambda: (
                "; ".join(map(str, queue.current()))
                if queue.slurm_answers
                else "Slurm does not answer"
            ),
        )
    except KeyboardInterrupt:
        say("the jobs continue: `zia status` shows them, `zia cancel` ends them")
        return 128 + signal.SIGINT
    return final_report.finish(request, submitted)


def submit(request: Request, cluster: Cluster) -> Submission | None:
    """Submit workers for the missing runs that are not assigned to a queued or running job.

    Prints what is submitted and what was queued before; returns None if nothing is to submit.
    Raises ZiaError if Slurm refuses; earlier groups stay submitted.
    """
    check_path(request.runs_root)
    with submission.submission_lock(request.runs_root):
        missing = submission.missing(request.specs(), request.runs_root)
        working = active_submissions(request.runs_root, squeue.jobs())
        for work in working:
            tell(f"there already: {work}")
        groups = plan_groups(_unassigned(missing, working), cluster, request.device)
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
    """Yield what `submit` would do, and the scripts. Writes nothing and needs no Slurm."""
    check_path(request.runs_root)
    missing = submission.missing(request.specs(), request.runs_root)
    working = active_submissions(request.runs_root, squeue.jobs_if_known() or [])
    yield from (f"there already: {work}" for work in working)
    specs = _unassigned(missing, working)
    groups = plan_groups(specs, cluster, request.device)
    code = code_snapshot.read_code(PROJECT)
    submitted = submission.describe(request, "slurm", code, [group for group, _ in groups])
    for number, (group, _) in enumerate(groups):
        yield f"{len(group.runs)} runs: {describe_group(group)}"
        yield from (f"  {name}" for name in group.runs)
        yield _script(submitted, number)
    yield f"{len(specs)} runs would be submitted, {len(missing) - len(specs)} are queued already"


def _unassigned(missing: Sequence[RunSpec], working: Sequence[ActiveSubmission]) -> list[RunSpec]:
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
    """Raise ZiaError if a batch script cannot contain the path of the folder of runs."""
    submission.check_path(runs_root)
    # In log names, Slurm and submitit substitute %j and the like, and Slurm interprets backslashes:
    # such a job would end at once, without a log.
    if set("%\\") & set(str(runs_root)) or not str(runs_root).isprintable():
        raise ZiaError(
            f"the folder of runs {str(runs_root)!r} has a %, a backslash or a control character in "
            "its name, and Slurm cannot write logs there: use --runs with another"
        )


def parameters(submitted: Submission, number: int) -> dict[str, Any]:
    """The parameters of submitit's SlurmExecutor for a group."""
    needs = submitted.groups[number].resources
    environment = submitted.environment()
    code = shlex.quote(environment.pop("PYTHONPATH"))
    exports = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    # After the commands of the cluster file, which may change it ("module load").
    exports.append(f'export PYTHONPATH={code}"${{PYTHONPATH:+:$PYTHONPATH}}"')
    partition = needs["partition"] or os.environ.get("SBATCH_PARTITION")
    exports.append(f"export {bad_nodes.SPARE_NODES}={bad_nodes.max_bad_nodes(partition)}")
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
        # Since Slurm 22.05 srun does not inherit this from sbatch: a worker would have one core.
        "srun_args": [f"--cpus-per-task={needs['cpus_per_task']}"],
        "stderr_to_stdout": True,  # one log, with tracebacks below their runs
        "setup": [*needs["setup"], *exports],
        "teardown": bad_nodes.teardown(submitted, number),
        "additional_parameters": {"requeue": True},  # even if that is not the cluster's default
        **{name: needs[name] for name in optional if needs[name]},
    }


def _submit_group(submitted: Submission, number: int) -> list[str]:
    """Submit the workers of a group; return the ids of their jobs."""
    worker, group = WorkerJob(str(submitted.folder), number), submitted.groups[number]
    # Variables of sbatch would override the script, and so the cluster file.
    named = [f"SBATCH_{name.upper()}" for name, value in group.resources.items() if value]
    with clean_environment(*named):
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
    with clean_environment():
        executor = _executor(submitted, number)
        if workers > 1:
            executor.parameters["map_count"] = workers
        return executor._make_submission_file_text(executor._submitit_command_str, "")


def _executor(submitted: Submission, number: int) -> Any:
    from submitit import SlurmExecutor

    class Executor(SlurmExecutor):
        """Can be created without Slurm, to show the script."""

        @classmethod
        def affinity(cls) -> int:
            return 2

    python = shlex.join([*IGNORING_USR2, sys.executable])
    executor = Executor(submitted.folder / LOGS, max_num_timeout=TIMEOUTS, python=python)
    executor.update_parameters(**parameters(submitted, number))
    return executor
