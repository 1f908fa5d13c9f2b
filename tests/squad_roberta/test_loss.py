"""The loss on windows, and the scores of answers."""

import pytest
import torch
from transformers import BertConfig, BertForQuestionAnswering

from experiments.squad_roberta.evaluate import answered, right_answers, scores
from experiments.squad_roberta.features import WindowDataset, features
from experiments.squad_roberta.settings import Settings
from experiments.squad_roberta.task import SpanTask, mean_loss, span_loss
from experiments.squad_roberta.windows import WindowSettings
from tests.squad_roberta import tiny
from tests.squad_roberta.tokenizers_by_hand import bert
from tests.squad_roberta.world import DENVER, PARIS, question

QUESTIONS = [
    question("a", f"{DENVER} {PARIS}", "Denver Broncos"),
    question("b", PARIS, "Paris"),
    question("c", "one \x01 two", "\x01"),  # an answer without tokens
    question("d", "Short text."),
]


@pytest.fixture(scope="module")
def model() -> BertForQuestionAnswering:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(bert()), **tiny.SHAPE)
    return BertForQuestionAnswering(config).eval()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> WindowDataset:
    settings = WindowSettings(max_length=64, stride=16, max_question=16)
    return features(QUESTIONS, bert(), settings, tmp_path_factory.mktemp("cache"))


def test_the_loss_is_the_mean_of_start_and_end(
    model: BertForQuestionAnswering, dataset: WindowDataset
) -> None:
    batch = dataset.batch([0])  # a single window, so nothing is padded
    total, labels = span_loss(model, batch)
    assert labels == 2
    assert (total / labels).item() == pytest.approx(model(**batch).loss.item(), rel=1e-6)


def test_the_loss_does_not_depend_on_padding_and_leaves_out_lost_answers(
    model: BertForQuestionAnswering, dataset: WindowDataset
) -> None:
    task = SpanTask(dataset, dataset, 256)
    everything = range(len(task))
    assert len({task.length(i) for i in everything}) > 1
    together, labels = span_loss(model, task.batch(everything))
    alone = [span_loss(model, task.batch([i])) for i in everything]
    assert together.item() == pytest.approx(sum(loss.item() for loss, _ in alone), rel=1e-5)
    counted = [task.labels(i) for i in everything]
    assert [n for _, n in alone] == counted
    assert labels == sum(counted) == 2 * (len(task) - 1)
    mean, labels = mean_loss(model, dataset, 100), int(labels)
    assert mean == pytest.approx(together.item() / labels, rel=1e-5)
    assert task.evaluate(model) == {"val_loss": pytest.approx(mean, rel=1e-5)}


def test_a_window_without_labels_has_a_loss_of_zero_with_a_gradient(
    model: BertForQuestionAnswering, dataset: WindowDataset
) -> None:
    lost = next(i for i in range(len(dataset)) if dataset.labels(i) == 0)
    loss, labels = span_loss(model, dataset.batch([lost]))
    assert (loss.item(), labels) == (0.0, 0)
    loss.backward()


def test_answers_do_not_depend_on_how_windows_are_batched(
    model: BertForQuestionAnswering, dataset: WindowDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = list(answered(model, QUESTIONS, dataset, Settings(eval_tokens=4096)))
    monkeypatch.setattr("experiments.squad_roberta.evaluate.TOGETHER", 1)
    few = list(answered(model, QUESTIONS, dataset, Settings(eval_tokens=1)))
    assert [each.id for each in many] == ["a", "b", "c", "d"]
    for one, other in zip(many, few, strict=True):
        assert one.best == other.best
        assert one.null_odds == pytest.approx(other.null_odds, abs=1e-5)


def test_scores_by_version_and_kind() -> None:
    asked = [question("a", DENVER, "Denver Broncos"), question("b", PARIS, "Paris")]
    given = {"a": "the Denver Broncos", "b": "in Paris"}
    v1 = scores("1.1", asked, given)
    assert v1["exact"] == 50.0
    assert v1["f1"] == pytest.approx((100 + 100 * 2 / 3) / 2)
    assert [v1[f"{kind}_answer_f1"] for kind in ("has", "no")] == [None, None]

    asked.append(question("c", DENVER))
    assert right_answers(asked) == {"a": ["Denver Broncos"], "b": ["Paris"], "c": []}
    v2 = scores("2.0", asked, given | {"c": ""})
    assert v2["exact"] == pytest.approx(200 / 3)
    assert (v2["has_answer_exact"], v2["no_answer_exact"]) == (50.0, 100.0)
    assert scores("2.0", asked, given | {"c": "Denver"})["no_answer_f1"] == 0.0
