"""Several adapters on one backbone: by call, by row, and none; each as if it were alone."""

import copy
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.zia_core.backbones import adapted, build, inputs, open_gates, output
from tests.zia_core.test_call_state import Paused
from zia_core import (
    VisualConfig,
    ZeroInitConfig,
    ZiaError,
    adapter_names,
    add,
    attach,
    attach_visual,
    condition,
    detach,
    disabled,
    frozen_prompts,
    load_adapter,
    remove,
    save_adapter,
    train_head,
    use,
    zero_init_layers,
)
from zia_core.baselines import p_tuning_v2
from zia_core.observe import gate_strengths, observed

FAMILIES = ["llama-gqa", "qwen3", "gemma2", "bert", "clip-vision", "timm", "timm-qk-norm"]
OTHERS = {
    "short": ZeroInitConfig(prompt_length=3, num_layers=1, gate_per="layer"),
    "long": ZeroInitConfig(prompt_length=7, num_layers=2, gate_activation="identity"),
    "free": ZeroInitConfig(prompt_length=5, num_layers=2, prompt_source="key_value"),
}
MIXED = ["long", "default", None, "short", "free", "default"]


def randomised(model: nn.Module, seed: int) -> nn.Module:
    open_gates(model, seed)
    generator = torch.Generator().manual_seed(seed)
    for layer in zero_init_layers(model):
        noise = torch.randn(layer.prompt.shape, generator=generator, dtype=torch.float64)
        layer.prompt.data.copy_(noise)
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    """Folders of adapters of a family, each trained on its own, so to say."""

    def save(family: str) -> dict[str, Path]:
        for seed, (name, config) in enumerate(OTHERS.items(), start=5):
            save_adapter(randomised(attach(bare(family), config), seed), tmp_path / name)
        return {name: tmp_path / name for name in OTHERS}

    return save


def bare(family: str) -> nn.Module:
    """A backbone without a task head, which files would have too."""
    model: Any = build(family).double()
    if family.startswith("timm"):
        model.reset_classifier(0)
    return model.bert if family == "bert" else model


def several(family: str, folders: dict[str, Path]) -> nn.Module:
    model = attach(bare(family), ZeroInitConfig(prompt_length=5, num_layers=2))
    for name, folder in folders.items():
        add(model, name, folder)
    return randomised(model, 1)


def alone(family: str, name: str | None, folders: dict[str, Path]) -> nn.Module:
    """The model with one adapter only, or none."""
    if name is None:
        return bare(family)
    if name == "default":
        config = ZeroInitConfig(prompt_length=5, num_layers=2)
        return randomised(attach(bare(family), config), 1)
    return load_adapter(bare(family), folders[name])


def batch_of(family: str, rows: int = len(MIXED), **options: Any) -> dict[str, Tensor]:
    batch = inputs(family, batch=rows, **options)
    return {n: v.double() if v.is_floating_point() else v for n, v in batch.items()}


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_each_by_name_is_what_it_is_alone(family: str, saved: Any) -> None:
    folders, batch = saved(family), batch_of(family)
    model = several(family, folders)
    expected = {
        name: output(alone(family, name, folders), batch) for name in [None, *adapter_names(model)]
    }
    for name, each in expected.items():
        with use(model, name):
            assert torch.equal(output(model, batch), each), name
    assert torch.equal(output(model, batch), expected["default"])
    assert len({each[..., 0].sum().item() for each in expected.values()}) == 5


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_a_batch_with_gradients(family: str, padded: bool, saved: Any) -> None:
    """Outputs and gradients as one at a time."""
    folders, batch = saved(family), batch_of(family, padded=padded)
    model = several(family, folders)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    with use(model, MIXED):
        found = output(model, batch)
        found.square().sum().backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if "zero_init" in n}
    model.zero_grad()
    # Their norms of queries and keys, or their softmax, are float32 inside.
    wide = family not in ("gemma2", "qwen3")
    limits = {"rtol": 1e-7, "atol": 1e-7} if wide else {"rtol": 1e-4, "atol": 1e-5}
    for row, name in enumerate(MIXED):
        with use(model, name):
            one = output(model, {key: value[row : row + 1] for key, value in batch.items()})
        torch.testing.assert_close(found[row : row + 1], one, **limits)
        one.square().sum().backward()
    for name, parameter in model.named_parameters():
        if "zero_init" in name:
            assert parameter.grad is not None
            torch.testing.assert_close(gradients[name], parameter.grad, **limits)


@pytest.mark.parametrize("family", ["llama-gqa", "qwen3", "timm"])
@pytest.mark.parametrize("each_prompt", [False, True])
@torch.no_grad()
def test_rows_with_a_condition(family: str, each_prompt: bool, tmp_path: Path) -> None:
    model = attach(bare(family), ZeroInitConfig(prompt_length=5, num_layers=2))
    add(model, "other", ZeroInitConfig(prompt_length=5, num_layers=1))
    randomised(model, 1)
    names, batch = ["other", None, "default", "other"], batch_of(family, 4)
    shape = (4, 5, 48) if each_prompt else (4, 48)
    vectors = torch.randn(shape, generator=torch.Generator().manual_seed(3)).double()
    present = torch.tensor([True, True, True, False])
    for given in (present, None):
        with condition(model, vectors, given), use(model, names):
            found = output(model, batch)
        for row, name in enumerate(names):
            seen = condition(model, vectors[row : row + 1]) if given is None or given[row] else None
            with use(model, name), seen or nullcontext():
                one = output(model, {key: value[row : row + 1] for key, value in batch.items()})
            torch.testing.assert_close(found[row : row + 1], one)


@pytest.mark.parametrize("family", ["llama-gqa", "qwen3", "gemma2"])
def test_generation_with_an_adapter_per_row(family: str, saved: Any) -> None:
    folders = saved(family)
    model, ids = several(family, folders), batch_of(family, length=6)["input_ids"]
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    expected = []
    for row, name in enumerate(MIXED):
        one = alone(family, name, folders)
        expected.append(one.generate(ids[row : row + 1], **options)[0])
    with use(model, MIXED):
        found = model.generate(ids, **options)
        static = model.generate(ids, cache_implementation="static", disable_compile=True, **options)
    assert torch.equal(found, torch.stack(expected))
    assert torch.equal(static, found)
    assert len({tuple(each[6:].tolist()) for each in expected}) > 3
    with use(model, ["short", "short", "long"]):
        beams = model.generate(ids[:1], num_beams=3, **options)
    assert beams.shape == (1, 12)


@torch.no_grad()
def test_switching_while_prompts_are_frozen(saved: Any) -> None:
    folders, batch = saved("llama-gqa"), batch_of("llama-gqa")
    model, names = several("llama-gqa", folders), ["free", "long", None, "default", MIXED]
    expected = []
    for name in names:
        with use(model, name):
            expected.append(output(model, batch))
    with frozen_prompts(model):
        for _ in range(2):
            for name, each in zip(names, expected, strict=True):
                with use(model, name):
                    assert torch.equal(output(model, batch), each)
        remove(model, "free")
        add(model, "free", folders["long"])
        with use(model, "free"):
            assert torch.equal(output(model, batch), expected[1])


@pytest.mark.parametrize("family", ["llama-gqa", "bert", "timm"])
@pytest.mark.parametrize("softmax", ["separate", "joint"])
@torch.no_grad()
def test_disabled_is_the_backbone_and_nests(family: str, softmax: str) -> None:
    model, batch = adapted(family, softmax=softmax), inputs(family)
    plain, found = output(build(family), batch), output(model, batch)
    assert not torch.allclose(plain, found)
    with disabled(model):
        assert torch.equal(output(model, batch), plain)
        with use(model, "default"):
            assert torch.equal(output(model, batch), found)
            with disabled(model), frozen_prompts(model):
                assert torch.equal(output(model, batch), plain)
        assert torch.equal(output(model, batch), plain)
        assert torch.equal(output(copy.deepcopy(model), batch), found)
    assert torch.equal(output(model, batch), found)
    with pytest.raises(RuntimeError), disabled(model):
        raise RuntimeError
    assert torch.equal(output(model, batch), found)


def test_disabled_generation_is_the_backbones() -> None:
    ids = inputs("llama-gqa")["input_ids"]
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    model = adapted("llama-gqa")
    with disabled(model):
        found = model.generate(ids, **options)
    assert torch.equal(found, build("llama-gqa").generate(ids, **options))
    assert not torch.equal(found, model.generate(ids, **options))


@torch.no_grad()
def test_two_threads_with_an_adapter_each(saved: Any) -> None:
    folders, batch = saved("llama-gqa"), batch_of("llama-gqa")
    model = several("llama-gqa", folders)

    def run(name: Any) -> Tensor:
        with torch.no_grad(), use(model, name), frozen_prompts(model):
            return output(model, batch)

    expected = {str(name): run(name) for name in ("long", None, MIXED)}
    own = output(model, batch)
    for name in ("long", None, MIXED):
        paused = Paused(model.model.layers[2].self_attn.k_proj, lambda name=name: run(name))
        assert torch.equal(output(model, batch), own)
        with use(model, "free"):
            assert torch.equal(paused.result(), expected[str(name)])
    results: list[Tensor] = []
    with disabled(model):
        thread = threading.Thread(target=lambda: results.append(output(model, batch)))
        thread.start()
        thread.join()
    assert torch.equal(results[0], own)


@pytest.mark.parametrize("family", ["llama-gqa", "timm"])
def test_compiled_calls_have_their_own_adapter(family: str, saved: Any) -> None:
    torch._dynamo.reset()
    model, batch = several(family, saved(family)), batch_of(family)
    compiled = torch.compile(lambda b: output(model, b), fullgraph=True, backend="aot_eager")
    for name in ("default", None, "long", MIXED, "short"):
        with use(model, name):
            torch.testing.assert_close(compiled(batch), output(model, batch))


def test_one_adapter_is_trained_and_saved_as_if_it_were_alone(saved: Any, tmp_path: Path) -> None:
    folders, batch = saved("llama-gqa"), batch_of("llama-gqa")
    model = several("llama-gqa", folders)
    for layer in zero_init_layers(model):
        layer.requires_grad_(False)
    torch.manual_seed(4)
    add(model, "new", OTHERS["long"])
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert all(".zero_init.named.new." in name for name in trained)
    assert len(trained) == 4
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    with use(model, "new"):
        assert torch.equal(output(model, batch), output(bare("llama-gqa"), batch))
        output(model, batch).square().mean().backward()
        optimizer.step()
        found = output(model, batch)
    for name in ("new", "short", "default"):
        save_adapter(model, tmp_path / "saved" / name, adapter=name)
    again = load_adapter(bare("llama-gqa"), tmp_path / "saved" / "new")
    assert torch.equal(output(again, batch), found)
    assert all(layer.prompt.requires_grad for layer in zero_init_layers(again))
    short = load_adapter(bare("llama-gqa"), tmp_path / "saved" / "short")
    default = load_adapter(bare("llama-gqa"), tmp_path / "saved" / "default")
    assert torch.equal(output(short, batch), output(alone("llama-gqa", "short", folders), batch))
    assert torch.equal(output(default, batch), output(model, batch))
    load_adapter(model, tmp_path / "saved" / "default")  # beside the named ones
    assert adapter_names(model) == ["default", *OTHERS, "new"]


def test_measuring_gates_is_about_the_adapter_in_use(saved: Any) -> None:
    model = several("llama-gqa", saved("llama-gqa"))
    default = alone("llama-gqa", "default", {})
    assert gate_strengths(model) == gate_strengths(default)
    with observed(model) as own:
        output(model, batch_of("llama-gqa"))
    with observed(model) as norms, use(model, "long"):
        output(model, batch_of("llama-gqa"))
    assert norms.keys() == own.keys() == {1, 2}
    assert norms[2].share() != own[2].share()


@torch.no_grad()
def test_detach_takes_all(saved: Any) -> None:
    model, batch = several("llama-gqa", saved("llama-gqa")), batch_of("llama-gqa")
    plain = bare("llama-gqa")
    assert detach(model).state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(output(model, batch), output(plain, batch))


def test_removed_ones_are_gone(saved: Any) -> None:
    model = several("llama-gqa", saved("llama-gqa"))
    remove(model, "long")
    assert adapter_names(model) == ["default", "short", "free"]
    assert not any(".long." in name for name in model.state_dict())
    with pytest.raises(ZiaError, match="no adapter 'long'; it has default, short, free"):
        remove(model, "long")
    with pytest.raises(ZiaError, match="the model's own adapter cannot be removed"):
        remove(model, "default")


def test_refusals_leave_the_model_as_it_was(saved: Any, tmp_path: Path) -> None:
    folders = saved("llama-gqa")
    model, config = several("llama-gqa", folders), OTHERS["short"]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ZiaError, match=r"call attach\(\) or load_adapter\(\) first"):
        add(bare("llama-gqa"), "a", config)
    for name in ("", "a.b", "keys", "short", "default"):
        with pytest.raises(ZiaError, match="An adapter cannot be called"):
            add(model, name, config)
    name: Any
    for name in (5, None):
        with pytest.raises(ZiaError, match=f"The name of an adapter is a string, not {name}"):
            add(model, name, config)
    with pytest.raises(ZiaError, match="num_layers=3, but the model's own adapter has 2"):
        add(model, "deep", ZeroInitConfig(num_layers=3))
    with pytest.raises(ZiaError, match="need softmax='separate'"):
        add(model, "joint", ZeroInitConfig(num_layers=1, softmax="joint"))
    with pytest.raises(ZiaError, match="no adapter at"):
        add(model, "absent", tmp_path / "absent")
    save_adapter(adapted("qwen3").double(), tmp_path / "qwen3")
    with pytest.raises(ZiaError, match="trained on Qwen3ForCausalLM"):
        add(model, "qwen3", tmp_path / "qwen3")
    other = adapted("llama-gqa").double()
    with torch.no_grad():
        other.model.norm.weight.add_(1)
    save_adapter(other, tmp_path / "weights")
    with pytest.raises(ZiaError, match="different: weights"):
        add(model, "weights", tmp_path / "weights")
    seeing = attach_visual(attach(bare("llama-gqa"), config), VisualConfig(6, depths=(1,)))
    save_adapter(seeing, tmp_path / "visual")
    with pytest.raises(ZiaError, match="more than prompts and gates"):
        add(model, "visual", tmp_path / "visual")
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    add(model, "weights", tmp_path / "weights", other_backbone=True)


def test_a_head_is_not_shared_silently(tmp_path: Path) -> None:
    save_adapter(train_head(adapted("bert")), tmp_path)
    with pytest.raises(ZiaError, match="more than prompts and gates"):
        add(adapted("bert"), "other", tmp_path)


def test_wrong_use_is_a_sentence(saved: Any) -> None:
    model, batch = several("llama-gqa", saved("llama-gqa")), batch_of("llama-gqa")
    with pytest.raises(ZiaError, match="has no adapter 'nobody'; it has default, short"):
        use(model, "nobody").__enter__()
    with pytest.raises(ZiaError, match="has no adapter 'nobody'"):
        use(model, ["short", "nobody"]).__enter__()
    with (
        pytest.raises(ZiaError, match="named for 2 rows and the batch has 6"),
        use(model, ["short", "long"]),
    ):
        output(model, batch)
    with pytest.raises(ZiaError, match="An empty list names no adapter"):
        use(model, []).__enter__()
    with pytest.raises(ZiaError, match=r"call attach\(\) first"):
        disabled(bare("llama-gqa")).__enter__()
    with pytest.raises(ZiaError, match="a batch has one adapter"):
        use(adapted("llama-gqa", softmax="joint"), ["default", None]).__enter__()
    with pytest.raises(ZiaError, match="no adapter 'nobody'"):
        save_adapter(model, "unused", adapter="nobody")
    parallel = nn.DataParallel(model)
    parallel.device_ids = [0, 1]
    with pytest.raises(ZiaError, match="DataParallel runs copies"):
        disabled(parallel).__enter__()


def test_prefix_dropout_is_of_every_adapter() -> None:
    model = p_tuning_v2(build("bert"), 4, dropout=0.5)
    with pytest.raises(ZiaError, match="need softmax='separate'"):
        add(model, "other", ZeroInitConfig(num_layers=1))
    with disabled(model.train()):
        assert torch.equal(output(model, inputs("bert")), output(build("bert"), inputs("bert")))
