"""`zia score`: compute a metric from files of predictions and references in official formats.

Files may be gzipped. Scores are printed by their official names, as a table or, with --json, as one
JSON object. Remarks go to stderr.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from experiments.io.output import say, tell

app = typer.Typer(help="Score files of predictions, in the official formats.")

Predictions = Annotated[Path, typer.Option(metavar="F", help="Answers of a model.")]
References = Annotated[Path, typer.Option(metavar="F", help="Official file with the answers.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")]


@app.command()
def squad(
    predictions: Predictions,
    references: References,
    version: Annotated[str, typer.Option(metavar="V", help="1.1 or 2.0.", show_default=False)],
    missing: Annotated[
        str | None,
        typer.Option(metavar="zero", help="2.0: questions without prediction score 0."),
    ] = None,
    na_prob: Annotated[
        Path | None,
        typer.Option(metavar="F", help="2.0: probabilities that there is no answer."),
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
            help="Use the file's indices, random where an output cannot be parsed.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """ScienceQA: accuracy by class, in percent.

    Names are the official scorer's, and -1 is a class without questions. An output without
    exactly one "The answer is X." counts as wrong and unparsable.
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

    Raw values of the official scorer: papers print a CIDEr of 1.222 as 122.2.
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

    For files in the format of Vicuna's 80 questions. For questions reviewed in both orders, also
    the verdict over both, and by how many points the judge favours the first answer.
    """
    from experiments.metrics.pairwise.files import score_files

    show(*score_files([*reviews, *(more or [])]), as_json=as_json)


def show(scores: Mapping[str, Any], remarks: Sequence[str], *, as_json: bool) -> None:
    """Print scores by name, integers as they are and others with four decimals.

    Nested mappings, such as the scores of several files, are printed as one table each.
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
