"""Predicted memory against the requests to torch's allocator on a CPU."""

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, RobertaConfig, RobertaModel

from tests.allocations import peak_of
from zia_core import ZeroInitConfig, attach
from zia_core.blocks import run_blocks
from zia_core.errors import ZiaError
from zia_core.losses import causal_lm_loss, label_index
from zia_core.padding import Padding, padding_known
from zia_core.step_memory import step_memory

VOCABULARY = 8192
CONFIG = ZeroInitConfig(prompt_length=10, num_layers=3, gate_init=0.3)
LLAMA = LlamaConfig(
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=172,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
)
ROBERTA = RobertaConfig(
    vocab_size=500,
    hidden_size=64,
    intermediate_size=256,
    num_hidden_layers=4,
    num_attention_heads=4,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
Loss = Callable[[nn.Module], Tensor]


def batch(device: str) -> dict[str, Tensor]:
    ids = torch.arange(4 * 96).reshape(4, 96) % 500
    mask = torch.ones_like(ids)
    mask[0, -5:] = 0
    labels = ids.clone()
    labels[:, :60] = -100
    whole = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {k: v.to(device) for k, v in (whole | {"label_index": label_index(labels)}).items()}


def words_loss(device: str, model: nn.Module, chunk: int | None = None) -> Tensor:
    given = batch(device)
    with padding_known({given["attention_mask"].shape: Padding.ANYWHERE}):
        return causal_lm_loss(model, **given, chunk=chunk)[0] / 3


def encoder_loss(device: str, model: Any) -> Tensor:
    given = batch(device)
    with padding_known({given["attention_mask"].shape: Padding.ANYWHERE}):
        hidden = model(given["input_ids"], given["attention_mask"]).last_hidden_state
    return hidden.square().mean()


def images_loss(device: str, model: nn.Module) -> Tensor:
    images = torch.zeros(6, 3, 64, 64, device=device)
    labels = torch.zeros(6, dtype=torch.int64, device=device)
    return cross_entropy(model(images), labels, reduction="sum")


def llama() -> nn.Module:
    return attach(LlamaForCausalLM(LLAMA), CONFIG)


def trained_whole() -> nn.Module:
    return llama().requires_grad_(True)


def half() -> nn.Module:
    return attach(LlamaForCausalLM(LLAMA).bfloat16(), CONFIG)


def roberta() -> nn.Module:
    return attach(RobertaModel(ROBERTA, add_pooling_layer=False), CONFIG)


def vit() -> nn.Module:
    sizes = {"img_size": 64, "patch_size": 8, "embed_dim": 64, "depth": 4, "num_heads": 4}
    return attach(timm.create_model("vit_tiny_patch16_224", num_classes=5, **sizes), CONFIG)


CASES: dict[str, tuple[Callable[[], nn.Module], Any, bool]] = {
    "adapter": (llama, words_loss, False),
    "adapter, checkpointed": (llama, words_loss, True),
    "adapter, loss in chunks": (llama, partial(words_loss, chunk=20), False),
    "adapter, both": (llama, partial(words_loss, chunk=20), True),
    "everything": (trained_whole, words_loss, False),
    "everything, both": (trained_whole, partial(words_loss, chunk=20), True),
    "bfloat16": (half, words_loss, False),
    "roberta": (roberta, encoder_loss, False),
    "vit": (vit, images_loss, False),
    "vit, checkpointed": (vit, images_loss, True),
}


@pytest.mark.parametrize("case", CASES)
def test_the_prediction_is_what_a_step_takes(case: str) -> None:
    """Within 5 % of the memory beside the weights, in a step of two micro-batches."""
    build, loss, checkpointed = CASES[case]
    model = build().train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])

    def step() -> None:
        with run_blocks(model, compiled=False, checkpointed=checkpointed):
            for _ in range(2):
                loss("cpu", model).backward()
        optimizer.step()
        optimizer.zero_grad()

    step()  # creates AdamW's moments and the tables of rotary embeddings
    found = peak_of(step)
    with torch.device("meta"):
        shape = build().train()
    predicted = step_memory(shape, lambda: loss("meta", shape), checkpoint_activations=checkpointed)
    gradients = predicted.trained // 3
    assert predicted.kept + predicted.working + gradients == pytest.approx(found, rel=0.05)
    assert predicted.weights == sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    assert predicted.trained == 3 * trained
    assert predicted.peak - predicted.weights == predicted.trained + (
        predicted.kept + predicted.working
    )


def test_options_save_what_they_are_for() -> None:
    with torch.device("meta"):
        model = llama().train()
    plain = step_memory(model, lambda: words_loss("meta", model))
    chunked = step_memory(model, lambda: words_loss("meta", model, 20))
    saving = step_memory(model, lambda: words_loss("meta", model, 20), checkpoint_activations=True)
    labels = 4 * 36
    assert plain.kept - chunked.kept > 0.8 * labels * VOCABULARY * 4
    assert saving.kept < chunked.kept / 2
    assert saving.peak < chunked.peak < plain.peak
    assert all(p.grad is None for p in model.parameters())
    assert torch.nn.functional.scaled_dot_product_attention.__name__ != "_fused"


def test_a_model_with_numbers_is_refused() -> None:
    with pytest.raises(ZiaError, match=r"weight is on cpu: build the model on the meta device$"):
        step_memory(nn.Linear(2, 2), lambda: torch.zeros(()))


def test_what_was_allocated_before_is_not_counted() -> None:
    """A cycle stays until it is collected, which may be within the next measurement."""

    def leave_garbage() -> None:
        cycle: list[object] = [torch.zeros(1 << 20)]
        cycle.append(cycle)

    def allocate() -> None:
        gc.collect()
        torch.zeros(1 << 10)

    gc.disable()
    try:
        assert peak_of(leave_garbage) == 4 << 20
        assert peak_of(allocate) == 4 << 10
    finally:
        gc.enable()
