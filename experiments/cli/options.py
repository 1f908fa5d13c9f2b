"""Options shared by several commands of `zia`, and the default folders."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from experiments.harness.experiment import Models

RUNS = Path("results/runs")

ExperimentName = Annotated[str, typer.Argument(metavar="EXPERIMENT", help="One of `zia list`.")]
AnyExperiment = Annotated[
    str | None, typer.Argument(metavar="EXPERIMENT", help="One experiment; all by default.")
]
Profile = Annotated[str, typer.Option(metavar="P", help="mini, small or paper.")]
Device = Annotated[str, typer.Option(metavar="D", help="auto, cpu or cuda.")]
Gpu = Annotated[
    str, typer.Option(metavar="G", help="The GPU to predict for: a100, a100-40gb, h100, ...")
]
ClusterFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Resources of jobs; or $ZIA_CLUSTER.")
]
Backbone = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FOLDER|OWNER/NAME@REVISION",
        help="Another model than the profile's; for one experiment.",
    ),
]
Encoder = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FOLDER|OWNER/NAME@REVISION",
        help="Another encoder of images, for a language model.",
    ),
]
Template = Annotated[
    str | None,
    typer.Option(
        metavar="paper|chat",
        help="Prompts of alpaca_llama: the paper's, or the tokenizer's chat template.",
    ),
]


def there(runs: Path) -> Path:
    """Refuse a mistyped folder, or one without runs; the default one may not be there yet."""
    from experiments.harness.run_paths import check_holds_runs

    if runs != RUNS:
        try:
            check_holds_runs(runs)
        except ZiaError as error:
            raise typer.BadParameter(str(error)) from error
    return runs


Runs = Annotated[Path, typer.Option(metavar="DIR", help="Folder of runs, or of archives.")]
ReadRuns = Annotated[
    Path, typer.Option(metavar="DIR", help="Folder of runs, or of archives.", callback=there)
]
OutFolder = Annotated[Path, typer.Option(metavar="DIR", help="Folder for the output.")]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder for the output; default: in results from published runs, else results/fresh.",
    ),
]
Retry = Annotated[
    str | None, typer.Option(metavar="failed", help="failed: also repeat failed runs.")
]
KeepGoing = Annotated[
    bool, typer.Option("--keep-going", help="Leave out damaged runs and name them.")
]
LOCK = Path("hub.lock.json")
LockFile = Annotated[
    Path, typer.Option("--lock", metavar="FILE", help="Of `zia fetch`: revisions and hashes.")
]
RESULTS = Path("results")
PUBLISHED = RESULTS / "published"
FRESH = RESULTS / "fresh"  # not committed, unlike what is made from published runs


def chosen_models(
    backbone: str | None, encoder: str | None, template: str | None, lock: Path = LOCK
) -> "Models":
    """The models of `--backbone` and `--encoder`, and the template.

    Folders are absolute, for workers elsewhere. A repository of the hub without a revision has the
    one in the lock file, if it is there.
    """
    from experiments.fetch.lock import Lock
    from experiments.harness.experiment import Models

    def anywhere(asked: str | None) -> str | None:
        if asked is None or Path(asked).expanduser().is_dir():
            return asked and str(Path(asked).expanduser().absolute())
        entry = Lock.read(lock).get("models", asked)
        return f"{asked}@{entry['revision']}" if entry else asked

    return Models(anywhere(backbone), anywhere(encoder), template)


def output_folder(out: Path | None, runs: Path, name: str = "") -> Path:
    """`out`; by default the folder `name` in RESULTS for published runs, in FRESH for others."""
    if out is not None:
        return out
    return (RESULTS if runs.resolve() == PUBLISHED.resolve() else FRESH) / name


def retry_failed(retry: str | None) -> bool:
    """Whether `--retry failed` was given; InvalidChoiceError for any other word."""
    from experiments.harness.plan import RETRIES
    from experiments.harness.registry import check_choice

    if retry is not None:
        check_choice("kind of run to retry", retry, RETRIES)
    return retry is not None
