"""The commands of `zia` that give runs to workers and manage them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli.options import (
    FRESH,
    PUBLISHED,
    RUNS,
    AnyExperiment,
    Backbone,
    Device,
    Encoder,
    OutFolder,
    Profile,
    Retry,
    Runs,
    Template,
    chosen_models,
    retry_failed,
)
from experiments.harness.setting_bounds import MAX_THREADS
from experiments.io.output import tell

if TYPE_CHECKING:
    from experiments.dispatch.submission import Request

EXECUTORS = ("inprocess", "local", "slurm")
ALL = "all"
MAX_WORKERS = 1024  # processes on one machine

retry_app = typer.Typer(help="Repeat runs.", add_completion=False)


def reproduce(
    experiment: AnyExperiment = None,
    profile: Profile = "mini",
    executor: Annotated[
        str, typer.Option(metavar="E", help="inprocess, local (several processes) or slurm.")
    ] = "local",
    device: Device = "auto",
    backbone: Backbone = None,
    encoder: Encoder = None,
    template: Template = None,
    runs: Runs = RUNS,
    out: OutFolder = FRESH,
    retry: Retry = None,
    seeds: Annotated[
        str, typer.Option(metavar="first|all", help="The first stage, one seed of most, or all.")
    ] = "all",
    reselect: Annotated[
        bool, typer.Option("--reselect", help="Redo published choices of rates and lengths.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=MAX_WORKERS, help="local: processes.")
    ] = None,
    gpus: Annotated[str | None, typer.Option(metavar="0,1", help="local: GPUs to use.")] = None,
    threads: Annotated[
        int | None,
        typer.Option(metavar="T", min=1, max=MAX_THREADS, help="local: threads per worker."),
    ] = None,
    cluster: Annotated[
        Path | None, typer.Option(metavar="FILE", help="slurm: resources; or $ZIA_CLUSTER.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="slurm: show a table until all jobs end.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="slurm: print plan and scripts, submit nothing.")
    ] = False,
) -> None:
    """Do all missing runs of a profile, then make tables and report.

    Also figures and claims. `zia plan` says how long it takes. Stop it at any moment: the same
    command continues.
    """
    from experiments.dispatch import final_report, in_process
    from experiments.dispatch.submission import Request
    from experiments.harness import plan as planning
    from experiments.harness import publish, run_paths
    from experiments.harness import stage as stages
    from experiments.harness.registry import check_choice
    from experiments.report.claims.summary import summary

    check_choice("executor", executor, EXECUTORS)
    check_choice("choice of seeds", seeds, stages.SEEDS)
    _refuse_options_of_others(
        executor,
        local={"--workers": workers, "--gpus": gpus, "--threads": threads},
        slurm={"--cluster": cluster, "--wait": wait or None, "--dry-run": dry_run or None},
    )
    again = retry_failed(retry)
    if executor == "slurm":
        from experiments.dispatch import cluster_file as clusters

        asked = clusters.read(cluster)
        device = asked.device(device, profile)
    else:
        device = planning.device_of(device, experiment, profile)
    models = chosen_models(backbone, encoder, template)
    gpus_a_job = 1
    if executor == "slurm":
        gpus_a_job = asked.gpus_for_shards(experiment, profile, device, models)
    stage = stages.Stage(seeds, reselect)
    specs = stage.of(planning.planned(experiment, profile, device, models, gpus_a_job))
    if not specs:
        tell(f"The profile {profile} has no runs yet; these are the results of {PUBLISHED}.")
        _report(PUBLISHED, out)
        return tell(out)
    if not dry_run:
        final_report.check(out)
        run_paths.check_writable(runs)
        if not reselect and (taken := stages.take_choices(specs, PUBLISHED, runs)):
            tell(f"{taken} runs that choose rates are the published ones; --reselect redoes them")
    if executor == "inprocess":
        code = in_process.run_all(specs, runs, retry_failed=again)
        if code in (in_process.EXIT_DONE, in_process.EXIT_FAILED):
            _report(runs, out)
    else:
        request = Request(
            experiment,
            profile,
            device,
            runs.absolute(),
            out.absolute(),
            stage,
            models,
            gpus_a_job,
        )
        if again and not dry_run:
            _make_pending(request)
        if executor == "local":
            from experiments.dispatch import local

            code = local.reproduce(
                request, local.choose_workers(device, workers, gpus, threads, request.specs())
            )
        else:
            from experiments.dispatch import slurm

            if dry_run:
                return tell(*slurm.dry_run(request, asked))
            ended = slurm.reproduce(request, asked, wait=wait)
            if ended is None:
                return None
            code = ended
    if code in (in_process.EXIT_DONE, in_process.EXIT_FAILED):
        done_here = specs if reselect else [each for each in specs if not stages.is_choice(each)]
        for sentence in publish.compare(done_here, runs, PUBLISHED):
            tell(sentence)
        for line in summary(PUBLISHED, profile):
            tell(line)
        tell(out)
    raise typer.Exit(code)


def worker(
    experiment: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="One, or all.")],
    profile: Profile = "mini",
    device: Device = "auto",
    backbone: Backbone = None,
    encoder: Encoder = None,
    template: Template = None,
    runs: Runs = RUNS,
    minutes: Annotated[
        float | None, typer.Option(metavar="N", min=0, help="Stop at a step after this time.")
    ] = None,
    retry: Retry = None,
) -> None:
    """Do missing runs one after another, alongside other workers."""
    from experiments.dispatch import cluster_file, job
    from experiments.dispatch.stop_signals import WORKER_SIGNALS, StopSignals
    from experiments.dispatch.submission import Request
    from experiments.dispatch.worker import Worker
    from experiments.harness import plan as planning
    from experiments.harness import run_paths

    again = retry_failed(retry)
    one = None if experiment == ALL else experiment
    where = planning.device_of(device, one, profile)
    models = chosen_models(backbone, encoder, template)
    gpus = cluster_file.read(None).gpus_for_shards(one, profile, where, models)
    request = Request(one, profile, where, runs, FRESH, models=models, gpus=gpus)
    specs = request.specs()
    run_paths.check_writable(runs)
    if again:
        _make_pending(request)
    stop = StopSignals(WORKER_SIGNALS, patient=True)
    seconds = None if minutes is None else 60 * minutes
    with stop.handled():
        summary = Worker(runs, stop, seconds=seconds).work(specs)
    tell(summary)
    raise typer.Exit(job.exit_code(summary, stop))


def cancel(
    submission: Annotated[
        str | None, typer.Argument(metavar="SUBMISSION", help="One submission; all by default.")
    ] = None,
    runs: Runs = RUNS,
) -> None:
    """Cancel jobs and workers; each saves its run at the next step."""
    from experiments.dispatch import active_jobs

    sentence = ""
    for sentence in active_jobs.cancel(runs, submission):
        tell(f"cancelled {sentence}")
    if not sentence:
        tell(f"nobody works on runs in {runs}")


def logs(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Its folder, or its id.")],
    runs: Runs = RUNS,
) -> None:
    """Print the workers' log of a run."""
    from experiments.dispatch import worker_logs

    for line in worker_logs.lines(runs, worker_logs.find(runs, run)):
        tell(line)


@retry_app.command("failed")
def retry_failed_runs(
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Only those whose reason contains this.")
    ] = "",
    runs: Runs = RUNS,
) -> None:
    """Mark failed runs as pending, for the next worker."""
    from experiments.dispatch import retries
    from experiments.harness import run_paths

    marked = retries.make_pending(run_paths.folders(runs), reason)
    for folder in marked:
        tell(folder)
    if marked:
        tell(f"{len(marked)} failed runs are pending again: `zia reproduce` repeats them")
    else:
        tell(f"no run in {runs} has failed{f' with {reason!r} in its reason' if reason else ''}")


def _make_pending(request: "Request") -> None:
    from experiments.dispatch import retries
    from experiments.dispatch.worker import name_of

    folders = [request.runs_root / name_of(spec) for spec in request.specs()]
    tell(f"{len(retries.make_pending(folders))} failed runs are pending again")


def _report(runs: Path, out: Path) -> None:
    from experiments.dispatch import final_report

    for line in final_report.make(runs, out):
        tell(line)


def _refuse_options_of_others(executor: str, **options: dict[str, object]) -> None:
    """Raise InvalidChoiceError for an option of another executor."""
    from experiments.harness.registry import InvalidChoiceError

    for owner, given in options.items():
        for name, value in given.items():
            if value is not None and owner != executor:
                raise InvalidChoiceError(f"{name} goes with --executor {owner} only")
