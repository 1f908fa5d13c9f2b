from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from zia_core import ZeroInitConfig, attach
from zia_core.losses import IGNORED, causal_lm_loss, label_logits, label_positions

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
}


def build(family: str) -> nn.Module:
    torch.manual_seed(0)
    if family == "gemma2":
        # A cap as low as the logits are large, so that it matters.
        config = Gemma2Config(**SIZES, final_logit_softcapping=0.5, initializer_range=1.0)
        return Gemma2ForCausalLM(config).double()
    return LlamaForCausalLM(LlamaConfig(**SIZES)).double()


def batch() -> dict[str, Tensor]:
    torch.manual_seed(1)
    input_ids = torch.randint(1, 50, (3, 11))
    attention_mask = torch.ones_like(input_ids)
    labels = input_ids.clone()
    labels[0, :4] = IGNORED
    labels[1, 2:9] = IGNORED  # labels in two pieces, the first column (never predicted) among them
    labels[2, :7], labels[2, 9:] = IGNORED, IGNORED
    attention_mask[2, 1:3], attention_mask[2, 9:] = 0, 0  # a gap, so that the mask matters
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "peft"])
def test_loss_and_gradients_are_the_whole_models(family: str, wrapped: bool) -> None:
    model = build(family)
    if wrapped:
        model = get_peft_model(
            model, LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
        )
    inputs = batch()
    loss, n = causal_lm_loss(model, **inputs)
    assert n == 7 + 3 + 2  # of row 1's columns 0, 1, 9 and 10, the first has no predictor

    outputs = model(**inputs)
    assert loss.item() == pytest.approx(outputs.loss.item() * n, rel=1e-6)  # float32 inside
    exact = functional.cross_entropy(
        outputs.logits[:, :-1].flatten(0, 1), inputs["labels"][:, 1:].flatten(), reduction="sum"
    )
    assert loss.item() == pytest.approx(exact.item(), rel=1e-12)
    expected = gradients(model, exact)
    for name, gradient in gradients(model, causal_lm_loss(model, **inputs)[0]).items():
        assert torch.allclose(gradient, expected[name], rtol=1e-9, atol=1e-12), name


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize("chunk", [1, 5, 12, 100])
def test_losses_in_chunks_are_the_whole_ones(family: str, chunk: int) -> None:
    """Also gradients, of weights below, of the head, and of prompts with open gates."""
    model = attach(build(family), ZeroInitConfig(prompt_length=3, num_layers=2, gate_init=0.4))
    model.requires_grad_(True)
    whole, _ = causal_lm_loss(model, **batch())
    expected = gradients(model, whole)
    rows = []
    model.get_output_embeddings().register_forward_hook(lambda *seen: rows.append(len(seen[2])))
    loss, n = causal_lm_loss(model, **batch(), chunk=chunk)
    assert (n, max(rows)) == (12, min(chunk, 12))
    assert loss.item() == pytest.approx(whole.item(), rel=1e-12)
    for name, gradient in gradients(model, loss).items():
        assert torch.allclose(gradient, expected[name], rtol=1e-9, atol=1e-12), name
    assert max(rows) == min(chunk, 12)  # in the backward pass too


def test_whole_logits_are_never_there_in_chunks() -> None:
    """With a vocabulary much larger than the width, in forward and backward pass."""
    torch.manual_seed(0)
    sizes = SIZES | {"vocab_size": 4096}
    model = LlamaForCausalLM(LlamaConfig(**sizes)).requires_grad_(False)
    model.base_model.layers[0].self_attn.q_proj.weight.requires_grad_(True)
    largest = {}
    for chunk in (None, 2):
        with Largest() as seen:
            causal_lm_loss(model, **batch(), chunk=chunk)[0].backward()
        largest[chunk] = seen.elements
    assert largest == {None: 12 * 4096, 2: 2 * 4096}


class Largest(TorchDispatchMode):
    """The number of elements of the largest result of any operation, except views of the weight."""

    elements = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and not func.is_view:
            self.elements = max(self.elements, result.numel())
        return result


def test_logits_are_computed_only_where_there_is_a_label() -> None:
    model = build("llama")
    rows = []
    model.get_output_embeddings().register_forward_hook(lambda *seen: rows.append(seen[2].shape))
    _, n = causal_lm_loss(model, **batch())
    assert rows == [(n, 50)]


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_batch_without_a_mask_is_one_that_hides_nothing(family: str) -> None:
    model, inputs = build(family), batch()
    whole = model(inputs["input_ids"]).logits[label_positions(inputs["labels"])]
    given = {"labels": inputs["labels"], "input_ids": inputs["input_ids"]}
    for mask in (
        {},
        {"attention_mask": None},
        {"attention_mask": torch.ones_like(given["labels"])},
    ):
        assert torch.equal(label_logits(model, **given, **mask), whole)


def test_label_positions_are_those_before_the_labels() -> None:
    labels = torch.tensor([[5, IGNORED, 7, 8, IGNORED]])
    assert label_positions(labels).tolist() == [[False, True, True, False, False]]


def test_a_batch_without_labels_has_loss_and_gradient_zero() -> None:
    model, inputs = build("llama"), batch()
    inputs["labels"].fill_(IGNORED)
    loss, n = causal_lm_loss(model, **inputs)
    loss.backward()
    assert (loss.item(), n) == (0.0, 0)
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_a_bf16_model_gives_a_float32_loss() -> None:
    loss, _ = causal_lm_loss(build("llama").bfloat16(), **batch())
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_logits_of_some_tokens_are_those_of_all(family: str) -> None:
    model, inputs, some = build(family), batch(), torch.tensor([7, 3, 41])
    labels = inputs.pop("labels")
    every = label_logits(model, labels, **inputs)
    torch.testing.assert_close(label_logits(model, labels, some, **inputs), every[:, some])


def test_logits_of_some_tokens_do_not_tie_in_bfloat16() -> None:
    """Of two weights that differ in the last bit, the larger one wins."""
    model, inputs = build("llama").to(torch.bfloat16), batch()
    labels, some = inputs.pop("labels"), torch.tensor([7, 3])
    weight = model.get_output_embeddings().weight.data
    weight[7], weight[3] = 1.0, 1.0
    weight[3, 0] = 1.0078125
    hidden = model.base_model(**inputs).last_hidden_state[label_positions(labels)]
    found = label_logits(model, labels, some, **inputs)
    assert torch.equal(found.argmax(-1) == 1, hidden[:, 0] > 0)
    assert not torch.equal(found.bfloat16().argmax(-1) == 1, hidden[:, 0] > 0)
