"""The command `zia fetch`."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from experiments.cli.options import (
    LOCK,
    AnyExperiment,
    Backbone,
    Device,
    Encoder,
    LockFile,
    Profile,
    Template,
    chosen_models,
)
from experiments.io.output import tell


def fetch(
    experiment: AnyExperiment = None,
    profile: Profile = "mini",
    device: Device = "auto",
    backbone: Backbone = None,
    encoder: Encoder = None,
    template: Template = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Folder with archives of data sets you have."),
    ] = None,
    lock: LockFile = LOCK,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be fetched, and how much.")
    ] = False,
) -> None:
    """Fetch the weights and data of a profile.

    Run it where there is a network. It resumes, verifies, and says what is left to do by hand.
    """
    from experiments.fetch.command import Plan
    from experiments.fetch.from_folder import held_files
    from experiments.fetch.lock import Lock
    from experiments.harness import plan as planning
    from experiments.harness import registry
    from experiments.harness.needs import together

    where = planning.device_of(device, experiment, profile, only_look=True)
    models = chosen_models(backbone, encoder, template, lock)
    specs = planning.with_requirements(planning.planned(experiment, profile, where, models))
    needs = together(registry.get(spec.experiment).needs(spec) for spec in specs)
    with ExitStack() as block:
        held = block.enter_context(held_files(source)) if source is not None else []
        plan = Plan(Lock.read(lock), held)
        plan.add(needs)
        plan.show()
        if not dry_run:
            plan.check_room()
            plan.fetch()
    for sentence in plan.remarks:
        tell(f"optional: {sentence}")
    for sentence in plan.problems:
        tell(f"problem: {sentence}")
    raise typer.Exit(1 if plan.problems else 0)
