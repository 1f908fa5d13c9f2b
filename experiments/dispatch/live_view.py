"""Show the progress of many workers, read from the run folders alone."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from experiments.dispatch import status_table
from experiments.harness import stored
from experiments.io import terminal
from experiments.io.output import tell
from zia_core.errors import ZiaError
from zia_core.strict_json import loads

COLUMNS = ("run", "node", "step", "loss", "memory", "ETA")
REFRESH_S = 1.0
LINE_EVERY_S = 30.0  # without a terminal: at most one line in this time, if counts changed
EXPECTED_FOR_S = 60.0  # weight of the plan's cost estimate against the observed speed
TAIL_BYTES = 4096  # more than a record of timing.jsonl


class Overview:
    """States of the planned runs; finished ones are not read again.

    With `seconds`, the expected cost of each run by name, and the number of `workers`, it has an
    ETA.
    """

    def __init__(
        self,
        names: Sequence[str],
        runs_root: Path,
        seconds: Mapping[str, float] | None = None,
        workers: int = 0,
    ) -> None:
        self._open = [runs_root / name for name in names]
        self._costs = {runs_root / name: cost for name, cost in (seconds or {}).items()}
        self._workers = workers
        self._began = time.monotonic()
        self._at_first: float | None = None  # seconds of work left at the first update
        self._left = 0.0
        self._finished: Counter[str] = Counter()
        self.running: list[Path] = []
        self.counts: Counter[str] = Counter()

    def update(self) -> None:
        """Read the states of all unfinished runs."""
        open_, self.running, self.counts = self._open, [], Counter(self._finished)
        self._open, self._left = [], 0.0
        for folder in open_:
            try:
                state = stored.current_state(folder) if folder.exists() else "missing"
            except ZiaError:
                state = "corrupt"
            self.counts[state] += 1
            if state == "done":
                self._finished[state] += 1
                continue
            self._open.append(folder)
            if state != "failed":
                self._left += self._costs.get(folder, 0.0)
            if state == "running":
                self.running.append(folder)
        if self._at_first is None:
            self._at_first = self._left

    def eta(self) -> float | None:
        """Seconds until all is done, from the planned costs and the speed so far."""
        if not self._workers or not self._left or self._at_first is None:
            return None
        elapsed = time.monotonic() - self._began
        done = self._at_first - self._left
        speed = (done + EXPECTED_FOR_S * self._workers) / (elapsed + EXPECTED_FOR_S)
        return self._left / speed

    def __str__(self) -> str:
        counts = ", ".join(f"{n} {state}" for state, n in sorted(self.counts.items()))
        eta = self.eta()
        return counts if eta is None else f"{counts}; ETA {terminal.duration(eta)}"

    def drawn(self, note: str) -> Any:
        """The counts and a table of the running runs."""
        from rich.console import Group

        rows = [row for folder in self.running if (row := _row(folder))]
        return Group(*filter(None, (str(self), note)), terminal.Table(COLUMNS, rows))


def follow(
    names: Sequence[str],
    runs_root: Path,
    is_going_on: Callable[[], bool],
    note: Callable[[], str] = lambda: "",
    *,
    seconds: Mapping[str, float] | None = None,
    workers: int = 0,
) -> Overview:
    """Show the runs while `is_going_on`: a live table in a terminal, else lines.

    `seconds` and `workers` are those of `Overview`.
    """
    from rich.live import Live

    overview, output = Overview(names, runs_root, seconds, workers), terminal.console()
    if output.is_terminal:
        with Live(console=output, auto_refresh=False) as live:
            goes_on = True
            while goes_on:
                goes_on = is_going_on()
                overview.update()
                live.update(overview.drawn(note()), refresh=True)
                time.sleep(REFRESH_S * goes_on)
        return overview
    printed, last, goes_on = "", -LINE_EVERY_S, True
    while goes_on:
        goes_on = is_going_on()
        overview.update()
        line = "; ".join(filter(None, (str(overview), note())))
        now = time.monotonic()
        if line != printed and (now - last >= LINE_EVERY_S or not goes_on):
            tell(line)
            printed, last = line, now
        time.sleep(REFRESH_S * goes_on)
    return overview


def _row(folder: Path) -> list[str] | None:
    try:
        run = stored.load(folder)
    except ZiaError:  # being written for the first time
        return None
    progress, attempts = run.status["progress"], run.status["attempts"]
    config = run.config
    return [
        status_table.run_name(config["method"], config["task"], config["seed"]),
        attempts[-1]["host"] if attempts else "-",
        f"{progress['step']}/{progress['total']}" if progress else "-",
        terminal.number(progress.get("loss"), ".4f"),
        memory(folder),
        terminal.duration(progress.get("eta_s")),
    ]


def memory(folder: Path) -> str:
    """The peak memory of the newest step, for example "11.3 GB"; a dash if unknown."""
    with suppress(OSError, ValueError, IndexError):
        with (folder / stored.TIMING).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL_BYTES))
            record = loads(file.read().splitlines()[-1])
        peak = record.get("peak_memory_bytes") if isinstance(record, dict) else None
        if isinstance(peak, int | float) and peak:
            return f"{peak / 1e9:.1f} GB"
    return "-"
