"""Interleaved timing: A B C A B C ..., so that a machine whose speed drifts is fair to all."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from experiments.harness.provenance import environment

Part = dict[str, Any]  # what belongs together and is compared: one table


def interleaved(
    contestants: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 2
) -> dict[str, list[float]]:
    """Seconds of every call, by contestant; `warmup` rounds before are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(warmup + rounds):
        for name, call in contestants.items():
            started = time.perf_counter()
            call()
            if number >= warmup:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratios(seconds: Mapping[str, list[float]]) -> dict[str, dict[str, dict[str, float]]]:
    """[a][b]: a's time over b's in the same round: median, smallest, largest."""
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
    """One table of a benchmark: all repetitions, the ratio of every pair, and other figures.

    Args:
        seconds: as `interleaved` gives them; empty where there are figures alone.
        base: the contestant that the table's ratios are over.
        figures: by contestant, what was counted, say. A name that ends in "bytes" is shown in MiB.
        work: what one call gets through, {"tokens": 512} say: the table shows it per second.
    """
    return {
        "base": base,
        "work": dict(work or {}),
        "figures": {name: dict(of) for name, of in (figures or {}).items()},
        "ratios": ratios(seconds),
        "seconds": dict(seconds),
    }


def record(benchmark: str, shape: Any, parts: Mapping[str, Part]) -> dict[str, Any]:
    """The JSON of a benchmark: what was measured, at which sizes, and where."""
    where = environment(with_torch=True)
    return {
        "benchmark": benchmark,
        "shape": asdict(shape),
        "parts": dict(parts),
        "environment": {name: value for name, value in where.items() if name != "host"},
    }


def synchronizer(device: str) -> Callable[[], None]:
    """Waits until a GPU has done what it was told; on a CPU there is nothing to wait for."""
    import torch

    return torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda: None
