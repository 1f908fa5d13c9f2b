"""Interleaved timing: A B C A B C ..., so that a machine whose speed drifts is fair to all."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


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


def ratios(seconds: Mapping[str, list[float]], base: str) -> dict[str, dict[str, float]]:
    """Each contestant's time over that of `base` in the same round: median, smallest, largest."""
    found = {}
    for name, times in seconds.items():
        each = [t / b for t, b in zip(times, seconds[base], strict=True)]
        found[name] = {
            "median": statistics.median(each),
            "min": min(each),
            "max": max(each),
        }
    return found


def table(result: Mapping[str, Any]) -> str:
    """The ratios as a Markdown table, the base first."""
    base = result["base"]
    lines = [
        f"| method | median ms | time / {base} (min to max) |",
        "| --- | --- | --- |",
    ]
    for name, ratio in result["ratios"].items():
        milliseconds = 1000 * statistics.median(result["seconds"][name])
        lines.append(
            f"| {name} | {milliseconds:.0f} | "
            f"{ratio['median']:.3f} ({ratio['min']:.3f} to {ratio['max']:.3f}) |"
        )
    return "\n".join(lines) + "\n"
