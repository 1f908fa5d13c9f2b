"""Bytes that torch's CPU allocator gives within a call."""

import gc
from collections.abc import Callable
from itertools import accumulate

from torch.profiler import ProfilerActivity, profile


def peak_of(call: Callable[[], object]) -> int:
    """Peak bytes allocated by torch within a call, over what there was before."""
    # Else garbage of an earlier measurement may be freed within, and count as memory given back.
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        call()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    ordered = sorted(events, key=lambda event: event.start_ns())
    return max(accumulate((event.nbytes() for event in ordered), initial=0))
