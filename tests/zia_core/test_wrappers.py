"""Adapter files do not depend on wrappers: the same bytes, whatever wraps the model."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import torch.distributed as dist
from accelerate import dispatch_model
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from tests.zia_core.backbones import adapted, build, inputs, open_gates, output
from zia_core import (
    VisualConfig,
    ZeroInitConfig,
    ZiaError,
    attach,
    attach_visual,
    detach,
    load_adapter,
    save_adapter,
    train_head,
    zero_init_layers,
)
from zia_core.identity import gathered
from zia_core.wrappers import own_parameters, unwrapped

CONFIG = ZeroInitConfig(prompt_length=5, num_layers=2)
FAMILIES = ["llama-gqa", "timm"]


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """A process group of size one."""
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    yield
    dist.destroy_process_group()


def run(model: Any, family: str) -> Tensor:
    """`output` of a model whose class does not show how to call it."""
    batch = inputs(family)
    return model(batch["pixel_values"]) if family == "timm" else output(model, batch)


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


def blocks(model: nn.Module) -> Any:
    lists = (m for m in model.modules() if isinstance(m, nn.ModuleList | nn.Sequential))
    return next(each for each in lists if len(each) == 3)


def each_block(wrap: Callable[[nn.Module], nn.Module]) -> Callable[[nn.Module], nn.Module]:
    def wrapped(model: nn.Module) -> nn.Module:
        found = blocks(model)
        for i, block in enumerate(list(found)):
            found[i] = wrap(block)
        return model

    return wrapped


def with_lora(model: nn.Module) -> Any:
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    targets = ["q_proj", "v_proj", "fc1"]
    found = peft.get_peft_model(model, peft.LoraConfig(target_modules=targets))
    for name, parameter in own_parameters(found).items():
        parameter.requires_grad_(flags[name])  # PEFT freezes the prompts too
    return found


def sharded(model: nn.Module) -> nn.Module:
    mesh = dist.device_mesh.init_device_mesh("cpu", (1,))
    for block in blocks(model):
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "compile": compiled,
    "compiled blocks": each_block(compiled),
    "checkpointed blocks": each_block(checkpoint_wrapper),
    "DataParallel": nn.DataParallel,
    "DDP": DistributedDataParallel,
    "DDP of compiled": lambda model: DistributedDataParallel(compiled(model)),
    "PEFT": with_lora,
    "fully_shard": sharded,
    "accelerate": lambda model: dispatch_model(model, {"": "cpu"}, force_hooks=True),
}


def trained(family: str) -> nn.Module:
    model = adapted(family)
    if family == "timm":
        return train_head(model)
    torch.manual_seed(2)
    return attach_visual(model, VisualConfig(6))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_the_file_of_a_wrapped_model_is_that_of_the_bare_one(
    wrapper: str, family: str, tmp_path: Path
) -> None:
    expected = save_adapter(trained(family), tmp_path / "bare").read_bytes()
    found = save_adapter(WRAPPERS[wrapper](trained(family)), tmp_path / "wrapped")
    assert found.read_bytes() == expected
    loaded = load_adapter(build(family), found)
    assert torch.equal(output(loaded, inputs(family)), output(trained(family), inputs(family)))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "wrapper", [name for name in WRAPPERS if name not in ("DDP", "DDP of compiled", "accelerate")]
)
def test_a_file_goes_onto_a_wrapped_model(wrapper: str, family: str, tmp_path: Path) -> None:
    bare = trained(family)
    save_adapter(bare, tmp_path)
    target = load_adapter(WRAPPERS[wrapper](trained(family)), tmp_path)
    assert len(zero_init_layers(target)) == 2
    if wrapper == "fully_shard":
        return  # parameters attached later are not sharded
    target = load_adapter(WRAPPERS[wrapper](build(family)), tmp_path)
    if wrapper != "PEFT":  # its own terms start at zero, but change the rounding
        wanted = output(bare, inputs(family))
        assert torch.equal(run(target, family), wanted)
    assert {p.requires_grad for p in own_parameters(target).values()} == {True, False}


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_model_compiled_first_and_adapted_then(family: str) -> None:
    bare = build(family)
    model, batch = compiled(bare), inputs(family)
    before = output(bare, batch)
    assert torch.equal(run(model, family), before)  # compiled without prompts
    open_gates(attach(model, CONFIG))
    after = output(adapted(family), batch)
    assert not torch.equal(after, before)
    assert not torch.equal(run(model, family), before)
    assert torch.equal(run(model, family), output(bare, batch))
    if family == "llama-gqa":
        options = {"max_new_tokens": 4, "do_sample": False}
        ids = batch["input_ids"]
        assert torch.equal(model.generate(ids, **options), bare.generate(ids, **options))
    assert detach(model) is model
    assert torch.equal(run(model, family), before)
    assert "generate" not in vars(bare)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Of prompts and gates, by their names in the bare model, with the loss of some words."""
    ids = inputs("llama-gqa")["input_ids"]
    model.train()
    model(input_ids=ids, labels=ids).loss.backward()
    own = own_parameters(model).items()
    return {name: gathered(p.grad) for name, p in own if "zero_init" in name}


@pytest.mark.parametrize("wrapper", [name for name in WRAPPERS if name != "DataParallel"])
def test_checkpointed_gradients_and_generation_inside_are_the_bare_model_s(wrapper: str) -> None:
    """At random non-zero gates."""
    expected = gradients(adapted("llama-gqa"))
    bare = adapted("llama-gqa")
    if wrapper != "checkpointed blocks":
        bare.gradient_checkpointing_enable({"use_reentrant": False})
    model = WRAPPERS[wrapper](bare)
    found = gradients(model)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)
    model.eval()
    options = {"max_new_tokens": 5, "do_sample": False, **inputs("llama-gqa")}
    wanted = adapted("llama-gqa").generate(**options)
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    assert torch.equal(inner.generate(**options), wanted)
    assert not torch.equal(build("llama-gqa").generate(**options), wanted)


def test_what_would_not_be_shared_is_refused(tmp_path: Path) -> None:
    save_adapter(adapted("llama-gqa"), tmp_path)
    for change in (
        lambda model: attach(model, CONFIG),
        lambda model: load_adapter(model, tmp_path),
        lambda model: attach(compiled(model), CONFIG),
    ):
        with pytest.raises(ZiaError, match=r"add zero-init attention first and wrap"):
            change(DistributedDataParallel(build("llama-gqa")))
    with pytest.raises(ZiaError, match=r"^fully_shard does not share the gradients"):
        attach(sharded(build("llama-gqa")), CONFIG)
    with pytest.raises(ZiaError, match=r"add the visual projection first"):
        attach_visual(DistributedDataParallel(adapted("llama-gqa")), VisualConfig(6))


def test_names_and_parameters_of_the_bare_model() -> None:
    for family in FAMILIES:
        names = [name for name, _ in build(family).named_parameters()]
        for wrapper in WRAPPERS.values():
            model = wrapper(build(family))
            assert list(own_parameters(model)) == names
            assert type(unwrapped(model)).__name__.endswith(type(build(family)).__name__)


def test_a_copy_of_a_compiled_model_saves_the_copy(tmp_path: Path) -> None:
    model = adapted("llama-gqa")
    twin = copy.deepcopy(model)
    open_gates(twin, seed=5)
    save_adapter(compiled(twin), tmp_path)
    loaded = load_adapter(build("llama-gqa"), tmp_path)
    assert torch.equal(output(loaded, inputs("llama")), output(twin, inputs("llama")))


def test_a_model_s_own_folder_is_left_as_it_is(tmp_path: Path) -> None:
    """transformers would take our `adapter_config.json` for PEFT's and not load the model."""
    model = build("llama-gqa")
    model.save_pretrained(tmp_path)
    with pytest.raises(ZiaError, match=r"holds a model, which .*; save to another folder"):
        save_adapter(attach(model, CONFIG), tmp_path)
    assert not (tmp_path / "adapter_config.json").exists()


def test_a_folder_of_peft_is_left_as_it_is(tmp_path: Path) -> None:
    model = attach(with_lora(build("llama-gqa")), CONFIG)
    model.save_pretrained(tmp_path / "lora")
    before = {path.name: path.read_bytes() for path in (tmp_path / "lora").iterdir()}
    with pytest.raises(ZiaError, match=r"holds an adapter of PEFT.*save to another folder"):
        save_adapter(model, tmp_path / "lora")
    assert {path.name: path.read_bytes() for path in (tmp_path / "lora").iterdir()} == before
    save_adapter(model, tmp_path / "zero-init")
    save_adapter(model, tmp_path / "zero-init")
