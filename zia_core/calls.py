"""What belongs to one call, and not to the model: kept in a context variable, never on a module.

So threads and asyncio tasks on one model do not see each other's conditions, kept prompts and
observers. A thread sees the blocks that it entered itself; to carry those of another to it, start
it with `contextvars.copy_context().run`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from zia_core.attention import PromptKV
    from zia_core.layer import Condition, Observer, ZeroInit


@dataclass(eq=False)
class Kept:
    """A layer's prompts inside one block of `frozen_prompts`.

    Attributes:
        prompts: what they were made from, and they themselves by the number of samples. Replaced as
            a whole: a block may be carried to several threads.
    """

    prompts: tuple[tuple[object, ...], dict[int, PromptKV]] | None = None


@dataclass(frozen=True, eq=False)
class Call:
    """What the blocks around a call say to one layer.

    Attributes:
        condition: of `zia_core.condition`.
        kept: inside `frozen_prompts`.
        observer: inside `zia_core.observe.observed`.
    """

    condition: Condition | None = None
    kept: Kept | None = None
    observer: Observer | None = None


@dataclass(frozen=True, eq=False)
class _Calls:
    """The calls of all layers of all models in one context."""

    of: Mapping[ZeroInit, Call] = field(default_factory=dict)


_NOTHING = Call()
_CALLS: ContextVar[_Calls | None] = ContextVar("zero_init_calls", default=None)
_ever_called = False  # a block was entered in this process
_open: dict[int, _Calls] = {}  # by thread, what its innermost block says


def call_of(layer: ZeroInit) -> Call:
    """What the present call says to a layer."""
    # Dynamo of torch 2.11 cannot read context variables: a training without blocks is one graph.
    if not _ever_called:
        return _NOTHING
    calls = _CALLS.get()
    if calls is None and not torch.compiler.is_compiling():
        calls = _of_backward()
    return _NOTHING if calls is None else calls.of.get(layer, _NOTHING)


@contextmanager
def calling(calls: Mapping[ZeroInit, Call]) -> Iterator[None]:
    """Within the block, in this context, layers are told this and not what they were told before.

    Raises:
        ZiaError: the block was entered in another context than it is left in.
    """
    global _ever_called
    _ever_called = True
    before = _CALLS.get()
    around = {} if before is None else before.of
    within = _Calls({**around, **calls})
    token = _CALLS.set(within)
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
            _CALLS.reset(token)
        except ValueError as error:
            # A generator that a server resumes in one thread after the other: behind the first
            # `yield` the block was not in force. An exception that is under way says more.
            if finished:
                raise ZiaError(
                    "A block of images, condition, frozen_prompts or observed was left in another "
                    "context than it was entered in; enter it around each call of the model, "
                    "with no yield between."
                ) from error


def _of_backward() -> _Calls | None:
    """Gradient checkpointing repeats a forward pass in the backward pass.

    On a GPU that is in a thread of autograd's, which has no context of its own. torch leaves the
    one of the thread that called `backward` there; torch 2.11 does not, so there it is that of the
    one thread that has blocks open.

    Raises:
        ZiaError: such a torch, and several threads have blocks open.
    """
    if torch._C._current_graph_task_id() < 0:
        return None
    if torch._C._is_key_in_tls("context"):
        context: Any = torch._C._get_obj_in_tls("context")
        return context.get(_CALLS) if context is not None else None
    if not isinstance(threading.current_thread(), threading._DummyThread):
        return None  # a thread of Python's, which has its own context
    threads = list(_open.values())
    if len(threads) > 1:
        raise ZiaError(
            f"torch {torch.__version__} does not say for which thread a layer is computed again, "
            f"and {len(threads)} have a condition or images: train in one thread, or update torch."
        )
    return threads[0] if threads else None
