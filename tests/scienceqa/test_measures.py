"""That the pipeline measures: what must be at chance is, what must be the same is the same."""

import random
from collections.abc import Iterator, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from experiments.backbones import language_models
from experiments.dispatch.in_process import run_one
from experiments.harness import stored
from experiments.language.answers import answers
from experiments.language.examples import Examples
from experiments.language.image_features import RunImages, run_images
from experiments.language.methods import prepare
from experiments.metrics.scienceqa.scorer import LETTERS
from experiments.mini_world.provided import data_of
from experiments.scienceqa import subsets
from experiments.scienceqa.data import Problem
from experiments.scienceqa.evaluate import baselines, scores
from experiments.scienceqa.prompts import encode
from experiments.scienceqa.settings import Settings
from experiments.scienceqa.subsets import Splits
from tests.scienceqa import world
from zia_core import detach
from zia_core.identity import backbone_identity
from zia_core.trained_weights import load_trained


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("measures")
    with pytest.MonkeyPatch.context() as patch:
        world.prepare(folder, patch)
        yield folder


@pytest.fixture(scope="module")
def mini() -> Splits:
    """The generated questions, of which a third each is about a text, an image, or neither."""
    with data_of("mini"):
        return subsets.select("mini")


def chance(problems: Sequence[Problem]) -> tuple[float, float]:
    """What a random option scores, and three standard errors of that; shares of 1."""
    shares = [1 / len(problem.choices) for problem in problems]
    return sum(shares) / len(shares), 3 * sqrt(sum(p * (1 - p) for p in shares)) / len(shares)


def scored(problems: Sequence[Problem], given: Sequence[int]) -> dict[str, Any]:
    found = {
        problem.id: {"output": f"The answer is {LETTERS[place]}.", "likeliest": place}
        for problem, place in zip(problems, given, strict=True)
    }
    return scores(problems, found)


def test_right_answers_score_everything_and_shuffled_ones_chance(mini: Splits) -> None:
    right = [problem.answer for problem in mini.test]
    assert scored(mini.test, right)["acc_average"] == 100
    random.Random(0).shuffle(right)
    level, error = chance(mini.test)
    # Of the answers of others some are no option here, which a random option always is.
    within = [min(place, len(p.choices) - 1) for place, p in zip(right, mini.test, strict=True)]
    found = scored(mini.test, within)
    for accuracy in (found["acc_average"], found["likelihood_accuracy"]):
        assert abs(accuracy / 100 - level) < error
    expected = baselines(mini.train, mini.test)
    assert expected["chance_accuracy"] == pytest.approx(100 * level)
    assert abs(expected["majority_accuracy"] / 100 - level) < error


def test_who_sees_neither_image_nor_hint_is_at_chance(mini: Splits) -> None:
    """The best of what is left, words, places and numbers of options, tells nothing."""
    for context in ("image", "hint"):
        train, test = (
            [p for p in part if (p.image if context == "image" else p.hint)]
            for part in (mini.train, mini.test)
        )
        level, error = chance(test)
        assert abs(guessed(train, test, told=False) - level) < error
        assert guessed(train, test, told=True) > 0.9


def guessed(train: Sequence[Problem], test: Sequence[Problem], told: bool) -> float:
    """The share of `test` that a classifier of options, fitted to `train`, gets right.

    `told`: it also knows which options are words of the solution, as one who looked would.
    """
    texts = [text for problem in train for text in (problem.question, *problem.choices)]
    words = sorted({word for text in texts for word in split(text)})
    places = {word: place for place, word in enumerate(words)}

    def features(problem: Problem, option: int) -> "np.ndarray[Any, Any]":
        asked, said = np.zeros(len(words)), np.zeros(len(words))
        for text, vector in ((problem.question, asked), (problem.choices[option], said)):
            vector[[places[word] for word in split(text) if word in places]] = 1
        found = told and set(split(problem.choices[option])) <= {*split(problem.record["solution"])}
        place = np.eye(5)[option]
        return np.concatenate([said, asked, place, [found]])

    rows = [(features(p, i), i == p.answer) for p in train for i in range(len(p.choices))]
    model = LogisticRegression(max_iter=200).fit(*map(np.array, zip(*rows, strict=True)))
    hits = 0
    for problem in test:
        options = np.array([features(problem, i) for i in range(len(problem.choices))])
        hits += int(model.decision_function(options).argmax()) == problem.answer
    return hits / len(test)


def split(text: str) -> list[str]:
    return text.lower().strip("?.").split()


def done(root: Path, method: str, **changes: Any) -> stored.StoredRun:
    spec = world.spec(method, **changes)
    outcome = run_one(spec, root / "runs")
    assert outcome.state == "done", outcome.reason
    return stored.load(root / "runs" / spec.experiment / spec.folder_name)


def test_without_its_adapter_a_trained_model_answers_as_the_backbone(root: Path) -> None:
    """And a run that trains for no step is the frozen one, to the last bit."""
    trained, frozen = done(root, "zero-init", peak_lr=1.0), done(root, "frozen")
    assert trained.predictions() != frozen.predictions()
    untouched = done(root, "zero-init", epochs=0.0, warmup_epochs=0.0)
    assert untouched.predictions() == frozen.predictions()

    settings: Settings = world.spec("zero-init").settings
    known = language_models.get("smollm2-135m-instruct")
    model, tokenizer, _ = language_models.load(known, torch.float32, "cpu")
    identity = backbone_identity(model)
    asked = subsets.select("full").test
    shown = run_images("zero-init", settings, [p.image for p in asked if p.image], "cpu")
    adapted = prepare(model, "zero-init", settings, shown.width).eval()
    load_trained(adapted, trained.path / stored.ADAPTER, identity)

    def written(images: RunImages) -> dict[str, str]:
        found, _ = encode(
            asked,
            tokenizer,
            settings.context,
            settings.max_length,
            lambda problem: images.row(problem.image),
        )
        examples = Examples(found, images.features)
        decoding = {"max_new_tokens": settings.new_tokens, "do_sample": False}
        texts = answers(model, tokenizer, examples, settings.answered_together, **decoding)
        return dict(zip((problem.id for problem in asked), texts, strict=True))

    def stored_of(run: stored.StoredRun) -> dict[str, str]:
        return {p["id"]: p["output"] for p in run.predictions() if p["set"] == "test"}

    assert written(shown) == stored_of(trained)
    detach(adapted)
    blind = run_images("frozen", settings, [], "cpu")
    assert written(blind) == stored_of(frozen)
