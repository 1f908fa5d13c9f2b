"""Answers to questions, and their scores by the official rules."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.metrics.squad.official import Version
from experiments.metrics.squad.scorer import score_v1, score_v2
from experiments.squad_roberta.data import Question
from experiments.squad_roberta.decode import Decoded, decode
from experiments.squad_roberta.features import WindowDataset
from experiments.squad_roberta.settings import Settings
from experiments.squad_roberta.task import span_logits
from experiments.training.optimisation import autocast

if TYPE_CHECKING:
    from torch import nn

TOGETHER = 256  # questions whose logits are in memory at once

# Fields of result.json that follow from the predictions, and their official names in v2.0.
SCORES = {
    "exact": "exact",
    "f1": "f1",
    "has_answer_exact": "HasAns_exact",
    "has_answer_f1": "HasAns_f1",
    "no_answer_exact": "NoAns_exact",
    "no_answer_f1": "NoAns_f1",
}


def answered(
    model: "nn.Module", questions: Sequence[Question], dataset: WindowDataset, settings: Settings
) -> Iterator[Decoded]:
    """Yield the decoded answer to each question, in order; `dataset` has their windows."""
    for start in range(0, len(questions), TOGETHER):
        rows = range(start, min(start + TOGETHER, len(questions)))
        windows = [i for row in rows for i in dataset.windows_of(row)]
        with autocast(settings):
            logits = _logits(model, dataset, windows, settings.eval_tokens)
        for row in rows:
            own = dataset.windows_of(row)
            yield decode(
                questions[row],
                [dataset.window(i) for i in own],
                [logits[i][0] for i in own],
                [logits[i][1] for i in own],
                settings.n_best,
                settings.max_answer_tokens,
            )


def scores(
    version: Version, questions: Iterable[Question], answers: Mapping[str, str]
) -> dict[str, float | None]:
    """Return `SCORES` in percent; None for those that v1.1 or these questions do not have."""
    references = right_answers(questions)
    if version == "1.1":
        official = score_v1(references, answers)
        official["exact"] = official["exact_match"]
    else:
        official = score_v2(references, answers)
    return {field: official.get(name) for field, name in SCORES.items()}


def right_answers(questions: Iterable[Question]) -> dict[str, list[str]]:
    """Return the right texts by question id; an empty list if there is no answer."""
    return {question.id: [answer.text for answer in question.answers] for question in questions}


def _logits(
    model: "nn.Module", dataset: WindowDataset, windows: Sequence[int], token_budget: int
) -> dict[int, Any]:
    """Start and end logits of each window, (tokens,) each."""
    import torch

    from zia_core.batching import token_micro_batches

    device = next(model.parameters()).device
    found = {}
    for group in token_micro_batches([dataset.length(i) for i in windows], token_budget):
        members = [windows[position] for position in group]
        batch = {name: value.to(device) for name, value in dataset.batch(members).items()}
        with torch.no_grad():
            pair = [logits.cpu().numpy() for logits in span_logits(model, batch)]
        for row, i in enumerate(members):
            found[i] = tuple(logits[row, : dataset.length(i)] for logits in pair)
    return found
