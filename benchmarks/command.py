"""Run `python -m benchmarks.NAME` and `zia bench NAME`.

A benchmark is a module with `Shape`, a frozen dataclass whose defaults suit two CPU cores,
`ROUNDS`, and `measure(shape, rounds)`, which returns the record to store.
"""

import argparse
import importlib
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from benchmarks import BENCHMARKS
from experiments.harness.registry import check_choice
from zia_core.arguments import named_path
from zia_core.errors import ZiaError
from zia_core.strict_json import loads
from zia_core.validation import conform


def run(
    name: str,
    *,
    out: Path | None = None,
    rounds: int | None = None,
    threads: int | None = None,
    shape: str = "{}",
) -> None:
    """Run one benchmark, print its tables, and optionally write its JSON.

    Args:
        name: one of `BENCHMARKS`.
        out: JSON file for the result.
        rounds: repetitions; the benchmark's own number by default.
        threads: of torch, on the CPU.
        shape: a JSON object of sizes that differ from the defaults.

    Raises:
        ZiaError: unknown benchmark or size, `out` is not writable, or a missing requirement.
    """
    check_choice("benchmark", name, BENCHMARKS)
    import torch

    from benchmarks import show
    from experiments.io import terminal
    from experiments.io.files import write_json_atomic

    module: Any = importlib.import_module(f"benchmarks.{name}")
    sizes = shape_of(module.Shape, shape)
    if out is not None:
        _make_ready(out)
    if threads is not None:
        torch.set_num_threads(threads)
    with warnings.catch_warnings():
        # About PEFT's use of transformers, which users of a benchmark cannot change.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        result = module.measure(sizes, rounds or module.ROUNDS)
    if out is not None:
        write_json_atomic(out, result)
    drawn = terminal.console()
    drawn.print(show.where(result), markup=False)
    for title, part in result["parts"].items():
        drawn.print(f"\n{title}\n", markup=False)
        drawn.print(show.drawing(part))


def _make_ready(out: Path) -> None:
    """Create the folder of `out`, so that a write error shows before hours of measuring."""
    from experiments.io.files import check_output, write_errors

    with write_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    check_output(out.parent)
    if out.is_dir():
        raise ZiaError(f"--out {out} is a folder: name a file in it, {out.name}/NAME-cpu.json say")


def shape_of(kind: Any, text: str) -> Any:
    """The benchmark's sizes, with the changes in the JSON object `text`."""
    try:
        changes = loads(text)
    except ValueError as error:
        raise ZiaError(f"--shape is not valid JSON ({error}): {text!r:.60}") from error
    if not isinstance(changes, Mapping):
        raise ZiaError(f'--shape must be a JSON object such as {{"width": 64}}, not {text!r:.60}')
    kinds = get_type_hints(kind)
    for size in changes:
        if size not in kinds:
            raise ZiaError(f"--shape: there is no size {size!r:.60}; there are: {', '.join(kinds)}")
    values = {
        size: conform(kinds[size], value, f"--shape: {size}") for size, value in changes.items()
    }
    for size, value in values.items():
        if any(type(one) is int and one < 1 for one in _each(value)):
            raise ZiaError(f"--shape: {size} must be 1 or more, not {value}")
    sizes = kind(**values)
    _check_device(getattr(sizes, "device", "cpu"))
    return sizes


def _check_device(device: str) -> None:
    if device == "cpu":
        return
    import torch

    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number or "0").isdecimal():
        raise ZiaError(f"--shape: there is no device {device!r:.60}; choose from: cpu, cuda")
    if not torch.cuda.is_available() or int(number or 0) >= max(1, torch.cuda.device_count()):
        raise ZiaError(
            f"device {device}: torch finds no such GPU here; to try the benchmark without one, "
            "name small sizes and the device cpu in --shape"
        )


def _each(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def main(name: str) -> None:
    """The command line of a benchmark's module."""
    parser = argparse.ArgumentParser(prog=f"benchmarks.{name}", description=BENCHMARKS[name])
    parser.add_argument("--out", type=named_path, help="JSON file for the result")
    parser.add_argument("--rounds", type=_at_least_one, help="repetitions")
    parser.add_argument("--threads", type=_at_least_one, help="of torch, on the CPU")
    parser.add_argument("--shape", default="{}", help='sizes to change, {"width": 4096} say')
    try:
        run(name, **vars(parser.parse_args()))
    except ZiaError as error:
        sys.exit(f"{name}: {error}")


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)
