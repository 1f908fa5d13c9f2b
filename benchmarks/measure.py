"""Interleaved timing, A B C A B C ..., so that drifting machine speed affects all alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from experiments.harness.provenance import environment

Part = dict[str, Any]  # one table, whose rows are compared


def interleaved(
    contestants: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 2
) -> dict[str, list[float]]:
    """Seconds of every call, by contestant, after `warmup` rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(warmup + rounds):
        for name, call in contestants.items():
            started = time.perf_counter()
            call()
            if number >= warmup:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratios(seconds: Mapping[str, list[float]]) -> dict[str, dict[str, dict[str, float]]]:
    """[a][b]: median, smallest and largest ratio of a's time to b's in the same round."""
    return {a: {b: _ratio(seconds[a], seconds[b]) for b in seconds} for a in seconds}


def _ratio(times: list[float], base: list[float]) -> dict[str, float]:
    each = [t / b for t, b in zip(times, base, strict=True)]
    return {"median": statistics.median(each), "min": min(each), "max": max(each)}


def part(
    seconds: Mapping[str, list[float]],
    base: str,
    *,
    figures: Mapping[str, Mapping[str, float]] | None = None,
    work: Mapping[str, float] | None = None,
) -> Part:
    """A table of a benchmark: all repetitions, the ratios of all pairs, and other figures.

    Args:
        seconds: from `interleaved`; empty if there are only figures.
        base: the contestant in the denominator of the table's ratios.
        figures: other numbers by contestant; those named "... bytes" are shown in MiB.
        work: the work of one call, such as {"tokens": 512}; the table shows it per second.
    """
    return {
        "base": base,
        "work": dict(work or {}),
        "figures": {name: dict(of) for name, of in (figures or {}).items()},
        "ratios": ratios(seconds),
        "seconds": dict(seconds),
    }


def record(benchmark: str, shape: Any, parts: Mapping[str, Part]) -> dict[str, Any]:
    """The JSON of a benchmark: measurements, sizes and machine."""
    where = environment(with_torch=True)
    return {
        "benchmark": benchmark,
        "shape": asdict(shape),
        "parts": dict(parts),
        "environment": {name: value for name, value in where.items() if name != "host"},
    }


def synchronizer(device: str) -> Callable[[], None]:
    """A function that waits for the GPU; on a CPU it does nothing."""
    import torch

    return torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
