"""The per-sample vector added to every prompt (eqs 9-10)."""

from typing import Any

import pytest
import torch

from tests.zia_core.backbones import adapted, build, inputs, naive, output, references
from zia_core import ZiaError, condition, zero_init_layers

FAMILIES = ["llama-gqa", "llama-head-dim", "qwen3", "gemma2", "bert", "timm", "timm-qk-norm"]


def image(rows: int = 2) -> torch.Tensor:
    return torch.randn(rows, 48, generator=torch.Generator().manual_seed(11)).double()


@pytest.mark.parametrize("softmax", ["separate", "joint"])
@pytest.mark.parametrize("family", FAMILIES)
def test_against_prompts_that_contain_it(family: str, softmax: str) -> None:
    """Sample by sample, against adding I to the prompts themselves in the naive reference."""
    if family.startswith("timm") and softmax == "joint":
        family = "timm"
    model, vectors = adapted(family, softmax=softmax).double(), image().requires_grad_()
    batch = inputs(family)
    with condition(model, vectors):
        result = output(model, batch)
        result.square().sum().backward()
    gradient = torch.zeros_like(vectors)
    for row in range(2):
        expected, one = references(model), vectors[row].detach().clone().requires_grad_()
        for ref in expected.values():
            ref.prompt = ref.prompt.detach() + one
        sample = {name: value[row : row + 1] for name, value in batch.items()}
        with naive(build(family).double(), expected) as bare:
            reference = output(bare, sample)
        limits: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5} if family == "gemma2" else {}
        torch.testing.assert_close(result[row : row + 1], reference, **limits)
        reference.square().sum().backward()
        gradient[row] = one.grad
    torch.testing.assert_close(vectors.grad, gradient, rtol=1e-4, atol=1e-4)


def test_a_row_of_zeros_is_no_condition() -> None:
    model, batch = adapted("llama-gqa"), inputs("llama-gqa")
    vectors = image().float()
    vectors[1] = 0.0
    plain = output(model, batch)
    with condition(model, vectors):
        mixed = output(model, batch)
    assert torch.equal(mixed[1], plain[1])
    assert not torch.allclose(mixed[0], plain[0])
    assert torch.equal(output(model, batch), plain)


@pytest.mark.parametrize("softmax", ["separate", "joint"])
@pytest.mark.parametrize("each_prompt", [False, True])
def test_rows_that_are_not_present_are_not_used(each_prompt: bool, softmax: str) -> None:
    model, batch = adapted("llama-gqa", softmax=softmax), inputs("llama-gqa")
    vectors = image().float()
    vectors = vectors[:, None].expand(-1, 5, -1) if each_prompt else vectors
    plain = output(model, batch)
    with condition(model, vectors):
        whole = output(model, batch)
    with condition(model, vectors, torch.tensor([True, False])):
        mixed = output(model, batch)
    assert torch.equal(mixed[1], plain[1])
    assert torch.equal(mixed[0], whole[0])
    assert not torch.allclose(whole[1], plain[1])


def test_generation_with_a_condition() -> None:
    model = adapted("llama-gqa").double()
    ids = inputs("llama-gqa")["input_ids"]
    vectors = image() * 3
    with condition(model, vectors):
        generated = model.generate(ids, max_new_tokens=5, do_sample=False, eos_token_id=None)
        for _ in range(5):
            following = model(input_ids=ids, use_cache=False).logits[:, -1].argmax(-1)
            ids = torch.cat([ids, following[:, None]], 1)
    assert torch.equal(generated, ids)
    assert all(layer.condition is None for layer in zero_init_layers(model))


def test_free_prompts_take_no_condition() -> None:
    model = adapted("llama-gqa", prompt_source="key_value")
    with pytest.raises(ZiaError, match="prompt_source='hidden'"), condition(model, image()):
        output(model, inputs("llama-gqa"))
    with pytest.raises(ZiaError, match=r"call attach\(\) first"), condition(build("bert"), image()):
        pass


def test_a_block_inside_another_gives_its_condition_back() -> None:
    model, batch = adapted("llama-gqa"), inputs("llama-gqa")
    vectors = image().float()
    plain = output(model, batch)
    with condition(model, vectors):
        outer = output(model, batch)
        with condition(model, -vectors):
            assert not torch.allclose(output(model, batch), outer)
        assert torch.equal(output(model, batch), outer)
        with condition(model, None):
            assert torch.equal(output(model, batch), plain)
        assert torch.equal(output(model, batch), outer)
    assert torch.equal(output(model, batch), plain)


@pytest.mark.parametrize(
    "present", [torch.tensor([1, 0]), torch.tensor([True]), torch.tensor([[True], [False]])]
)
def test_who_has_a_vector_is_one_bool_a_sample(present: torch.Tensor) -> None:
    model = adapted("llama-gqa")
    with (
        pytest.raises(ZiaError, match="vectors of 2 samples; give one bool per sample"),
        condition(model, image().float(), present),
    ):
        pass
    assert all(layer.condition is None for layer in zero_init_layers(model))
