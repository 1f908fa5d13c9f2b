"""The command `zia rehearse`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli.dispatch import EXECUTORS, MAX_WORKERS
from experiments.cli.options import (
    RESULTS,
    AnyExperiment,
    Backbone,
    ClusterFile,
    Device,
    Encoder,
    Profile,
    Template,
    chosen_models,
)
from experiments.io.output import say, tell

if TYPE_CHECKING:
    from experiments.dispatch.cluster_file import Cluster
    from experiments.dispatch.submission import Request

FOLDER = RESULTS / "rehearsal"
GENERATED = "mini"  # the profile that brings its data and models


def rehearse(
    experiment: AnyExperiment = None,
    profile: Profile = "paper",
    executor: Annotated[
        str, typer.Option(metavar="E", help="inprocess, local (several processes) or slurm.")
    ] = "local",
    device: Device = "auto",
    backbone: Backbone = None,
    encoder: Encoder = None,
    template: Template = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Default: results/rehearsal/PROFILE.")
    ] = None,
    real_weights: Annotated[
        bool, typer.Option("--real-weights", help="The real models instead of tiny twins.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=MAX_WORKERS, help="local: processes.")
    ] = None,
    cluster: ClusterFile = None,
) -> None:
    """Try every method on every task of a profile for two steps.

    Each run trains a step, is stopped, resumes, is evaluated and tabulated; a worker is killed in
    one of them. Backbones are tiny twins and missing data are generated; both are listed. Nothing
    counts as a result. Exit code 1 if a run fails.
    """
    import os

    from experiments.dispatch import cluster_file, rehearsed_runs
    from experiments.dispatch.submission import Request
    from experiments.harness import plan as planning
    from experiments.harness import rehearsal
    from experiments.harness.registry import InvalidChoiceError, check_choice
    from experiments.rehearsal.places import Places

    check_choice("executor", executor, EXECUTORS)
    if profile == GENERATED:
        raise InvalidChoiceError(
            f"{GENERATED} brings its data and models, and takes minutes: use `zia reproduce`"
        )
    if cluster is not None:
        os.environ[cluster_file.VARIABLE] = str(cluster.absolute())  # for the killed worker
    resources = cluster_file.read(cluster)
    if executor == "slurm":
        device = resources.device(device, profile)
    elif device == "auto":
        device = planning.resolve_device(device)
    name = rehearsal.profile_of(profile)
    places = Places((folder or FOLDER / profile).absolute())
    models = chosen_models(backbone, encoder, template)
    if not real_weights:
        models, lines = places.twins_of(models)
        for line in lines:
            tell(line)
    gpus = resources.gpus_for_shards(experiment, profile, device, models)
    planned = planning.planned(experiment, profile, device, models, gpus)
    for line in places.prepare(planned, real_weights=real_weights):
        tell(line)
    places.use(real_weights=real_weights)
    request = Request(experiment, name, device, places.runs, places.out, models=models, gpus=gpus)
    states = {planning.inspect(spec, places.runs).state for spec in request.specs()}
    if states <= {"done", "failed"}:  # else the same command continues
        places.clear_runs()
    if executor == "slurm":
        execute: Callable[[Request], None] = partial(_on_slurm, resources)
    elif executor == "local":
        execute = partial(rehearsed_runs.in_workers, workers=workers)
    else:
        execute = rehearsed_runs.in_this_process
    faults = list(rehearsed_runs.rehearse(request, execute, kill=executor != "slurm"))
    for fault in faults:
        say(fault)
    raise typer.Exit(1 if faults else 0)


def _on_slurm(resources: "Cluster", request: "Request") -> None:
    from experiments.dispatch import slurm

    slurm.reproduce(request, resources, wait=True)
