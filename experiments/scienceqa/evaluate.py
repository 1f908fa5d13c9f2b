"""Answer questions by two protocols, and score the answers.

Greedy: the official rule reads the letter from the generated text; an answer that it cannot read is
wrong and counted. Likelihood: the most likely letter of the options after "The answer is" and, if
the solution comes first, after the generated one.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

from experiments.language.examples import Example, Examples
from experiments.language.losses import batch_logits
from experiments.metrics.scienceqa.scorer import CLASSES, parse_answer, score
from experiments.scienceqa.data import Problem

if TYPE_CHECKING:
    from torch import nn

SCORES: Mapping[str, Any] = {
    **{column.key: float | None for column in CLASSES},  # percent; None for an empty class
    "correct": int,
    "questions": int,  # scored
    "unparsable": int,  # of these, counted as wrong
    "likelihood_accuracy": float,  # percent, by the other protocol
    "image_questions": int,  # of the scored ones
}

# Scores of answers without a model, in percent; older runs lack them.
BASELINES: Mapping[str, Any] = {
    "chance_accuracy": float,  # a random option
    "chance_has_image": float | None,  # a random option, for questions with an image
    "majority_accuracy": float,  # always the most frequent right letter of the training set
}


def likeliest(
    model: "nn.Module",
    examples: Examples,
    options: Sequence[int],
    letters: tuple[list[int], list[int]],
    token_budget: int,
    said: Mapping[str, list[int]] | None = None,
) -> Iterator[tuple[int, int]]:
    """Yield the index of each example and its most likely option, in any order.

    Args:
        model: the language model.
        examples: prompts.
        options: the number of options of each example.
        letters: from `letter_tokens`.
        token_budget: padded tokens of a batch.
        said: the tokens of generated solutions, by the example's id.
    """
    import torch

    from zia_core.batching import token_micro_batches

    before, letter = letters
    asked = examples.changed(
        lambda each: Example(
            each.id,
            [*each.prompt, *(said[each.id] if said else []), *before],
            letter[:1],
            each.image,
        )
    )
    device = next(model.parameters()).device
    vocabulary = torch.tensor(letter, device=device)
    for group in token_micro_batches([asked.length(i) for i in range(len(asked))], token_budget):
        batch = {name: value.to(device) for name, value in asked.batch(group).items()}
        with torch.no_grad():
            logits = batch_logits(model, batch, vocabulary)[0].cpu()
        for place, row in zip(group, logits, strict=True):
            yield place, int(row[: options[place]].argmax())


def scores(
    problems: Sequence[Problem], predictions: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """`SCORES` of predictions {"output": text, "likeliest": index} by pid."""
    asked = {problem.id: problem.scored() for problem in problems}
    parsed = {p.id: parse_answer(predictions[p.id]["output"], len(p.choices)) for p in problems}
    found = score(asked, parsed)
    likely = [predictions[p.id]["likeliest"] == p.answer for p in problems]
    return {
        **{column.key: found.get(column.key) for column in CLASSES},
        "correct": int(found["correct"]),
        "questions": int(found["count"]),
        "unparsable": int(found["unparsable"]),
        "likelihood_accuracy": 100 * sum(likely) / len(likely),
        "image_questions": sum(question.has_image for question in asked.values()),
    }


def baselines(train: Sequence[Problem], asked: Sequence[Problem]) -> dict[str, float | None]:
    """`BASELINES` on the questions asked; of equally frequent letters, the first."""
    counts = Counter(problem.answer for problem in train)
    usual = max(sorted(counts), key=counts.__getitem__)
    shares = [100 / len(problem.choices) for problem in asked]
    pictured = [share for share, p in zip(shares, asked, strict=True) if p.scored().has_image]
    return {
        "chance_accuracy": mean(shares),
        "chance_has_image": mean(pictured) if pictured else None,
        "majority_accuracy": 100 * mean(problem.answer == usual for problem in asked),
    }
