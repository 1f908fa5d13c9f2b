"""The command line `zia`. Commands import what is slow to import when they run."""

import errno
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.cli import bench, dispatch, rehearse
from experiments.cli.check import check
from experiments.cli.fetch import fetch
from experiments.cli.generate import generate
from experiments.cli.options import (
    PUBLISHED,
    RUNS,
    AnyExperiment,
    Backbone,
    ClusterFile,
    Device,
    Encoder,
    ExperimentName,
    Gpu,
    KeepGoing,
    Out,
    Profile,
    ReadRuns,
    Retry,
    Runs,
    Template,
    chosen_models,
    output_folder,
    retry_failed,
    there,
)
from experiments.cli.score import app as score
from experiments.dispatch.job_environment import forget_ranks
from experiments.harness.gpus import DEFAULT as DEFAULT_GPU
from experiments.harness.gpus import UTILISATION
from experiments.io.output import guarded, say, tell
from zia_core.errors import ZiaError

app = typer.Typer(
    help="Plans, runs and reports the experiments of the LLaMA-Adapter paper.",
    epilog="Add --debug to any command to see where an error comes from.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(score, name="score")

# Commands whose output is all they do: they fail if it cannot be printed.
PRINTING = frozenset({"check", "generate", "list", "logs", "plan", "score", "status", "verify"})
# Click's class, of which newer versions of typer have their own copy.
USAGE_ERROR: Any = typer.BadParameter.__base__


@app.callback()
def overview(context: typer.Context) -> None:
    """Show the help if no command is given."""
    if context.invoked_subcommand is None:
        tell(context.get_help())


@app.command("list")
def list_() -> None:
    """List the experiments with their profiles, tasks and methods."""
    from shutil import get_terminal_size
    from textwrap import fill

    from experiments.harness import registry

    width = max(40, get_terminal_size().columns)
    for experiment in registry.experiments().values():
        title = f"{experiment.name} (version {experiment.version}): {experiment.title}"
        tell(fill(title, width, subsequent_indent="    ", break_long_words=False))
        for kind in ("profiles", "tasks", "methods"):
            listed = f"  {kind:<8}  {', '.join(getattr(experiment, kind))}"
            tell(fill(listed, width, subsequent_indent=12 * " ", break_on_hyphens=False))


@app.command()
def plan(
    experiment: AnyExperiment = None,
    profile: Profile = "mini",
    device: Device = "auto",
    backbone: Backbone = None,
    encoder: Encoder = None,
    template: Template = None,
    runs: Runs = RUNS,
    every_run: Annotated[
        bool, typer.Option("--every-run", help="One line per run, even in large plans.")
    ] = False,
    cluster: ClusterFile = None,
    gpu: Gpu = DEFAULT_GPU,
    utilisation: Annotated[
        float,
        typer.Option(metavar="U", min=0.01, max=1, help="Share of the GPU's peak in training."),
    ] = UTILISATION,
) -> None:
    """Show the runs of a profile: state and expected cost."""
    from experiments.cli import plan_table
    from experiments.dispatch import cluster_file
    from experiments.harness import plan as planning

    where = planning.device_of(device, experiment, profile, only_look=True)
    models = chosen_models(backbone, encoder, template)
    gpus = cluster_file.read(cluster).gpus_for_shards(experiment, profile, where, models)
    specs = planning.planned(experiment, profile, where, models, gpus)
    found = plan_table.on_gpu(planning.inspect_all(specs, runs, models), gpu, utilisation, gpus)
    plan_table.show(found, every_run=every_run)


@app.command()
def run(
    experiment: ExperimentName,
    method: Annotated[str | None, typer.Option(metavar="M", help="A method of `zia list`.")] = None,
    task: Annotated[str | None, typer.Option(metavar="T", help="A task of `zia list`.")] = None,
    profile: Profile = "mini",
    seed: Annotated[int | None, typer.Option(metavar="S", help="Default: the plan's.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated."),
    ] = None,
    device: Device = "auto",
    backbone: Backbone = None,
    encoder: Encoder = None,
    template: Template = None,
    runs: Runs = RUNS,
    retry: Retry = None,
) -> None:
    """Do one run of the plan here, with a progress bar."""
    from experiments.dispatch import in_process
    from experiments.harness import plan as planning

    spec = planning.choose(
        experiment,
        profile,
        planning.device_of(device, experiment, profile),
        task=task,
        method=method,
        seed=seed,
        settings=_pairs(settings or []),
        models=chosen_models(backbone, encoder, template),
    )
    planning.check_device(spec)
    raise typer.Exit(in_process.run_all([spec], runs, retry_failed=retry_failed(retry)))


app.command()(fetch)
app.command()(check)
app.command()(dispatch.reproduce)
app.command()(rehearse.rehearse)


@app.command()
def pretrain(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="llama, roberta, vit or pocket_vit.")
    ],
    device: Device = "auto",
    runs: Runs = RUNS,
    retry: Retry = None,
) -> None:
    """Train one of the project's own backbones from scratch."""
    from experiments.dispatch import in_process
    from experiments.harness import plan as planning
    from experiments.harness import registry

    prefix = "pretrain_"
    own = [name for name in registry.experiments() if name.startswith(prefix)]
    registry.check_choice("model", model, [name.removeprefix(prefix) for name in own])
    specs = planning.planned(prefix + model, "pretrain", planning.resolve_device(device))
    raise typer.Exit(in_process.run_all(specs, runs, retry_failed=retry_failed(retry)))


@app.command("status")
def status_(
    runs: Runs = RUNS,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until Ctrl-C.")] = False,
) -> None:
    """Show every run: state, progress, loss, ETA, host."""
    from experiments.dispatch import status_table

    status_table.show(runs, watch=watch)


app.command()(dispatch.worker)
app.command()(dispatch.cancel)
app.command()(dispatch.logs)
app.add_typer(dispatch.retry_app, name="retry")


@app.command()
def tables(
    runs: ReadRuns = RUNS,
    out: Out = None,
    keep_going: KeepGoing = False,
    explain: Annotated[
        tuple[str, str, str] | None,
        typer.Option(metavar="TABLE ROW COLUMN", help="Only name the runs that a cell comes from."),
    ] = None,
) -> None:
    """Make the paper's tables beside ours, from run folders."""
    from experiments.report.tables import write as report

    if explain is not None:
        for line in report.explain([runs], *explain, keep_going=keep_going):
            tell(line)
        return
    for path in report.write_tables(
        [runs], output_folder(out, runs, "tables"), keep_going=keep_going
    ):
        tell(path)


@app.command()
def figures(runs: ReadRuns = RUNS, out: Out = None, keep_going: KeepGoing = False) -> None:
    """Draw the figures whose runs exist, from run folders."""
    from experiments.report.figures.write import write_figures

    folder = output_folder(out, runs, "figures")
    written, left_out = write_figures([runs], folder, keep_going=keep_going)
    for line in (*written, *left_out):
        tell(line)


@app.command()
def claims(runs: ReadRuns = RUNS, out: Out = None, keep_going: KeepGoing = False) -> None:
    """Test the paper's claims against run folders."""
    from experiments.report.claims.write import write_claims

    folder = output_folder(out, runs, "tables")
    path, lines = write_claims([runs], folder, keep_going=keep_going)
    for line in (*lines, path):
        tell(line)


@app.command()
def report(runs: ReadRuns = RUNS, out: Out = None, keep_going: KeepGoing = False) -> None:
    """Write report.html: claims, tables, figures and every run."""
    from experiments.report.html.report import write_report

    tell(write_report([runs], output_folder(out, runs), keep_going=keep_going))


@app.command()
def readme(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="Markdown; default: all READMEs.")
    ] = None,
    runs: ReadRuns = PUBLISHED,
    keep_going: KeepGoing = False,
) -> None:
    """Fill the marked blocks of READMEs from run folders."""
    from experiments.report.readme import marked, update

    for path in update(files or marked(Path()), [runs], keep_going=keep_going):
        tell(path)


app.command()(generate)
app.command()(bench.bench)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run, or a folder of runs.")],
    sealing: Annotated[
        bool, typer.Option("--seal", help="Seal finished runs that have no seal.")
    ] = False,
) -> None:
    """Check all files of runs, and recompute their metrics."""
    from experiments.harness import verify as verification

    findings = verification.verify(folder, sealing=sealing)
    tell(verification.report(findings))
    raise typer.Exit(1 if any(finding.outcome == "failed" for finding in findings) else 0)


@app.command()
def publish(
    runs: Annotated[
        Path, typer.Argument(metavar="RUNS", help="The folder of runs.", callback=there)
    ],
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="Where evidence is kept.")],
    timed: Annotated[
        bool,
        typer.Option(
            "--timed/--not-timed", help="Not timed: beside other work, so tables show no times."
        ),
    ] = True,
) -> None:
    """Copy finished runs that are whole, scrubbed, without weights."""
    from experiments.harness import publish as publishing

    published = publishing.publish(runs, destination, timed=timed)
    for folder in published:
        tell(folder)
    if not published:
        tell(f"nothing new: {runs} has no finished run folder that is not in {destination}")


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="An adapter: file or folder.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.")],
    kind: Annotated[
        str, typer.Option("--from", metavar="KIND", help="llama-adapter, peft, litgpt or zia.")
    ],
    model: Annotated[str, typer.Option(metavar="M", help="Folder or hub name of its base model.")],
    prompt_length: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="For llama-adapter: prompts per layer.")
    ] = None,
    tanh: Annotated[
        bool | None,
        typer.Option("--tanh/--no-tanh", help="For llama-adapter: as its gates were trained."),
    ] = None,
) -> None:
    """Convert adapters of other projects, or write one for PEFT."""
    from zia_core.convert.command import convert

    tell(convert(source, model, out, kind, prompt_length, tanh))


def _pairs(settings: list[str]) -> dict[str, str]:
    """Parse KEY=VALUE texts; values may contain equals signs."""
    for setting in settings:
        if "=" not in setting:
            raise typer.BadParameter(f"{setting!r} is not KEY=VALUE", param_hint="--set")
    return dict(setting.split("=", 1) for setting in settings)


def main() -> None:
    """Run `zia`; exit code 2 for a usage error, 1 for any other failure."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    forget_ranks()
    with guarded() as stdout:
        code = _exit_code(arguments, debug=len(arguments) < len(sys.argv) - 1)
        stdout.flush()
        if stdout.error is not None and not code and PRINTING & {*arguments[:1]}:
            code = _not_printed(stdout.error)
    sys.exit(code)


def _exit_code(arguments: list[str], *, debug: bool) -> int:
    try:
        _refuse_empty(arguments)
        return app(arguments, prog_name="zia", standalone_mode=False) or 0
    except USAGE_ERROR as error:
        return _refuse(_with_choices(error), 2)
    except typer.Abort:  # Ctrl-C in a command without runs
        return 128 + signal.SIGINT
    except ZiaError as error:
        from experiments.harness.registry import InvalidChoiceError

        if debug:
            raise
        return _refuse(str(error), 2 if isinstance(error, InvalidChoiceError) else 1)


def _refuse_empty(arguments: list[str]) -> None:
    """Raise BadParameter: as a path an empty text would be the current folder, unasked."""
    for before, argument in zip(["zia", *arguments], arguments, strict=False):
        name, equals, value = argument.partition("=")
        if not argument or (name.startswith("--") and equals and not value):
            given = argument or '""'
            raise typer.BadParameter(f"{given} after {before} is empty; is a variable unset?")


def _not_printed(error: OSError) -> int:
    """The exit code if output was lost; no message if the reader closed the pipe."""
    if error.errno == errno.EPIPE:
        return 128 + signal.SIGPIPE
    return _refuse(f"cannot write to stdout: {error.strerror}", 1)


def _refuse(sentence: str, code: int) -> int:
    say(f"zia: {sentence}")
    return code


def _with_choices(error: Any) -> str:
    """The message of a usage error; for an unknown command or option, with the known ones."""
    sentence = str(error.format_message()).rstrip(".")
    if error.ctx is None or isinstance(error, typer.BadParameter):  # or a missing argument
        return sentence
    command = error.ctx.command
    names = getattr(command, "commands", None) or [
        name for option in command.params for name in option.opts if name.startswith("--")
    ]
    return f"{sentence}; `{error.ctx.command_path}` has: {', '.join(names)}"
