"""The command `zia check`."""

import typer

from experiments.cli.options import (
    LOCK,
    RUNS,
    AnyExperiment,
    Backbone,
    ClusterFile,
    Device,
    Encoder,
    Gpu,
    LockFile,
    Profile,
    Runs,
    Template,
    chosen_models,
)
from experiments.harness.gpus import DEFAULT
from experiments.io.output import tell


def check(
    experiment: AnyExperiment = None,
    profile: Profile = "mini",
    device: Device = "auto",
    backbone: Backbone = None,
    encoder: Encoder = None,
    template: Template = None,
    runs: Runs = RUNS,
    cluster: ClusterFile = None,
    gpu: Gpu = DEFAULT,
    lock: LockFile = LOCK,
) -> None:
    """Check weights, data, memory, disk and Slurm before running."""
    import os

    from experiments.dispatch import cluster_file, readiness
    from experiments.fetch.lock import Lock
    from experiments.harness import plan as planning
    from experiments.harness.gpus import GPUS
    from experiments.harness.registry import check_choice

    check_choice("GPU", gpu, GPUS)
    asked = cluster_file.read(cluster)
    on_cluster = cluster is not None or bool(os.environ.get(cluster_file.VARIABLE))
    if device == "auto" and on_cluster:
        device = asked.device(device, profile)
    where = planning.device_of(device, experiment, profile, only_look=True)
    models = chosen_models(backbone, encoder, template, lock)
    gpus = asked.gpus_for_shards(experiment, profile, where, models)
    specs = planning.planned(experiment, profile, where, models, gpus)
    found, fetched = [], Lock.read(lock).model_files
    for group in readiness.groups(specs, asked, where, GPUS[gpu], fetched):
        tell(group.line(), *(f"  {problem}" for problem in group.problems))
        found.append(group)
    shared = list(readiness.shared_problems(found, runs, ask_slurm=on_cluster))
    if shared:
        tell(*shared)
    if shared or any(group.problems for group in found):
        raise typer.Exit(1)
