"""Overhead of the harness as a folder of runs grows, and as workers share it.

    python -m benchmarks.many_runs --out FILE.json

CPU seconds of this process, which other work on the machine does not affect, beside wall-clock
seconds. Runs are of the toy experiment `nothing`, or copies of published ones with other seeds, so
that a table has thousands of seeds per method.
"""

import hashlib
import json
import os
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import command
from benchmarks.harness import published_runs, toy_is_known
from benchmarks.measure import Part, part, record
from benchmarks.toys.nothing.experiment import Settings, spec
from experiments.dispatch import in_process, status_table
from experiments.dispatch.stop_signals import StopSignals
from experiments.dispatch.worker import Worker, name_of
from experiments.harness import plan, publish, registry, seal, stored, unpacking, verify
from experiments.harness.ownership import Ownership
from experiments.harness.spec import RunSpec
from experiments.io.files import read_json
from experiments.report.claims.write import write_claims
from experiments.report.tables.write import write_tables
from zia_core.errors import ZiaError

ROUNDS = 1
METHODS = ("zero-init", "random-init", "lora", "full")  # of the copies, in rotation
WORKERS = "as it grows: workers (sharing one folder)"
TRAINED = Settings(steps=25)


@dataclass(frozen=True)
class Shape:
    """Numbers of runs in a folder, and of workers on one folder."""

    runs: tuple[int, ...] = (10, 100, 1000, 10000)
    workers: tuple[int, ...] = (1, 4, 16, 64)
    shared: int = 256  # runs of the folder that the workers share
    hosts: tuple[int, ...] = (1, 10, 100, 1000)  # on which the runs of one folder were done
    hosted: int = 1000  # runs in that folder


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    """Make a table for each command by number of runs, and one by number of workers."""
    costs: dict[str, dict[str, dict[str, float]]] = {}
    with TemporaryDirectory() as folder, toy_is_known():
        root = Path(folder)
        _costs(root / "first", min(shape.runs), 1)  # what is imported and looked up once, is now
        for number in shape.runs:
            for name, cost in _costs(root / str(number), number, rounds).items():
                costs.setdefault(name, {})[str(number)] = cost
            shutil.rmtree(root / str(number))
        hosts = {str(n): _hosted(root / f"hosts-{n}", shape.hosted, n) for n in shape.hosts}
        shared = {str(n): _shared(root / f"shared-{n}", shape.shared, n) for n in shape.workers}
    parts = {f"as it grows: runs ({name})": _figures(points) for name, points in costs.items()}
    parts["as it grows: hosts (publish)"] = _figures(hosts)
    parts[WORKERS] = _figures(shared)
    return record("many_runs", shape, parts)


def _figures(points: dict[str, dict[str, float]]) -> Part:
    return part({}, next(iter(points)), figures=points)


def _costs(root: Path, number: int, rounds: int) -> dict[str, dict[str, float]]:
    """The cost of each command on a folder of finished runs."""
    specs = [spec(seed, TRAINED) for seed in range(number)]
    in_process.run_one(specs[0], root / "first")
    _copies([root / "first" / name_of(specs[0])], specs, root / "toys")
    sources = [_published(method, root / "evidence") for method in METHODS]
    settings = registry.get("alpaca_llama").settings
    runs = [RunSpec.from_json(read_json(source / stored.CONFIG), settings) for source in sources]
    seeds = [replace(runs[seed % len(runs)], seed=seed // len(runs)) for seed in range(number)]
    _copies(sources, seeds, root / "runs")
    copies = (root / f"published-{n}" for n in range(rounds))
    calls: dict[str, Callable[[], object]] = {
        "plan": lambda: _planned(specs, root / "toys"),
        "status": lambda: status_table.show(root / "toys", watch=False),
        "verify": lambda: _verified(root / "toys"),
        "tables": lambda: write_tables([root / "runs"], root / "tables"),
        "claims": lambda: write_claims([root / "runs"], root / "tables"),
        "publish": lambda: publish.publish(root / "toys", next(copies)),
        "a worker with nothing to do": lambda: Worker(root / "toys", StopSignals()).work(specs),
        "taking every run": lambda: _taken(specs, root / "taken"),
    }
    return {name: _cost(call, number, rounds) for name, call in calls.items()}


def _hosted(root: Path, number: int, hosts: int) -> dict[str, float]:
    """The cost of publishing runs done on many hosts, whose names must be scrubbed."""
    specs = [spec(seed, TRAINED) for seed in range(number)]
    in_process.run_one(specs[0], root / "first")
    _copies([root / "first" / name_of(specs[0])], specs, root / "toys", hosts)
    found = _cost(lambda: publish.publish(root / "toys", root / "published"), number, 1)
    shutil.rmtree(root)
    return found


def _cost(call: Callable[[], object], number: int, rounds: int) -> dict[str, float]:
    processor, clock = [], []
    for _ in range(rounds):
        before, began = time.process_time(), time.perf_counter()
        with redirect_stdout(StringIO()):
            call()
        processor.append(time.process_time() - before)
        clock.append(time.perf_counter() - began)
    seconds = statistics.median(processor)
    return {
        "CPU seconds": seconds,
        "CPU ms a run": 1000 * seconds / number,
        "seconds": statistics.median(clock),
    }


def _planned(specs: Sequence[RunSpec], runs: Path) -> None:
    found = {plan.inspect(one, runs).state for one in specs}
    if found != {"done"}:
        raise ZiaError(f"the runs of nothing are {', '.join(found)}, not done")


def _verified(runs: Path) -> None:
    if any(finding.outcome == "failed" for finding in verify.verify(runs)):
        raise ZiaError("a copied run fails its checks")


def _taken(specs: Sequence[RunSpec], runs: Path) -> None:
    """Claim and release every run, as a worker does."""
    for one in specs:
        owner = Ownership.claim(runs / name_of(one))
        if owner is None:
            raise ZiaError(f"somebody else works on {name_of(one)}")
        owner.release()


def _shared(root: Path, number: int, workers: int) -> dict[str, float]:
    """Let workers share all runs of one folder; ZiaError if a run is lost or done twice."""
    specs = [spec(seed, Settings()) for seed in range(number)]
    in_process.run_one(specs[0], root / "first")  # so that the forked workers have its imports
    fork = get_context("fork")
    own = fork.SimpleQueue()
    began, before = time.perf_counter(), _children_s()
    # Workers do not wait for each other: the first to claim a run has it.
    processes = [fork.Process(target=_work, args=(root, specs, own)) for _ in range(workers)]
    for process in processes:
        process.start()
    done = [own.get() for _ in processes]
    for process in processes:
        process.join()
    seconds, processor = time.perf_counter() - began, _children_s() - before
    attempts = [len(stored.read_status(root / "runs" / name_of(one))["attempts"]) for one in specs]
    if sum(done) != number or set(attempts) != {1}:
        raise ZiaError(f"{workers} workers did {sum(done)} of {number} runs, {attempts} attempts")
    return {
        "claims/s": number / seconds,
        "claims a CPU second": number / processor,
        "CPU ms a run": 1000 * processor / number,
        "runs done twice": sum(each > 1 for each in attempts),
        "workers with a run": sum(each > 0 for each in done),
    }


def _work(root: Path, specs: Sequence[RunSpec], own: Any) -> None:
    with redirect_stdout(StringIO()):
        own.put(Worker(root / "runs", StopSignals()).work(specs).done_here)


def _children_s() -> float:
    """CPU seconds of all finished child processes."""
    times = os.times()
    return times.children_user + times.children_system


def _published(method: str, runs: Path) -> Path:
    """The folder of a published run of mini, unpacked to `runs`."""
    [run] = published_runs("alpaca_llama", f"{method}-instruct-pocket-llama-mini-s0-")
    return unpacking.unpack(run, runs)


def _copies(sources: Sequence[Path], specs: Sequence[RunSpec], runs: Path, hosts: int = 1) -> None:
    """Copy the finished runs in `sources`, in rotation, as the runs of the specs, on many hosts.

    Identical files are hard links, so that 10,000 runs take seconds.
    """
    originals = []
    for number, source in enumerate(sources):
        original = runs.parent / f"{runs.name}-originals" / str(number)
        shutil.copytree(source, original, ignore=shutil.ignore_patterns(*seal.NEVER_SEALED))
        originals.append((original, seal.digests(original), stored.read_status(original)))
    for number, one in enumerate(specs):
        original, digests, status_ = originals[number % len(originals)]
        target = runs / name_of(one)
        target.mkdir(parents=True)
        attempts = [
            attempt | {"host": f"node{number % hosts:04d}"} for attempt in status_["attempts"]
        ]
        own = {stored.CONFIG: one.to_json(), stored.STATUS: status_ | {"attempts": attempts}}
        for name in digests.keys() - own.keys():
            (target / name).hardlink_to(original / name)
        texts = {name: json.dumps(value).encode() for name, value in own.items()}
        for name, text in texts.items():
            (target / name).write_bytes(text)
        sealed = digests | {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()}
        (target / seal.SEAL).write_text(json.dumps(sealed), "utf-8")


if __name__ == "__main__":
    command.main("many_runs")
