"""`zia score`: one metric alone, on files of predictions and references in their official formats.

Each command reads its files, plain or gzip, and prints numbers by their official names: as a table,
or with --json as one JSON object on stdout. Remarks go to stderr.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from experiments.io.output import say, tell

app = typer.Typer(help="Score files of predictions, in the official formats.")

Predictions = Annotated[Path, typer.Option(metavar="F", help="What a model answered.")]
References = Annotated[Path, typer.Option(metavar="F", help="The official file with the answers.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")]


@app.command()
def squad(
    predictions: Predictions,
    references: References,
    version: Annotated[str, typer.Option(metavar="V", help="1.1 or 2.0.", show_default=False)],
    missing: Annotated[
        str | None,
        typer.Option(metavar="zero", help="zero: in 2.0, a question without prediction scores 0."),
    ] = None,
    na_prob: Annotated[
        Path | None,
        typer.Option(metavar="F", help="2.0: how sure the model was that there is no answer."),
    ] = None,
    as_json: Json = False,
) -> None:
    """SQuAD: exact match and F1 of a JSON object {id: answer}."""
    from experiments.harness.registry import check_choice
    from experiments.metrics.squad.files import score_files
    from experiments.metrics.squad.official import VERSIONS, Version

    check_choice("version", version, VERSIONS, of="SQuAD")
    if missing is not None:
        check_choice("treatment of missing predictions", missing, ("zero",))
    if na_prob is not None and version == "1.1":
        raise typer.BadParameter(
            "version 1.1 has no unanswerable questions", param_hint="--na-prob"
        )
    scores, remarks = score_files(
        predictions,
        references,
        cast(Version, version),
        missing_is_zero=missing is not None,
        na_prob=na_prob,
    )
    show(scores, remarks, as_json=as_json)


@app.command()
def scienceqa(
    predictions: Annotated[Path, typer.Option(metavar="F", help="A result file.")],
    problems: Annotated[Path, typer.Option(metavar="F", help="problems.json, or a part of it.")],
    splits: Annotated[
        Path | None, typer.Option(metavar="F", help="pid_splits.json; default: the problems' own.")
    ] = None,
    stored_indices: Annotated[
        bool,
        typer.Option(
            "--stored-indices",
            help="Take the file's indices, drawn at random where an output cannot be parsed.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """ScienceQA: accuracy by class, in percent.

    The names and the -1 of a class without a question are the official scorer's. An output that
    does not say "The answer is X." once counts as wrong, and as unparsable.
    """
    from experiments.metrics.scienceqa.files import score_files

    show(
        *score_files(predictions, problems, splits, stored_indices=stored_indices),
        as_json=as_json,
    )


@app.command()
def coco(
    results: Annotated[Path, typer.Option(metavar="F", help="A list of image_id and caption.")],
    annotations: Annotated[Path, typer.Option(metavar="F", help="A captions_*.json of COCO.")],
    as_json: Json = False,
) -> None:
    """COCO captions: BLEU, ROUGE-L and CIDEr-D.

    In the official scorer's raw values: a CIDEr of 1.222 is what papers print as 122.2.
    """
    from experiments.metrics.coco.files import score_files

    show(*score_files(results, annotations), as_json=as_json)


@app.command()
def pairwise(
    reviews: Annotated[
        list[Path], typer.Option(metavar="F...", help="Review files; several for both orders.")
    ],
    more: Annotated[list[Path] | None, typer.Argument(metavar="F", hidden=True)] = None,
    as_json: Json = False,
) -> None:
    """Reviews of two models' answers: who won.

    In the files of Vicuna's 80 questions. Where a question was reviewed in both orders, also the
    verdict over both, and by how many points the judge favours what it sees first.
    """
    from experiments.metrics.pairwise.files import score_files

    show(*score_files([*reviews, *(more or [])]), as_json=as_json)


def show(scores: Mapping[str, Any], remarks: Sequence[str], *, as_json: bool) -> None:
    """Print numbers by name: whole ones as they are, the others with four decimals.

    Scores of several files are a mapping of mappings: then one table a file.
    """
    if as_json:
        tell(json.dumps(scores))
    else:
        _print_table(scores)
    for remark in remarks:
        say(remark)


def _print_table(scores: Mapping[str, Any], indent: str = "") -> None:
    parts = {name: value for name, value in scores.items() if isinstance(value, Mapping)}
    texts = {name: _text(value) for name, value in scores.items() if name not in parts}
    names, width = (max(map(len, column), default=0) for column in (texts, texts.values()))
    for name, text in texts.items():
        tell(f"{indent}{name:<{names}}  {text:>{width}}")
    for name, part in parts.items():
        tell(f"{indent}{name}")
        _print_table(part, indent + "  ")


def _text(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
