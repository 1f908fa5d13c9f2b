"""The command `zia bench`."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.harness.setting_bounds import MAX_THREADS
from experiments.io.output import tell


def bench(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A benchmark; default: list them.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON file for the result.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(metavar="N", min=1, help="Repetitions.")] = None,
    threads: Annotated[
        int | None, typer.Option(metavar="T", min=1, max=MAX_THREADS, help="CPU threads of torch.")
    ] = None,
    shape: Annotated[
        str, typer.Option(metavar="JSON", help='Sizes to change, such as {"width": 64}.')
    ] = "{}",
) -> None:
    """Measure speed and memory against peers."""
    from benchmarks import BENCHMARKS, command

    if name is None:
        width = max(map(len, BENCHMARKS))
        for each, about in BENCHMARKS.items():
            tell(f"{each:<{width}}  {about}")
        return
    command.run(name, out=out, rounds=rounds, threads=threads, shape=shape)
