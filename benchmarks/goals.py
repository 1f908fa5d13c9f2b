"""The project's speed goals, and whether stored results meet them.

Goals apply at the benchmarks' own sizes or larger; results of a trial at smaller sizes do not
count.
"""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks import data_path, decode, growth, harness, many_runs, train_step
from benchmarks.show import changed_sizes, number

Result = Mapping[str, Any]
PEFT, LORA = "AdaptionPrompt (PEFT)", "LoRA r=8 (PEFT)"


@dataclass(frozen=True)
class Goal:
    """A bound on one figure of a benchmark.

    Attributes:
        figure: extracts the value from a benchmark's JSON; None if it has none.
    """

    benchmark: str
    sentence: str
    figure: Callable[[Result], float | None]
    at_most: float | None = None
    at_least: float | None = None

    def verdict(self, result: Result | None) -> str:
        """The value, and whether it is within the bound or by how much it misses."""
        value = None if result is None else self.figure(result)
        if result is None or value is None:
            return "not measured"
        if is_trial(result):
            return "tried, at smaller sizes"
        bound = self.at_most if self.at_most is not None else self.at_least
        assert bound is not None
        met = value <= bound if self.at_most is not None else value >= bound
        shown = number(value)
        return f"{shown}: met" if met else f"{shown}: missed by {abs(value / bound - 1):.1%}"

    @property
    def bound(self) -> str:
        """The bound as text."""
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        return f"at least {self.at_least:g}"


def is_trial(result: Result) -> bool:
    """Whether any size, or the largest of several, is smaller than the benchmark's own."""
    sizes = (map(_largest, pair) for pair in changed_sizes(result).values())
    return any(type(value) is int and value < default for value, default in sizes)


def _largest(value: Any) -> Any:
    return max(value) if isinstance(value, list) and value else value


def _crowded(result: Result) -> float:
    """The cost of a run with the most workers on a folder, over that with a single worker."""
    figures = result["parts"][many_runs.WORKERS]["figures"]
    by_number = [figures[number]["CPU ms a run"] for number in sorted(figures, key=int)]
    return by_number[-1] / by_number[0]


def _steepest(result: Result) -> float:
    """The largest exponent, over all commands, of CPU seconds in the number of runs."""
    return max(curve.exponent for curve in growth.curves(result) if curve.x == "runs")


def _ratio(part: str, name: str, base: str) -> Callable[[Result], float | None]:
    return lambda result: result["parts"][part]["ratios"][name][base]["median"]


def _figures(part: str, name: str, base: str, figure: str) -> Callable[[Result], float | None]:
    """The ratio of two contestants' figures."""

    def ratio(result: Result) -> float | None:
        figures = result["parts"][part]["figures"]
        if figure not in figures[name]:
            return None
        return figures[name][figure] / figures[base][figure]

    return ratio


def _best(figure: str, best: Callable[..., float]) -> Callable[[Result], float | None]:
    """The best figure of all modes at LLaMA-7B's size that have it."""

    def of_all(result: Result) -> float | None:
        modes = result["parts"]["training"]["figures"].values()
        return best((mode[figure] for mode in modes if figure in mode), default=None)

    return of_all


def _smallest_peak(result: Result) -> float | None:
    peak = _best("peak, bytes", min)(result)
    return None if peak is None else peak / 1e9


def _median(result: Result, part: str, name: str) -> float:
    return statistics.median(result["parts"][part]["seconds"][name])


def _share_of_a_small_run(result: Result) -> float:
    """The harness's time in percent of training time; the largest over published runs."""
    empty, steps = (_median(result, "a run", name) for name in (harness.EMPTY, "with steps"))
    a_step = max(0.0, steps - empty) / result["shape"]["steps"]
    return max(
        100 * (empty + run["steps"] * a_step) / run["training seconds"]
        for run in result["parts"][harness.PUBLISHED_RUNS]["figures"].values()
    )


def _tables_of_many_runs(result: Result) -> float:
    return _median(result, f"{result['shape']['runs']:,} runs", harness.TABLES)


def _largest_error(dtype: str) -> Callable[[Result], float | None]:
    """The largest error of all forms, kernels, outputs and gradients; NaN if any is."""

    def largest(result: Result) -> float | None:
        found = [
            error
            for title, part in result["parts"].items()
            if title.startswith(dtype)
            for errors in part["figures"].values()
            for error in errors.values()
        ]
        return next((error for error in found if math.isnan(error)), max(found))

    return largest


GOALS = (
    Goal("parity", "the largest error, float32", _largest_error("float32"), at_most=1e-5),
    Goal("parity", "the largest error, bfloat16", _largest_error("bfloat16"), at_most=1e-2),
    Goal(
        "train_step",
        "zero-init's step over the floor's",
        _ratio("step", "zero-init", train_step.BASE),
        at_most=1.03,
    ),
    Goal(
        "train_step",
        "zero-init's step over LoRA's",
        _ratio("step", "zero-init", LORA),
        at_most=1.03,
    ),
    Goal(
        "train_step",
        "AdaptionPrompt's step over zero-init's",
        _ratio("step", PEFT, "zero-init"),
        at_least=1.15,
    ),
    Goal(
        "train_step",
        "bytes kept for backward, zero-init's over LoRA's",
        _figures("step", "zero-init", LORA, "kept for backward, bytes"),
        at_most=1.0,
    ),
    Goal(
        "train_step",
        "peak memory beside the weights, zero-init's over LoRA's",
        _figures("step", "zero-init", LORA, "peak beside the weights, bytes"),
        at_most=1.0,
    ),
    Goal(
        "decode",
        "a generation's time, zero-init's over the backbone's",
        _ratio("generation", "zero-init", decode.BASE),
        at_most=1.031,
    ),
    Goal(
        "data_path",
        "a step's time, padded to 512 over cut by length",
        _ratio("a step", "padded to 512", data_path.BASE),
        at_least=3.7,
    ),
    Goal(
        "harness",
        "the harness's share of a small run, %",
        _share_of_a_small_run,
        at_most=1.0,
    ),
    Goal(
        "harness",
        "seconds of `zia --help`",
        lambda result: _median(result, "the command line", "zia --help"),
        at_most=0.4,
    ),
    Goal(
        "harness",
        "seconds of all tables from 2,000 runs",
        _tables_of_many_runs,
        at_most=10.0,
    ),
    Goal(
        "many_runs",
        "the power of the number of runs that the steepest command's CPU seconds grow with",
        _steepest,
        at_most=1.1,
    ),
    Goal(
        "many_runs",
        "CPU ms a run of 64 workers, over one's",
        _crowded,
        at_most=2.0,
    ),
    Goal("llama7b", "utilisation, %", _best("utilisation, %", max), at_least=50.0),
    Goal("llama7b", "minutes of five epochs", _best("five epochs, minutes", min), at_most=45.0),
    Goal("llama7b", "peak of the smallest mode, GB", _smallest_peak, at_most=24.0),
)
