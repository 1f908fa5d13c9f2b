"""Batches of examples with and without images, and their losses."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from experiments.language.examples import Example, Examples
from experiments.language.losses import LanguageTask, example_losses, mean_loss
from zia_core.errors import ZiaError

EXAMPLES = [
    Example("a", [1, 5, 6], [7, 2], image=1),
    Example("b", [1, 8], [9, 10, 11, 2]),
    Example("c", [1, 5, 6, 12, 13], [2], image=0),
]


class Table:
    """Two images of three features."""

    shape = (3,)

    def rows(self, indices: Sequence[int]) -> torch.Tensor:
        return torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])[list(indices)]


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def by_hand(model: Any, example: Example) -> list[float]:
    """The losses of a response, without a batch, a mask or a label."""
    ids = torch.tensor([*example.prompt, *example.response])
    with torch.no_grad():
        logits = model(ids[None]).logits[0, :-1]
    losses = cross_entropy(logits, ids[1:], reduction="none")
    return losses[-len(example.response) :].tolist()


def test_examples_come_back_as_they_were_given() -> None:
    examples = Examples(EXAMPLES)
    assert [examples[i] for i in range(len(examples))] == EXAMPLES
    longer = examples.changed(lambda each: Example(each.id, [*each.prompt, 3], [4], each.image))
    assert longer[1] == Example("b", [1, 8, 3], [4])
    assert [longer.length(i) for i in range(3)] == [5, 4, 7]


def test_images_go_with_their_examples() -> None:
    batch = Examples(EXAMPLES, Table()).batch([0, 1, 2])  # type: ignore[arg-type]
    assert batch["features"].tolist() == [[4.0, 5.0, 6.0], [0.0] * 3, [1.0, 2.0, 3.0]]
    assert batch["has_image"].tolist() == [True, False, True]
    assert batch["image_attention_mask"][:, 0].tolist() == [1, 0, 1]
    assert torch.equal(batch["image_attention_mask"][:, 1:], batch["attention_mask"])
    assert "features" not in Examples(EXAMPLES).batch([0])


def test_prompts_end_together_and_have_no_response() -> None:
    batch = Examples(EXAMPLES, Table()).prompts([1, 2], padding=39)  # type: ignore[arg-type]
    assert batch["input_ids"].tolist() == [[39, 39, 39, 1, 8], [1, 5, 6, 12, 13]]
    assert batch["attention_mask"].tolist() == [[0, 0, 0, 1, 1], [1] * 5]
    assert batch["has_image"].tolist() == [False, True]


@pytest.mark.parametrize("token_budget", [1, 20, 1000])
def test_losses_are_the_responses_alone(model: Any, token_budget: int) -> None:
    examples = Examples(EXAMPLES)
    found = example_losses(model, examples, token_budget)
    expected = [by_hand(model, each) for each in EXAMPLES]
    assert [labels for _, labels in found] == [2, 4, 1] == [examples.labels(i) for i in range(3)]
    assert [loss for loss, _ in found] == pytest.approx([sum(each) for each in expected], rel=1e-5)
    assert mean_loss(found) == pytest.approx(sum(map(sum, expected)) / 7, rel=1e-5)


def test_the_task_is_the_sum_over_labels(model: Any) -> None:
    task = LanguageTask(Examples(EXAMPLES), Examples(EXAMPLES[:2]), eval_tokens=100)
    loss, labels = task.loss(model, task.batch([0, 2]))
    expected = sum(by_hand(model, EXAMPLES[0])) + sum(by_hand(model, EXAMPLES[2]))
    assert (loss.item(), labels) == (pytest.approx(expected, rel=1e-5), 3)
    assert task.evaluate(model)["val_loss"] == mean_loss(task.losses or [])
    assert [labels for _, labels in task.losses or []] == [2, 4]


def test_of_a_text_every_token_but_the_first_is_predicted(model: Any) -> None:
    text = [1, 5, 6, 7]
    [(loss, labels)] = example_losses(model, Examples.of_texts([text]), 100)
    assert (loss, labels) == (
        pytest.approx(sum(by_hand(model, Example("", [1], text[1:]))), rel=1e-5),
        3,
    )


def test_without_labels_there_is_no_mean() -> None:
    with pytest.raises(ZiaError, match="no response token"):
        mean_loss([(0.0, 0)])
