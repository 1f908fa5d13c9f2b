from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from experiments.metrics.squad.scorer import score_v2
from experiments.squad_roberta.data import Question, load_squad
from experiments.squad_roberta.decode import Decoded, choose_threshold, decode, predictions
from experiments.squad_roberta.features import features
from experiments.squad_roberta.windows import Window, WindowSettings
from tests.squad_roberta.tokenizers_by_hand import bert, roberta
from tests.squad_roberta.world import DENVER, PARIS, question
from zia_core.errors import ZiaError

KINDS: list[Callable[[], PreTrainedTokenizerFast]] = [bert, roberta]
SETTINGS = WindowSettings(max_length=64, stride=24, max_question=16)
WHERE = question("a", f"{DENVER} {PARIS}", "Denver Broncos")
Array = NDArray[np.float32]


def windows_of(
    folder: Path, asked: Question, kind: Callable[[], PreTrainedTokenizerFast] = bert
) -> list[Window]:
    dataset = features([asked], kind(), SETTINGS, folder)
    return [dataset.window(i) for i in dataset.windows_of(0)]


def noise(windows: Sequence[Window], seed: int = 0) -> list[Array]:
    draw = np.random.default_rng(seed)
    return [draw.normal(size=len(window.ids)).astype(np.float32) for window in windows]


def peaked(windows: Sequence[Window]) -> tuple[list[Array], list[Array]]:
    """The logits of a model that is sure of the labels."""
    starts, ends = noise(windows, 0), noise(windows, 1)
    for window, start, end in zip(windows, starts, ends, strict=True):
        start[window.label[0]] += 20
        end[window.label[1]] += 20
    return starts, ends


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_spans_are_those_of_a_search_over_all(tmp_path: Path, kind: type) -> None:
    windows = windows_of(tmp_path, WHERE, kind)
    assert len(windows) > 2
    starts, ends = noise(windows, 0), noise(windows, 1)
    best: dict[tuple[int, int], float] = {}
    for window, start, end in zip(windows, starts, ends, strict=True):
        for i in range(len(window.starts)):
            for j in range(i, min(i + 6, len(window.starts))):
                span = int(window.starts[i]), int(window.ends[j])
                score = float(start[window.context_at + i]) + float(end[window.context_at + j])
                if span[0] < span[1]:
                    best[span] = max(score, best.get(span, score))
    expected = sorted(best.items(), key=lambda item: -item[1])[:15]

    found = decode(WHERE, windows, starts, ends, n_best=15, max_answer_tokens=6)
    assert found.scores == pytest.approx([score for _, score in expected])
    assert list(found.texts) == [WHERE.context[first:last] for (first, last), _ in expected]
    assert found.best == found.texts[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", ["Denver Broncos", "Élise", "May 1990", "café", "€24"])
def test_a_model_that_is_sure_of_the_labels_gives_the_answer(
    tmp_path: Path, kind: type, answer: str
) -> None:
    asked = question("a", f"{DENVER} {PARIS}", answer)
    windows = windows_of(tmp_path, asked, kind)
    found = decode(asked, windows, *peaked(windows))
    assert found.best == answer
    assert found.null_odds < -10


def test_no_answer_has_the_score_of_the_window_that_holds_it_least_likely(tmp_path: Path) -> None:
    windows = windows_of(tmp_path, WHERE)
    starts, ends = noise(windows, 0), noise(windows, 1)
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        start[0], end[0] = 5.0 - number, 1.0
    found = decode(WHERE, windows, starts, ends)
    assert found.null_score == 5.0 - (len(windows) - 1) + 1.0
    assert found.null_odds == found.null_score - found.scores[0]
    assert "" not in found.texts  # [CLS] is no span


def test_only_the_context_s_tokens_are_looked_at(tmp_path: Path) -> None:
    windows = windows_of(tmp_path, WHERE)
    starts, ends = noise(windows, 0), noise(windows, 1)
    expected = decode(WHERE, windows, starts, ends)
    for window, start, end in zip(windows, starts, ends, strict=True):
        outside = np.ones(len(start), dtype=bool)
        outside[0] = False
        outside[window.context_at : window.context_at + len(window.starts)] = False
        start[outside], end[outside] = 50.0, 50.0
    padded = [[np.append(each, [90.0, 90.0]) for each in logits] for logits in (starts, ends)]
    assert decode(WHERE, windows, *padded) == expected


def test_an_answer_is_not_longer_than_allowed(tmp_path: Path) -> None:
    windows = windows_of(tmp_path, WHERE)[:1]
    starts, ends = peaked(windows)
    first, last = windows[0].label
    tokens = last - first + 1
    assert decode(WHERE, windows, starts, ends, max_answer_tokens=tokens).best == "Denver Broncos"
    shorter = decode(WHERE, windows, starts, ends, max_answer_tokens=tokens - 1)
    assert "Denver Broncos" not in shorter.texts


def test_a_context_without_tokens_has_no_answer(tmp_path: Path) -> None:
    nothing = Question("a", "Where?", "\x01", ())
    windows = windows_of(tmp_path, nothing)
    found = decode(nothing, windows, noise(windows), noise(windows))
    assert (found.best, found.texts, found.null_odds) == ("", (), 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_name_the_question(tmp_path: Path, bad: float) -> None:
    windows = windows_of(tmp_path, WHERE)
    starts, ends = noise(windows), noise(windows)
    ends[1][3] = bad
    with pytest.raises(ZiaError, match="question a: the model's logits are not finite"):
        decode(WHERE, windows, starts, ends)


def said(name: str, text: str, odds: float) -> Decoded:
    return Decoded(name, (text,), (1.0,), 1.0 + odds)


def test_answers_above_the_threshold_are_empty() -> None:
    decoded = [said("a", "x", -2.0), said("b", "y", 0.5), said("c", "z", 0.75)]
    assert predictions(decoded) == {"a": "x", "b": "y", "c": "z"}
    assert predictions(decoded, 0.5) == {"a": "x", "b": "y", "c": ""}
    assert [each.null_odds for each in decoded] == [-2.0, 0.5, 0.75]


def test_the_threshold_is_the_best_of_all_on_its_split() -> None:
    draw = np.random.default_rng(0)
    names = [str(i) for i in range(80)]
    answers = {name: ["x y"] if draw.random() < 0.5 else [] for name in names}
    texts = ("x y", "x", "z", "the")
    # Rounded, so that many odds are equal.
    decoded = [
        said(name, str(draw.choice(texts)), round(draw.normal(1.0 * (not answers[name])), 1))
        for name in names
    ]

    def f1_at(threshold: float) -> float:
        return score_v2(answers, predictions(decoded, threshold))["f1"]

    chosen = choose_threshold(decoded, answers)
    candidates = [each.null_odds for each in decoded] + [-99.0]
    best = max(map(f1_at, candidates))
    assert f1_at(chosen) == pytest.approx(best)
    assert chosen == min(t for t in candidates if f1_at(t) > best - 1e-9)
    assert best > max(f1_at(-99.0), f1_at(99.0)) + 1  # the choice matters here


def test_all_or_none_may_be_best_to_answer() -> None:
    decoded = [said("a", "x", -5.0), said("b", "y", -3.0)]
    assert choose_threshold(decoded, {"a": ["x"], "b": ["y"]}) == -3.0
    none = choose_threshold(decoded, {"a": [], "b": []})
    assert set(predictions(decoded, none).values()) == {""}
    equal = [said("a", "x", 1.0), said("b", "y", 1.0), said("c", "z", 1.0)]
    none = choose_threshold(equal, {"a": ["x"], "b": [], "c": []})
    assert set(predictions(equal, none).values()) == {""}
    with pytest.raises(ZiaError, match="without validation questions"):
        choose_threshold([], {})


@pytest.mark.parametrize("version", ["1.1", "2.0"])
def test_perfect_logits_on_real_questions_score_100(
    shared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setenv("ZIA_DATA", str(shared_dir / "data"))
    questions = load_squad(version, "dev")[:300]  # type: ignore[arg-type]
    questions = [replace(each, answers=each.answers[:1]) for each in questions]
    dataset = features(questions, roberta(), WindowSettings(), tmp_path)
    decoded = []
    for row, each in enumerate(questions):
        windows = [dataset.window(i) for i in dataset.windows_of(row)]
        # Byte-level tokens are short: the limit is not the usual one.
        decoded.append(decode(each, windows, *peaked(windows), n_best=2, max_answer_tokens=200))
    answers = {each.id: [answer.text for answer in each.answers] for each in questions}
    threshold = choose_threshold(decoded, answers)
    scores = score_v2(answers, predictions(decoded, threshold))
    assert (scores["exact"], scores["total"]) == (100.0, 300)
