"""Predict memory and FLOPs of a run's largest micro-batch, on torch's meta device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from experiments.training.optimisation import Optimisation
    from zia_core.training import TrainSettings


@dataclass(frozen=True)
class MicroBatch:
    """The largest micro-batch of a run.

    Attributes:
        model: prepared for its method, on the meta device.
        loss: its forward pass to a scalar.
        units: what it has of the unit that `Work` counts: padded tokens, or images.
        forward: the pass of an evaluation, if that is another one.
        loaded: bytes of the backbone as it is read, if it is quantised afterwards.
        in_shards: whether the model is sharded over several GPUs.
    """

    model: nn.Module
    loss: Callable[[], Tensor]
    units: int
    forward: Callable[[], object] | None = None
    loaded: int = 0
    in_shards: bool = False


@dataclass(frozen=True)
class StepCost:
    """What a step with this micro-batch takes.

    Attributes:
        weights: bytes of parameters and buffers.
        peak: bytes in use at a time, weights included, without what is shared out.
        step_flops: forward and backward; a multiply-add counts 2.
        forward_flops: of the same micro-batch, without a gradient.
        units, loaded: as of the micro-batch.
        sharded: bytes shared out over the GPUs of a model in shards.
    """

    weights: int
    peak: int
    step_flops: float
    forward_flops: float
    units: int
    sharded: int = 0
    loaded: int = 0


def micro_batch(
    model: nn.Module,
    settings: Optimisation | TrainSettings,
    batch: Mapping[str, Tensor],
    loss: Callable[[nn.Module, dict[str, Tensor]], tuple[Tensor, Any]],
    units: int,
    prompt_tokens: int = 0,
) -> MicroBatch:
    """The micro-batch of a CPU batch, as the engine passes it through the model.

    Args:
        model: prepared, on the meta device.
        settings: of the run.
        batch: of a `TrainTask`.
        loss: of the same task.
        units: see `MicroBatch`.
        prompt_tokens: that the method puts in front of every row, mask included.
    """
    from torch import Size

    from zia_core.padding import Padding, is_padding_mask, padding_known

    device = next(model.parameters()).device
    masks = [value for name, value in batch.items() if is_padding_mask(name, value)]
    paddings = {
        Size((rows, tokens + more)): Padding.of(mask)
        for mask in masks
        for rows, tokens in [mask.shape]
        for more in (0, prompt_tokens)
    }
    there = {name: value.to(device) for name, value in batch.items()}

    def scaled() -> Tensor:
        with padding_known(paddings), _autocast(settings, device.type):
            return loss(model, there)[0] / 2

    return MicroBatch(model.train(), scaled, units)


def sharded(of: MicroBatch, settings: Optimisation) -> MicroBatch:
    """The micro-batch of one of the GPUs that train the model in shards.

    Its passes see weights in bfloat16, if `zia_core.sharding.shard` gathers them so.
    """
    if settings.precision == "bf16-autocast":
        of.model.bfloat16()
    return replace(of, in_shards=True)


def step_cost(of: MicroBatch, settings: Optimisation) -> StepCost:
    """Predict what a step takes; seconds for a model of seven billion parameters."""
    import torch

    from zia_core.step_memory import step_memory

    with _counted_flops() as step:
        memory = step_memory(
            of.model, of.loss, checkpoint_activations=settings.checkpoint_activations
        )
    with _counted_flops() as forward, torch.no_grad():
        (of.forward or of.loss)()
    weights, peak, shared_out = memory.weights, memory.peak, 0
    if of.in_shards:
        weights = _FLOAT32 * sum(parameter.numel() for parameter in of.model.parameters())
        shared_out = 4 * weights  # with gradients and AdamW's two moments
        peak = memory.kept + memory.working + _gathered(of.model)
    return StepCost(weights, peak, step.flops, forward.flops, of.units, shared_out, of.loaded)


_FLOAT32 = 4  # bytes


def _gathered(model: nn.Module) -> int:
    """Bytes of whole weights and gradients that FSDP2 has on a GPU at a time.

    All weights outside of the blocks, those of a block and of the next one, which is gathered
    ahead, and a block's gradients, of which there is a float32 copy to be summed.
    """
    from zia_core.blocks import repeated_blocks

    sizes = [
        (sum(p.nbytes for p in block.parameters()), sum(p.numel() for p in block.parameters()))
        for block in repeated_blocks(model)
    ]
    outside = sum(p.nbytes for p in model.parameters()) - sum(size for size, _ in sizes)
    largest, numbers = max(sizes)
    return outside + 3 * largest + _FLOAT32 * numbers


def _counted_flops() -> Any:
    """A mode with the number of FLOPs so far.

    Not torch's FlopCounterMode, whose hooks on modules fail where a prompt is expanded.
    """
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    class Counted(TorchDispatchMode):
        flops = 0.0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            if str(func._overloadpacket) == "bitsandbytes.gemm_4bit":
                inputs, _, (outputs, _) = args[:3]
                self.flops += 2.0 * inputs.numel() * outputs
            elif count := flop_registry.get(func._overloadpacket):
                self.flops += count(*args, **(kwargs or {}), out_val=result)
            return result

    return Counted()


@contextmanager
def _autocast(settings: Optimisation | TrainSettings, device: str) -> Iterator[None]:
    """Autocast as in training; torch's own does nothing on the meta device."""
    import torch

    if settings.precision != "bf16-autocast":
        yield
    elif device == "meta":
        with _meta_autocast():
            yield
    else:
        with torch.autocast(device, torch.bfloat16):
            yield


def _meta_autocast() -> Any:
    """A mode that computes matrix products in bfloat16."""
    import torch
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode

    products = {
        functional.linear, functional.conv2d, torch.matmul, torch.Tensor.matmul,
        torch.Tensor.__matmul__, torch.bmm, torch.baddbmm, torch.einsum,
        functional.scaled_dot_product_attention,
    }  # fmt: skip

    def half(value: Any) -> Any:
        return value.bfloat16() if isinstance(value, torch.Tensor) else value

    class Autocast(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            if func in products:
                args = tuple(map(half, args))
                kwargs = {name: half(value) for name, value in kwargs.items()}
            return func(*args, **kwargs)

    return Autocast()
