"""The prompt term's kernel against float64 and the plain form; interpreted on a CPU."""

import copy
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.zia_core.backbones import adapted, build, inputs, open_gates, output
from zia_core import ZeroInitConfig, ZiaError, attach, condition, frozen_prompts, zero_init_layers
from zia_core.attention import PromptKV, add_to_one_query, prompt_term
from zia_core.kernel_choice import prompt_form
from zia_core.observe import observed

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LIMITS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
NAMES = ("output", "text", "queries", "keys", "values", "gates")


@dataclass(frozen=True)
class Case:
    """Sizes, and whether keys and values are per sample or shared."""

    T: int
    D: int
    K: int
    H: int = 4
    G: int = 4
    B: int = 2
    own_keys: bool = False
    own_values: bool = False
    gates: int = 4
    softcap: float | None = None


CASES = {
    "llama": Case(T=70, D=128, K=10, H=2, G=2, gates=2),
    "grouped": Case(T=33, D=64, K=10, G=2),
    "one-key-head-one-gate": Case(T=33, D=64, K=3, G=1, gates=1),
    "width-80": Case(T=17, D=80, K=16, G=2),
    "width-96-capped": Case(T=40, D=96, K=17, H=2, G=2, gates=2, softcap=2.0),
    "shift-per-sample": Case(T=20, D=64, K=10, G=2, own_values=True),
    "keys-per-sample": Case(T=20, D=64, K=10, G=2, own_keys=True, own_values=True, gates=1),
    "one-query": Case(T=1, D=128, K=10, B=3),
    "longest-and-widest": Case(T=40, D=256, K=128, H=1, G=1, B=1, gates=1, softcap=30.0),
}


def drawn(case: Case, dtype: torch.dtype) -> list[Tensor]:
    """Text, queries, keys, values and gates; nothing is contiguous as [B, H, T, D]."""
    of = torch.Generator().manual_seed(3)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=of)

    def prompts(own: bool) -> Tensor:
        return normal(*([case.B] if own else []), case.K, case.G, case.D).transpose(-2, -3)

    text = normal(case.B, case.T, case.H, case.D)
    queries = normal(case.B, case.T, 3, case.H, case.D)[:, :, 0].transpose(1, 2)
    found = [text, queries, prompts(case.own_keys), prompts(case.own_values)]
    gates = torch.tanh(normal(case.gates))
    return [x.to(DEVICE, dtype) for x in found] + [gates.to(DEVICE)]


def naive(
    text: Tensor, q: Tensor, key: Tensor, value: Tensor, gates: Tensor, scale: float, softcap: Any
) -> Tensor:
    """The equation, in the dtype of its arguments."""
    key, value = (x.repeat_interleave(q.shape[1] // x.shape[-3], dim=-3) for x in (key, value))
    scores = q @ key.transpose(-1, -2) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    return text + (gates[:, None, None] * (scores.softmax(-1) @ value)).transpose(1, 2)


def plain(
    text: Tensor, q: Tensor, key: Tensor, value: Tensor, gates: Tensor, scale: float, softcap: Any
) -> Tensor:
    """The plain form, with the gate folded into the values as a layer does it."""
    key, value = (x.repeat_interleave(q.shape[1] // x.shape[-3], dim=-3) for x in (key, value))
    prompts = PromptKV(key, (gates[:, None, None] * value).to(value.dtype))
    return text + prompt_term(q, prompts, scale, softcap).transpose(1, 2)


def results(function: Any, given: list[Tensor], case: Case) -> list[Tensor]:
    """The output and all gradients."""
    leaves = [x.detach().requires_grad_() for x in given]
    out = function(*leaves, case.D**-0.5, case.softcap)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(5)).bfloat16()
    (out * weight.to(out)).sum().backward()
    return [out, *(x.grad for x in leaves)]


def compare(found: list[Tensor], expected: list[Tensor], limit: float) -> None:
    for name, ours, theirs in zip(NAMES, found, expected, strict=True):
        assert ours.shape == theirs.shape, name
        error = (ours.double() - theirs.double()).norm() / theirs.double().norm()
        assert error < limit, f"{name}: {error:.2e}"


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_kernel_is_the_equation(name: str, dtype: torch.dtype) -> None:
    from zia_core.fused_term import add_prompt_term

    case = CASES[name]
    given = drawn(case, dtype)
    found = results(add_prompt_term, given, case)
    assert [x.dtype for x in found] == [dtype] * 5 + [torch.float32]
    compare(found, results(naive, [x.double() for x in given], case), LIMITS[dtype])
    compare(found, results(plain, given, case), 1.5 * LIMITS[dtype])


@pytest.mark.parametrize("frozen", [False, True])
def test_stretches_of_queries_are_added_up(frozen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one or several programs per head; queries that need no gradient get none."""
    from zia_core import fused_term

    case = Case(T=130, D=64, K=10, H=2, G=2, B=1, gates=2)
    given = drawn(case, torch.float32)
    found = []
    for parts in (1, 512, 512):
        monkeypatch.setattr(fused_term, "PARTS", parts)
        leaves = [x.detach().requires_grad_(i != 1 or not frozen) for i, x in enumerate(given)]
        out = fused_term.add_prompt_term(*leaves, 0.1)
        (out * torch.arange(out.numel()).view(out.shape).to(out).sin()).sum().backward()
        assert (leaves[1].grad is None) is frozen
        found.append([x.grad for i, x in enumerate(leaves) if i != 1])
    whole, parted, again = found
    torch.testing.assert_close(whole, parted, rtol=1e-4, atol=1e-5)
    assert all(x.equal(y) for x, y in zip(parted, again, strict=True))  # always in the same order


FAMILIES = {
    "llama-gqa": {},
    "llama-head-dim": {},
    "qwen3": {"gate_per": "layer"},
    "gemma2": {},
    "bert": {"prompt_source": "key_value"},
    "timm": {"gate_activation": "identity"},
    "timm-qk-norm": {},
}


def learned(model: nn.Module, batch: Any) -> list[Tensor]:
    """Output and gradients of a forward and backward pass."""
    out = output(model, batch)
    model.zero_grad()
    out.square().mean().backward()
    return [out.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


def moved(model: nn.Module, batch: Any) -> tuple[nn.Module, Any]:
    return model.to(DEVICE), {name: x.to(DEVICE) for name, x in batch.items()}


@pytest.mark.parametrize("conditioned", ["no", "vector", "vectors", "some", "some vectors"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_computes_the_same(family: str, conditioned: str) -> None:
    if conditioned != "no" and FAMILIES[family].get("prompt_source"):
        pytest.skip("free prompts take no condition")
    model, batch = moved(adapted(family, **FAMILIES[family]), inputs(family))
    vectors = torch.randn(2, 48, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    if "vectors" in conditioned:
        vectors = vectors[:, None] * torch.arange(1, 6, device=DEVICE)[:, None]
    given = None if conditioned == "no" else vectors
    present = torch.tensor([True, False], device=DEVICE) if "some" in conditioned else None
    found = {}
    for form in ("plain", "fused"):
        with prompt_form(form), condition(model, given, present):
            found[form] = learned(model, batch)
    torch.testing.assert_close(found["fused"], found["plain"], rtol=1e-4, atol=1e-5)
    assert not all(x.equal(y) for x, y in zip(*found.values(), strict=True))  # really two forms


def test_a_sample_without_a_condition_keeps_its_bits() -> None:
    model, batch = moved(adapted("llama-gqa"), inputs("llama-gqa"))
    vectors = torch.randn(2, 5, 48, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    with prompt_form("fused"):
        expected = output(model, batch)
        with condition(model, vectors, torch.tensor([True, False], device=DEVICE)):
            found = output(model, batch)
    assert found[1].equal(expected[1])
    assert not torch.allclose(found[0], expected[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_closed_gates_are_the_backbone(dtype: torch.dtype) -> None:
    model, batch = moved(adapted("llama-gqa").to(dtype), inputs("llama-gqa"))
    for layer in zero_init_layers(model):
        nn.init.zeros_(layer.gate)
    with prompt_form("fused"):
        fused = output(model, batch)
    with prompt_form("plain"):
        assert fused.equal(output(model, batch))


def test_generation_says_the_same_and_keeps_what_it_made() -> None:
    model, batch = moved(adapted("llama-gqa"), inputs("llama-gqa"))
    options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
    with prompt_form("plain"):
        expected = model.generate(batch["input_ids"], **options)
    made = []
    k_proj = model.model.layers[-1].self_attn.k_proj
    handle = k_proj.register_forward_hook(lambda module, args, out: made.append(args[0].shape))
    with prompt_form("fused"):
        assert model.generate(batch["input_ids"], **options).equal(expected)
    handle.remove()
    assert sum(len(shape) == 2 for shape in made) == 1


def test_one_query_a_sample_is_the_equation() -> None:
    text, q, key, value, gates = (x.double() for x in drawn(CASES["one-query"], torch.float32))
    size = (len(q), -1, -1, -1)
    own = PromptKV(key.expand(size), (gates[:, None, None] * value).expand(size))
    found = add_to_one_query(text, q, own, 0.1)
    assert not torch.allclose(found, text)
    torch.testing.assert_close(found, naive(text, q, key, value, gates, 0.1, None))


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
@torch.no_grad()
def test_generation_on_cuda_is_three_operations_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The automatic choice; the plain form and the kernel agree."""
    model, batch = moved(adapted("llama-gqa"), inputs("llama-gqa"))
    options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
    said, calls = {}, []

    def counted(*args: Any) -> Tensor:
        calls.append(args)
        return add_to_one_query(*args)

    monkeypatch.setattr("zia_core.layer.add_to_one_query", counted)
    for form in ("plain", "fused", "automatic"):
        with prompt_form(form):
            said[form] = model.generate(batch["input_ids"], **options)
        assert len(calls) == (4 * len(zero_init_layers(model)) if form == "automatic" else 0)
    assert said["plain"].equal(said["fused"])
    assert said["plain"].equal(said["automatic"])


def test_a_second_derivative_is_refused() -> None:
    from zia_core.fused_term import add_prompt_term

    text, q, key, value, gates = drawn(CASES["grouped"], torch.float32)
    q.requires_grad_()
    out = add_prompt_term(text, q, key, value, gates, 0.1)
    (first,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.square().sum().backward()


@torch.no_grad()
def test_kept_prompts_are_those_of_the_form() -> None:
    model, batch = moved(adapted("llama-gqa"), inputs("llama-gqa"))
    expected = {}
    for form in ("plain", "fused"):
        with prompt_form(form):
            expected[form] = output(model, batch)
    assert not expected["plain"].equal(expected["fused"])
    with frozen_prompts(model):
        for form in ("plain", "fused", "plain"):
            with prompt_form(form):
                assert output(model, batch).equal(expected[form])


def test_autocast_and_checkpointing_and_copies() -> None:
    model, batch = moved(adapted("llama-gqa").train(), inputs("llama-gqa"))
    found = {}
    for form in ("plain", "fused"):
        with prompt_form(form), torch.autocast(DEVICE, torch.bfloat16):
            found[form] = learned(model, batch)
    for ours, theirs in zip(found["fused"], found["plain"], strict=True):
        assert (ours - theirs).float().norm() < 2e-2 * theirs.float().norm()
    with prompt_form("fused"):
        expected = learned(model, batch)
        twin = copy.deepcopy(model)
        twin.gradient_checkpointing_enable()
        assert all(x.equal(y) for x, y in zip(learned(twin, batch), expected, strict=True))


@pytest.mark.skipif(
    not hasattr(torch.autograd.graph, "contextvars"),
    reason="this torch cannot compile what reads context variables whole",
)
def test_compiled_whole() -> None:
    """As one graph, through custom operators."""
    from torch._dynamo.testing import CompileCounterWithBackend

    model, _ = moved(adapted("llama-gqa"), inputs("llama-gqa"))
    attention = model.model.layers[-1].self_attn
    hidden = torch.randn(2, 9, 48, generator=torch.Generator().manual_seed(2)).to(DEVICE)
    rotary = model.model.rotary_emb(hidden, torch.arange(9, device=DEVICE)[None])

    def layer(x: Tensor) -> Tensor:
        return attention(hidden_states=x, position_embeddings=rotary, attention_mask=None)[0]

    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, backend=counter, fullgraph=True)
    found = []
    with prompt_form("fused"):
        for function in (layer, compiled):
            x = hidden.clone().requires_grad_()
            model.zero_grad()
            out = function(x)
            out.square().sum().backward()
            zero_init = attention.zero_init
            found.append([out, x.grad, zero_init.prompt.grad, zero_init.gate.grad])
    torch.testing.assert_close(found[1], found[0])
    assert counter.frame_count == 1


@pytest.mark.parametrize(
    ("reason", "prompts", "kind"),
    [("129 prompts", 129, "llama-gqa"), ("float64", 5, "double"), ("observed", 5, "observed")],
)
def test_what_it_does_not_do_is_named_and_not_chosen(reason: str, prompts: int, kind: str) -> None:
    model = open_gates(attach(build("llama-gqa"), ZeroInitConfig(prompts, 2)))
    model, batch = moved(model.double() if kind == "double" else model, inputs("llama-gqa"))
    output(model, batch)  # automatic: the plain form, on any device
    seen = observed(model) if kind == "observed" else nullcontext()
    with (
        seen,
        prompt_form("fused"),
        pytest.raises(ZiaError, match=f"does not support.*{reason}"),
    ):
        output(model, batch)


def test_automatic_is_plain_on_a_cpu_and_the_kernel_on_a_card() -> None:
    model, batch = moved(adapted("llama-gqa"), inputs("llama-gqa"))
    automatic = output(model, batch)
    with prompt_form("fused" if DEVICE == "cuda" else "plain"):
        assert output(model, batch).equal(automatic)
    with prompt_form("plain" if DEVICE == "cuda" else "fused"):
        assert not output(model, batch).equal(automatic)


def test_importing_the_method_does_not_import_triton() -> None:
    code = "import sys, zia_core.layer, zia_core.attachment; sys.exit('triton' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
