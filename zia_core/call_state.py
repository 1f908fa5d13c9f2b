"""Per-call state of adapted layers, in a context variable and never on a module.

Threads and asyncio tasks that share a model therefore do not see each other's conditions, prompt
caches and observers. To pass them to a new thread, start it with `contextvars.copy_context().run`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from zia_core.attention import PromptKV
from zia_core.errors import ZiaError

# Called with both terms of a forward pass, words and prompts, [B, T, H, D] each.
Observer = Callable[[Tensor, Tensor], None]


@dataclass(frozen=True, eq=False)  # compared by identity: tensors have no truth value
class Condition:
    """Vectors added to the prompts of each sample.

    Attributes:
        vectors: [B, C], one for all K prompts of a sample (I of eq. 9), or [B, K, C].
        present: bool [B], which samples have them; None for all. Other rows are not used.
    """

    vectors: Tensor
    present: Tensor | None = None

    def of_rows(self, numbers: Tensor) -> Condition:
        """The condition of some rows of the batch."""
        present = self.present
        return Condition(self.vectors[numbers], None if present is None else present[numbers])

    def to(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """The vectors [B, 1 or K, C], and `present` as [B, 1, 1, 1]."""
        vectors, present = self.vectors.to(dtype), self.present
        return (
            vectors if vectors.ndim == 3 else vectors[:, None, :],
            None if present is None else present[:, None, None, None],
        )


DEFAULT = "default"  # the name of the adapter that `attach` and `load_adapter` make


@dataclass(frozen=True, eq=False)
class Rows:
    """The adapter of each row of a batch.

    Attributes:
        of: row numbers by adapter, in the order that the prompts are computed in; None is for rows
            with no adapter.
        order: int64 [B], where each row is in that order.
    """

    of: Mapping[str | None, Tensor]
    order: Tensor


@dataclass(eq=False)
class PromptCache:
    """A layer's prompts within one block of `frozen_prompts`.

    Attributes:
        prompts: what they were computed from, and the prompts by number of samples. Replaced as a
            whole, since several threads may share a block.
    """

    prompts: tuple[tuple[object, ...], dict[int, PromptKV]] | None = None


@dataclass(frozen=True, eq=False)
class CallState:
    """What the enclosing blocks set for one layer.

    Attributes:
        condition: by `zia_core.condition`.
        cache: by `frozen_prompts`.
        observer: by `zia_core.observe.observed`.
        adapter: by `zia_core.use`; None for no adapter.
    """

    condition: Condition | None = None
    cache: PromptCache | None = None
    observer: Observer | None = None
    adapter: str | Rows | None = DEFAULT


@dataclass(frozen=True, eq=False)
class _States:
    """The states of all layers of all models in one context."""

    of: Mapping[nn.Module, CallState] = field(default_factory=dict)


_DEFAULT = CallState()
_STATES: ContextVar[_States | None] = ContextVar("zero_init_calls", default=None)
_ever_called = False  # whether any block was entered in this process
_open: dict[int, _States] = {}  # by thread, the innermost open block


def call_state(layer: nn.Module) -> CallState:
    """The state of a layer in the current call."""
    # Dynamo of torch 2.11 cannot read context variables; training without blocks is one graph.
    if not _ever_called:
        return _DEFAULT
    states = _STATES.get()
    if states is None and not torch.compiler.is_compiling():
        states = _states_of_backward()
    return _DEFAULT if states is None else states.of.get(layer, _DEFAULT)


@contextmanager
def within_call(states: Mapping[nn.Module, CallState]) -> Iterator[None]:
    """Set the state of layers within the block, in this context only.

    Raises:
        ZiaError: the block is left in another context than it was entered in.
    """
    global _ever_called
    _ever_called = True
    before = _STATES.get()
    around = {} if before is None else before.of
    within = _States({**around, **states})
    token = _STATES.set(within)
    thread = threading.get_ident()
    outer, _open[thread] = _open.get(thread), within
    finished = False
    try:
        yield
        finished = True
    finally:
        if outer is None:
            _open.pop(thread, None)
        else:
            _open[thread] = outer
        try:
            _STATES.reset(token)
        except ValueError as error:
            # A server resumed a generator in another thread, where the block has no effect. An
            # exception already being raised is more informative.
            if finished:
                raise ZiaError(
                    "A block of images, condition, use, frozen_prompts or observed was left in "
                    "another context than it was entered in; enter it around each call of the "
                    "model, with no yield between."
                ) from error


def _states_of_backward() -> _States | None:
    """The states that hold for a forward pass repeated by gradient checkpointing.

    On a GPU it runs in an autograd thread, which has no context of its own. Newer versions of torch
    store the context of the thread that called `backward` there; for torch 2.11, take that of the
    only thread with open blocks.

    Raises:
        ZiaError: torch stores no context, and several threads have open blocks.
    """
    if torch._C._current_graph_task_id() < 0:
        return None
    if torch._C._is_key_in_tls("context"):
        context: Any = torch._C._get_obj_in_tls("context")
        return context.get(_STATES) if context is not None else None
    if not isinstance(threading.current_thread(), threading._DummyThread):
        return None  # a Python thread, which has its own context
    threads = list(_open.values())
    if len(threads) > 1:
        raise ZiaError(
            f"torch {torch.__version__} does not tell which thread a layer is recomputed for, and "
            f"{len(threads)} threads have a condition or images: train in one thread, or update "
            "torch."
        )
    return threads[0] if threads else None
