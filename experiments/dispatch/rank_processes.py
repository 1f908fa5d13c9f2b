"""Data-parallel runs: one process per GPU of the worker, which itself is rank 0.

Only rank 0 owns the run and writes to its folder; the other ranks are child processes with a
read-only view of it. They are killed when rank 0 is done, and exit by themselves if it is killed.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from experiments.dispatch import code_snapshot
from experiments.dispatch.stop_signals import WORKER_SIGNALS
from experiments.harness import registry, stored
from experiments.harness.folder import RunFolder
from experiments.harness.provenance import PROJECT
from experiments.harness.rehearsal import is_rehearsal
from experiments.harness.spec import RunSpec
from experiments.io.files import read_json
from experiments.io.output import guarded, say
from zia_core.errors import ZiaError

HERE = "127.0.0.1"
REHEARSED_RANKS = 2  # of a run in shards, on a CPU
SETTLES_S = 10.0  # a process whose connection closed is about to exit


class TrainingFinished(Exception):  # noqa: N818 - an outcome, not an error
    """Training is over; the rest, writing results, is left to rank 0."""


class ReadOnlyRunFolder(RunFolder):
    """The run folder as other ranks see it: they may read other runs and write nothing."""

    def __init__(self, path: Path, spec: RunSpec) -> None:
        # RunFolder's own needs an ownership, which only rank 0 has.
        self.path, self.spec = path, spec
        self._environment: dict[str, Any] = {}
        self._stop_reason: str | None = None

    def write_environment(self, fields: Mapping[str, Any]) -> None:
        """Keep the fingerprints that `result_of` compares with those of other runs."""
        self._environment |= fields

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Not for this rank: raise TrainingFinished."""
        raise TrainingFinished
        yield self.path

    def write_predictions(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Not for this rank: raise TrainingFinished."""
        raise TrainingFinished

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Not for this rank: raise TrainingFinished."""
        raise TrainingFinished


def ranks_for(spec: RunSpec) -> int:
    """The number of processes for a run: one per GPU of the worker; 1 on a CPU.

    A run in shards is rehearsed in shards on a CPU, too.
    """
    if _device(spec) != "cuda":
        sharded = registry.get(spec.experiment).in_shards(spec)
        return REHEARSED_RANKS if sharded and is_rehearsal(spec.profile) else 1
    import torch

    return max(1, torch.cuda.device_count())


def other_ranks(spec: RunSpec, folder: Path, ranks: int) -> AbstractContextManager[None]:
    """Within the block, the other ranks do the run in `folder` too; this process is rank 0.

    Raises:
        ZiaError: the processes cannot connect, or another rank failed or was killed.
    """
    return nullcontext() if ranks == 1 else _as_rank_0(spec, folder, ranks)


@contextmanager
def _as_rank_0(spec: RunSpec, folder: Path, ranks: int) -> Iterator[None]:
    from zia_core.ranks import joined
    from zia_core.training import Interrupted

    world = {"MASTER_ADDR": HERE, "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(ranks)}
    others: dict[int, subprocess.Popen[bytes]] = {}
    try:
        with _signals_blocked():  # which they inherit, and ignore once they have started
            for rank in range(1, ranks):
                others[rank] = _start(folder, rank, world)
        with joined(world | {"RANK": "0"}, device=_device(spec)):
            yield
    except Interrupted as interrupted:
        for rank, process in others.items():
            try:
                code = process.wait(SETTLES_S)
            except subprocess.TimeoutExpired:  # the run is already saved
                say(f"rank {rank} did not exit within {SETTLES_S:g} s of the stop: killed")
                continue
            if code not in (0, _STOPPED):
                raise ZiaError(_how_it_ended(rank, code)) from interrupted
        raise
    finally:
        for process in others.values():
            process.kill()
            process.wait()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WORKER_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_STOPPED = 3  # exit code of another rank when the run is stopped


def _start(folder: Path, rank: int, world: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # The same code as rank 0, whatever the current folder has.
    path = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))
    code = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    place = {**world, "RANK": str(rank), "LOCAL_RANK": str(rank), **code}
    command = [
        sys.executable,
        "-m",
        "experiments.dispatch.rank_processes",
        str(folder),
        str(PROJECT),
    ]
    return subprocess.Popen(command, env=os.environ | place, stdin=subprocess.DEVNULL)


def _how_it_ended(rank: int, code: int) -> str:
    if code < 0:
        return f"rank {rank} of the run was killed by {signal.Signals(-code).name}"
    return f"rank {rank} of the run failed; the log says how"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        port: int = probe.getsockname()[1]
        return port


def _device(spec: RunSpec) -> str:
    return str(getattr(spec.settings, "device", "cpu"))


@guarded()
def main() -> None:
    """Be another rank; the arguments are the folders of the run and of rank 0's code.

    Torchrun's variables say which rank this is.
    """
    # Signals reach every process of a job; rank 0 stops all ranks at the same step.
    for number in WORKER_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WORKER_SIGNALS)
    from zia_core.ranks import joined
    from zia_core.training import Interrupted

    path, project = map(Path, sys.argv[1:])
    try:
        code_snapshot.check_imports(project)
    except ZiaError as error:
        sys.exit(f"zia: {error}")
    config = read_json(path / stored.CONFIG)
    experiment = registry.get(str(config.get("experiment")))
    spec = RunSpec.from_json(config, experiment.settings)
    code = 0
    with joined(device=_device(spec)):
        try:
            experiment.run(spec, ReadOnlyRunFolder(path, spec))
        except Interrupted:
            code = _STOPPED
        except TrainingFinished:
            pass
    # A gloo thread can outlive the group, and interpreter shutdown then aborts the process (seen
    # once in three whole test runs). Nothing is lost: these ranks write no files.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
