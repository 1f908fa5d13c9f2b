"""Concurrent calls of one model: each gets the same output as alone.

This is deterministic: one call is paused within its forward pass, another runs, the first resumes.
"""

import _thread
import contextvars
import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.zia_core.backbones import adapted, build, inputs, output
from zia_core import (
    VisualConfig,
    ZeroInitConfig,
    ZiaError,
    attach,
    attach_visual,
    condition,
    frozen_prompts,
    images,
    zero_init_layers,
)
from zia_core.baselines import p_tuning_v2, side_tuning, train_head
from zia_core.observe import observed
from zia_core.trunk import trunk

SECONDS = 20.0


class Paused:
    """`work` in its own thread, paused when it first reaches `part` of the model."""

    def __init__(self, part: nn.Module, work: Callable[[], Any]) -> None:
        self._reached, self._go, self._found = threading.Event(), threading.Event(), []
        self._thread = threading.Thread(target=self._run, args=(work,))
        handle = part.register_forward_pre_hook(self._pause)
        self._thread.start()
        assert self._reached.wait(SECONDS)
        handle.remove()

    def result(self) -> Any:
        """Resume, and return or raise what `work` does."""
        self._go.set()
        self._thread.join(SECONDS)
        if isinstance(self._found[0], BaseException):
            raise self._found[0]
        return self._found[0]

    def _pause(self, part: nn.Module, args: Any) -> None:
        if threading.current_thread() is self._thread and not self._reached.is_set():
            self._reached.set()
            assert self._go.wait(SECONDS)

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            self._found.append(work())
        except BaseException as error:
            self._found.append(error)
            self._reached.set()


def two(family: str) -> list[dict[str, Tensor]]:
    """Two batches of different sizes and contents."""
    batch = inputs(family, batch=3)
    return [batch, {name: value[1:].flip(0) for name, value in batch.items()}]


# A part of the top layer, reached after its prompts are computed (timm), or before.
IN_ATTENTION = {
    "timm": "blocks.2.attn.q_norm",
    "timm-unfused": "blocks.2.attn.q_norm",
    "llama-gqa": "model.layers.2.self_attn.k_proj",
    "bert": "bert.encoder.layer.2.attention.self.key",
}


@pytest.mark.parametrize("softmax", ["separate", "joint"])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("family", IN_ATTENTION)
@torch.no_grad()
def test_a_pass_in_the_middle_of_another(family: str, keep: bool, softmax: str) -> None:
    model, (one, other) = adapted(family, softmax=softmax), two(family)
    expected = output(model, one), output(model, other)

    def work() -> Tensor:
        with torch.no_grad(), frozen_prompts(model) if keep else nullcontext():
            return output(model, one)

    paused = Paused(model.get_submodule(IN_ATTENTION[family]), work)
    with frozen_prompts(model) if keep else nullcontext():
        assert torch.equal(output(model, other), expected[1])
    assert torch.equal(paused.result(), expected[0])


def seeing(family: str, projection: Any = "global") -> nn.Module:
    config = VisualConfig(6, projection=projection, query_width=8, heads=2, blocks=1)
    model = attach_visual(adapted(family), config)
    with torch.no_grad():
        for parameter in model.visual_projection.parameters():
            parameter.normal_(std=0.5)
    return model


def shown(rows: int, seed: int) -> Tensor:
    return torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize("family", IN_ATTENTION)
@torch.no_grad()
def test_images_of_two_calls(family: str) -> None:
    model, (one, other) = seeing(family), two(family)
    batches = [(one, shown(3, 1)), (other, shown(2, 2))]

    def see(batch: dict[str, Tensor], features: Tensor | None) -> Tensor:
        with torch.no_grad(), nullcontext() if features is None else images(model, features):
            return output(model, batch)

    expected = [see(*each) for each in batches]
    blind = output(model, one)
    assert not torch.allclose(blind, expected[0])
    for features, alone in ((batches[0][1], expected[0]), (None, blind)):
        paused = Paused(model.get_submodule(IN_ATTENTION[family]), lambda f=features: see(one, f))
        with images(model, batches[1][1]):
            assert torch.equal(output(model, other), expected[1])
            assert torch.equal(paused.result(), alone)
            assert torch.equal(output(model, other), expected[1])
    assert all(layer.condition is None for layer in zero_init_layers(model))


@torch.no_grad()
def test_generation_with_an_image_each() -> None:
    model, options = seeing("llama-gqa"), {"max_new_tokens": 5, "do_sample": False}
    ids = [batch["input_ids"] for batch in two("llama-gqa")]

    def caption(i: int) -> Tensor:
        with images(model, shown(len(ids[i]), i)):
            return model.generate(ids[i], eos_token_id=None, **options)

    expected = [caption(0), caption(1)]
    paused = Paused(model.model.layers[2].self_attn.k_proj, lambda: caption(0))
    assert torch.equal(caption(1), expected[1])
    assert torch.equal(paused.result(), expected[0])


@torch.no_grad()
def test_other_calls_are_not_observed() -> None:
    model, (one, other) = adapted("llama-gqa"), two("llama-gqa")
    with observed(model) as alone:
        output(model, one)
    with observed(model) as norms:
        thread = threading.Thread(target=lambda: output(model, other))
        thread.start()
        thread.join(SECONDS)
        output(model, one)
    assert {n: each.share() for n, each in norms.items()} == {
        n: each.share() for n, each in alone.items()
    }


def test_prefix_dropout_has_the_batch_of_its_own_pass() -> None:
    model, (one, other) = p_tuning_v2(build("bert"), 4, dropout=0.5).train(), two("bert")
    # The top layer's prompts are computed after its keys, so the other pass comes before.
    paused = Paused(model.get_submodule(IN_ATTENTION["bert"]), lambda: output(model, one))
    assert len(output(model, other)) == 2
    assert len(paused.result()) == 3


@torch.no_grad()
def test_side_tuning_sees_the_image_of_its_own_pass() -> None:
    model, (one, other) = side_tuning(build("timm")).eval(), two("timm")
    expected = output(model, one), output(model, other)
    paused = Paused(model.blocks[1], lambda: output(model, one))
    assert torch.equal(output(model, other), expected[1])
    assert torch.equal(paused.result(), expected[0])


@torch.no_grad()
def test_a_pass_while_the_trunk_is_computed() -> None:
    model = train_head(adapted("timm"))
    batch, below = inputs("timm"), trunk(model)
    expected = output(model, batch)
    features = below.features(model, batch["pixel_values"], 2)
    paused = Paused(
        model.blocks[0], lambda: below.features(model, batch["pixel_values"], batch_size=2)
    )
    assert torch.equal(output(model, batch), expected)
    assert torch.equal(paused.result(), features)


def test_a_copy_made_inside_a_block_is_in_none() -> None:
    model, batch = adapted("timm"), inputs("timm")
    plain = output(model, batch)
    with condition(model, torch.ones(2, 48)), frozen_prompts(model):
        twin = copy.deepcopy(model)
        assert torch.equal(output(twin, batch), plain)
        assert not torch.allclose(output(model, batch), plain)
    assert torch.equal(output(twin, batch), plain)


def test_a_block_that_is_left_elsewhere_says_so() -> None:
    model = adapted("llama-gqa")

    def chunks() -> Any:
        with condition(model, torch.ones(2, 48)):
            yield

    one, other = chunks(), chunks()
    for each in (one, other):
        contextvars.copy_context().run(next, each)
    with pytest.raises(ZiaError, match="left in another context than it was entered in"):
        contextvars.copy_context().run(next, one)
    with pytest.raises(RuntimeError, match="the reason"):
        contextvars.copy_context().run(other.throw, RuntimeError("the reason"))


def checkpointed(reentrant: bool, device: str) -> tuple[nn.Module, nn.Module]:
    """Two equal models, one of which recomputes its layers in the backward pass."""
    plain, saving = (adapted("llama-gqa").train().to(device) for _ in range(2))
    saving.gradient_checkpointing_enable({"use_reentrant": reentrant})
    saving.enable_input_require_grads()
    return plain, saving


def assert_same_gradients(plain: nn.Module, saving: nn.Module) -> None:
    for ours, theirs in zip(zero_init_layers(saving), zero_init_layers(plain), strict=True):
        torch.testing.assert_close(ours.prompt.grad, theirs.prompt.grad)
        torch.testing.assert_close(ours.gate.grad, theirs.gate.grad)


@pytest.mark.skipif(
    not hasattr(torch.autograd.graph, "contextvars"), reason="this torch leaves no context"
)
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_pass_repeated_in_a_thread_of_autograd(
    reentrant: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where a checkpointed layer is recomputed in a thread without a context."""
    plain, saving = checkpointed(reentrant, "cpu")
    with condition(plain, shown(2, 1).repeat(1, 8)):
        output(plain, inputs("llama-gqa")).square().mean().backward()
    with condition(saving, shown(2, 1).repeat(1, 8)):
        loss = output(saving, inputs("llama-gqa")).square().mean()
        context = contextvars.copy_context()
        # torch stores the context of the thread that called `backward` for its threads.
        monkeypatch.setattr(torch.autograd.graph.contextvars, "copy_context", lambda: context)
        thread = threading.Thread(target=loss.backward)
        thread.start()
        thread.join(SECONDS)
    assert_same_gradients(plain, saving)


def in_a_thread_without_a_context(call: Callable[[], None]) -> list[Exception]:
    """Run it in a thread that Python did not create, like autograd's; return what it raises."""
    raised: list[Exception] = []
    done = threading.Event()

    def run() -> None:
        try:
            call()
        except Exception as error:
            raised.append(error)
        done.set()

    _thread.start_new_thread(run, ())
    assert done.wait(SECONDS)
    return raised


def test_a_pass_repeated_by_a_torch_that_leaves_no_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch 2.11: it belongs to the only thread with an open block; two are refused."""
    monkeypatch.setattr(torch._C, "_is_key_in_tls", lambda key: False)
    plain, saving = checkpointed(False, "cpu")
    with condition(plain, shown(2, 1).repeat(1, 8)):
        output(plain, inputs("llama-gqa")).square().mean().backward()
    with condition(saving, shown(2, 1).repeat(1, 8)):
        loss = output(saving, inputs("llama-gqa")).square().mean()
        assert not in_a_thread_without_a_context(loss.backward)
        assert_same_gradients(plain, saving)
        loss = output(saving, inputs("llama-gqa")).square().mean()
        with ThreadPoolExecutor(1) as pool:
            block = condition(plain, shown(2, 2).repeat(1, 8))
            pool.submit(block.__enter__).result()
            (error,) = in_a_thread_without_a_context(loss.backward)
            pool.submit(block.__exit__, None, None, None).result()
        assert "and 2 threads have a condition" in str(error)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_pass_repeated_in_the_backward_pass_on_a_gpu(reentrant: bool) -> None:
    plain, saving = checkpointed(reentrant, "cuda")
    batch = {name: value.cuda() for name, value in inputs("llama-gqa").items()}
    for model in (plain, saving):
        with condition(model, shown(2, 1).repeat(1, 8).cuda()):
            output(model, batch).square().mean().backward()
    assert_same_gradients(plain, saving)


@pytest.mark.parametrize("family", ["llama-gqa", "timm"])
def test_compiled_passes_have_their_own_images(family: str) -> None:
    torch._dynamo.reset()
    model, batch = seeing(family), inputs(family)
    compiled = torch.compile(lambda b: output(model, b), fullgraph=True, backend="aot_eager")
    plain = output(model, batch)
    torch.testing.assert_close(compiled(batch), plain)
    for seed in (1, 2):
        with images(model, shown(2, seed)):
            expected = output(model, batch)
            torch.testing.assert_close(compiled(batch), expected)
        assert not torch.allclose(expected, plain)
    torch.testing.assert_close(compiled(batch), plain)


def test_a_condition_is_refused_where_copies_run_in_threads_of_their_own() -> None:
    model = attach(build("llama-gqa"), ZeroInitConfig(prompt_length=5, num_layers=2))
    parallel = nn.DataParallel(model)
    parallel.device_ids = [0, 1]
    with (
        pytest.raises(ZiaError, match="DataParallel runs copies"),
        condition(parallel, torch.ones(2, 48)),
    ):
        pass
