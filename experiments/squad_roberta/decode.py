"""Decode the answer to a question from the logits of all its windows.

A span's score is the sum of its start and end logits (Devlin et al., 2019, section 4.2). The score
of "no answer" is the sum at [CLS] (section 4.3), in the window where it is lowest, since windows
without the answer point to [CLS]. Unlike the usual scripts, which combine the 20 best starts with
the 20 best ends, this compares all spans up to the length limit.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.metrics.squad.scorer import pair_v2
from experiments.squad_roberta.data import Question
from experiments.squad_roberta.windows import CLS, Ints, Window
from zia_core.errors import ZiaError

N_BEST = 20
MAX_ANSWER_TOKENS = 30  # both as in BERT's and P-tuning v2's scripts

Logits = NDArray[np.floating]
Span = tuple[int, int]  # characters [start, end) of the context


@dataclass(frozen=True, slots=True)
class Decoded:
    """The best answers to one question, best first, and the score of "no answer"."""

    id: str
    texts: tuple[str, ...]
    scores: tuple[float, ...]
    null_score: float

    @property
    def best(self) -> str:
        """The best answer; empty only for a context without tokens."""
        return self.texts[0] if self.texts else ""

    @property
    def null_odds(self) -> float:
        """The score of "no answer" minus that of the best answer; 0 without an answer."""
        return self.null_score - self.scores[0] if self.scores else 0.0


def decode(
    question: Question,
    windows: Sequence[Window],
    starts: Sequence[Logits],
    ends: Sequence[Logits],
    n_best: int = N_BEST,
    max_answer_tokens: int = MAX_ANSWER_TOKENS,
) -> Decoded:
    """Return the best `n_best` different spans.

    Spans are in the context, have a text, and have at most `max_answer_tokens` tokens.

    Args:
        question, windows: the question and all its windows.
        starts, ends: the logits of each window (tokens,).
        n_best, max_answer_tokens: limits.

    Raises:
        ZiaError: a logit is not finite.
    """
    best: dict[Span, float] = {}
    null_scores = []
    for window, start, end in zip(windows, starts, ends, strict=True):
        if not (np.isfinite(start).all() and np.isfinite(end).all()):
            raise ZiaError(f"question {question.id}: the model's logits are not finite numbers")
        null_scores.append(float(start[CLS]) + float(end[CLS]))
        for span, score in _spans(window, start, end, n_best, max_answer_tokens):
            best[span] = max(score, best.get(span, score))
    ranked = sorted(best.items(), key=lambda item: (-item[1], item[0]))[:n_best]
    return Decoded(
        question.id,
        tuple(question.context[first:last] for (first, last), _ in ranked),
        tuple(score for _, score in ranked),
        min(null_scores),
    )


def _spans(
    window: Window, start: Logits, end: Logits, n_best: int, max_tokens: int
) -> Iterator[tuple[Span, float]]:
    """The best spans of one window, in any order; [i, j] is from token i to i + j."""
    context = slice(window.context_at, window.context_at + len(window.starts))
    scores = start[context].astype(np.float64)[:, None] + _following(
        end[context].astype(np.float64), max_tokens, -np.inf
    )
    # Tokens that are all space, or part of a character, can make a span without text.
    has_text = _following(window.ends, max_tokens, 0) > window.starts[:, None]
    flat = np.where(has_text, scores, -np.inf).reshape(-1)
    order = np.argpartition(-flat, n_best)[:n_best] if len(flat) > n_best else np.arange(len(flat))
    for position in order:
        if np.isfinite(flat[position]):
            i, j = divmod(int(position), max_tokens)
            yield (int(window.starts[i]), int(window.ends[i + j])), float(flat[position])


def _following(values: Logits | Ints, width: int, fill: float) -> NDArray[Any]:
    """(len(values), width): value i + j at [i, j], or `fill` past the end."""
    padded = np.concatenate([values, np.full(width, fill, dtype=values.dtype)])
    return np.lib.stride_tricks.sliding_window_view(padded, width)[: len(values)]


def predictions(decoded: Iterable[Decoded], threshold: float | None = None) -> dict[str, str]:
    """Return the answer by question id, empty if the null odds are above the threshold.

    Without a threshold (v1.1) every question is answered.
    """
    return {
        each.id: "" if threshold is not None and each.null_odds > threshold else each.best
        for each in decoded
    }


def choose_threshold(decoded: Sequence[Decoded], answers: Mapping[str, Sequence[str]]) -> float:
    """Return the threshold of `predictions` with the best mean F1 on these questions.

    Never call it on the split that is reported. The threshold is the null odds of the last question
    that is answered, the lowest of several best ones; one less than all if none should be answered.

    Args:
        decoded: at least one question, or ZiaError is raised.
        answers: the right texts by question id.
    """
    if not decoded:
        raise ZiaError("no threshold for v2.0 can be chosen without validation questions")
    ranked = sorted(decoded, key=lambda each: each.null_odds)
    total = best = 0.0  # summed F1, minus that of answering nothing
    threshold = ranked[0].null_odds - 1.0
    for number, each in enumerate(ranked):
        right = answers[each.id]
        answered, unanswered = pair_v2(each.best, right)[1], pair_v2("", right)[1]
        total += answered - unanswered
        following = ranked[number + 1].null_odds if number + 1 < len(ranked) else np.inf
        if total > best and following > each.null_odds:  # equal odds go together
            best, threshold = total, each.null_odds
    return threshold
