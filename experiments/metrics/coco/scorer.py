"""BLEU, ROUGE-L and CIDEr-D of captions, as the official COCO scorer computes them.

All captions are tokenised: words in lower case without punctuation, joined by single spaces
(`ptb.tokenize`). `candidates[i]` is the caption of image i, `references[i]` are those that people
wrote for it.

Values are the official scorer's raw ones: BLEU and ROUGE-L in [0, 1], CIDEr in [0, 10]. A paper's
CIDEr of 122.2 is 1.222 here.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from zia_core.errors import ZiaError

N = 4  # the longest n-gram of BLEU and CIDEr
# The official scorer's guards against division by zero, which affect its values.
SMALL, TINY = 1e-9, 1e-15
BETA = 1.2  # ROUGE-L: recall weighs BETA^2 times as much as precision
SIGMA = 6.0  # CIDEr-D: width of the penalty for a difference in length, in words

NGram = tuple[str, ...]


def score(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return Bleu_1 to Bleu_4, ROUGE_L and CIDEr; ZiaError unless each image has a reference."""
    if not candidates or len(candidates) != len(references) or not all(references):
        raise ZiaError(
            f"{len(candidates)} captions for {len(references)} images cannot be scored: "
            "each image needs one caption, and at least one reference"
        )
    bleu_by_order = bleu(candidates, references)
    rouge = [rouge_l(*pair) for pair in zip(candidates, references, strict=True)]
    cider = cider_d(candidates, references)
    return {f"Bleu_{n}": value for n, value in enumerate(bleu_by_order, 1)} | {
        "ROUGE_L": sum(rouge) / len(rouge),
        "CIDEr": sum(cider) / len(cider),
    }


def degenerate(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> list[str]:
    """Return a sentence for each score whose value does not depend on the captions."""
    remarks = []
    in_references = [frozenset().union(*map(_ngrams, texts)) for texts in references]
    if len(set(in_references)) == 1:
        images = "one image" if len(references) == 1 else "images with the same words"
        remarks.append(
            "CIDEr is 0 whatever the captions say: it weighs words by how few of the images have "
            f"them in a reference, and here are the references of {images}."
        )
    longest = max(len(text.split()) for text in candidates)
    if longest < N:
        remarks.append(
            f"No caption has more than {longest} words, so BLEU's longer n-grams do not exist: "
            f"above Bleu_{longest} its values mean nothing."
        )
    return remarks


def bleu(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Return BLEU-1 to BLEU-4 of the whole corpus (Papineni et al., 2002), each in [0, 1].

    The reference length of an image is the one closest to its caption's; in a tie, the shorter.
    """
    matched, proposed = [0] * N, [0] * N
    length = reference_length = 0
    for candidate, texts in zip(candidates, references, strict=True):
        words = candidate.split()
        length += len(words)
        lengths = [len(text.split()) for text in texts]
        reference_length += min(lengths, key=lambda other: (abs(other - len(words)), other))
        allowed: Counter[NGram] = Counter()
        for text in texts:
            allowed |= _ngrams(text)  # the maximum over the references
        for ngram, count in (_ngrams(candidate) & allowed).items():
            matched[len(ngram) - 1] += count
        for n in range(N):
            proposed[n] += max(0, len(words) - n)

    ratio = (length + TINY) / (reference_length + SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores, product = [], 1.0
    for n in range(N):
        product *= (matched[n] + TINY) / (proposed[n] + SMALL)
        scores.append(brevity * product ** (1 / (n + 1)))
    return scores


def rouge_l(candidate: str, references: Sequence[str]) -> float:
    """Return ROUGE-L of one caption (Lin, 2004) in [0, 1].

    Precision and recall are each the best over the references, as in the official scorer.
    """
    # Not split(): to the official scorer, an empty caption is one empty word.
    words = candidate.split(" ")
    common = [(_longest_common(words, text.split(" ")), text) for text in references]
    precision = max(length for length, _ in common) / len(words)
    recall = max(length / len(text.split(" ")) for length, text in common)
    if precision == 0:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def cider_d(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Return CIDEr-D of each caption (Vedantam et al., 2015, section 6), in [0, 10].

    Words are weighted by how few images of the corpus have them in a reference, so a caption's
    value depends on the other images, and is 0 in a corpus of one.
    """
    images_with: Counter[NGram] = Counter()
    for texts in references:
        images_with.update(set().union(*map(_ngrams, texts)))
    weights = _Weights(math.log(len(references)), images_with)
    scores = []
    for candidate, texts in zip(candidates, references, strict=True):
        vector = weights.vector(candidate)
        similarity = sum(_similarity(vector, weights.vector(text)) for text in texts)
        scores.append(10 * similarity / len(texts))
    return scores


class _Vector(NamedTuple):
    by_order: list[dict[NGram, float]]  # weighted n-grams for n = 1 .. N
    norms: list[float]
    bigrams: int  # the official scorer's measure of length


class _Weights(NamedTuple):
    log_images: float
    images_with: Counter[NGram]

    def vector(self, text: str) -> _Vector:
        """Term frequency times inverse document frequency, by order."""
        by_order: list[dict[NGram, float]] = [{} for _ in range(N)]
        bigrams = 0
        for ngram, count in _ngrams(text).items():
            rarity = self.log_images - math.log(max(1, self.images_with[ngram]))
            by_order[len(ngram) - 1][ngram] = count * rarity
            bigrams += count * (len(ngram) == 2)
        norms = [math.sqrt(sum(value**2 for value in order.values())) for order in by_order]
        return _Vector(by_order, norms, bigrams)


def _similarity(candidate: _Vector, reference: _Vector) -> float:
    """The mean over n of the clipped cosine, times the length penalty; in [0, 1]."""
    total = 0.0
    for n in range(N):
        other = reference.by_order[n]
        clipped = sum(
            min(value, other[ngram]) * other[ngram]
            for ngram, value in candidate.by_order[n].items()
            if ngram in other
        )
        norm = candidate.norms[n] * reference.norms[n]
        total += clipped / norm if norm else 0.0
    return total / N * math.exp(-((candidate.bigrams - reference.bigrams) ** 2) / (2 * SIGMA**2))


def _ngrams(text: str) -> Counter[NGram]:
    """Counts of the n-grams of 1 to N words in the text."""
    words = text.split()
    return Counter(
        tuple(words[start : start + n])
        for n in range(1, N + 1)
        for start in range(len(words) - n + 1)
    )


def _longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for column, other in enumerate(second, 1):
            above = row[column]
            row[column] = diagonal + 1 if word == other else max(above, row[column - 1])
            diagonal = above
    return row[-1]
