"""A data-parallel run: a process for every GPU of the worker, of which the worker's is the first.

The first alone owns the run and writes; the others, its children, do the same with a folder that
takes nothing. They end with it: killed once it is through, and by themselves where it is killed.
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
from experiments.dispatch.stop_signals import OF_A_WORKER
from experiments.harness import registry, stored
from experiments.harness.folder import RunFolder
from experiments.harness.provenance import PROJECT
from experiments.harness.spec import RunSpec
from experiments.io.files import read_json
from experiments.io.output import guarded, say
from zia_core.errors import ZiaError

HERE = "127.0.0.1"
SETTLES_S = 10.0  # a process whose connection has closed is about to end


class Followed(Exception):  # noqa: N818 - an outcome, not an error
    """The training is over, and what comes now is for the first process to write."""


class FollowersFolder(RunFolder):
    """What a follower sees of the run's folder: it may read other runs there, and write nothing."""

    def __init__(self, path: Path, spec: RunSpec) -> None:
        # Not RunFolder's: that is made of an ownership, and a follower has none.
        self.path, self.spec = path, spec
        self._environment: dict[str, Any] = {}
        self._stop_reason: str | None = None

    def write_environment(self, fields: Mapping[str, Any]) -> None:
        """Keep the fingerprints, with which `result_of` compares those of other runs."""
        self._environment |= fields

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Raise Followed."""
        raise Followed
        yield self.path

    def write_predictions(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Raise Followed."""
        raise Followed

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Raise Followed."""
        raise Followed


def ranks_for(spec: RunSpec) -> int:
    """How many processes a run takes here: all GPUs that the worker has, one process on a CPU."""
    if _device(spec) != "cuda":
        return 1
    import torch

    return max(1, torch.cuda.device_count())


def beside(spec: RunSpec, folder: Path, ranks: int) -> AbstractContextManager[None]:
    """Within the block this process is the first of so many that do the run in `folder`.

    Raises:
        ZiaError: the processes do not find one another, or one of the others failed or was killed.
    """
    return nullcontext() if ranks == 1 else _leading(spec, folder, ranks)


@contextmanager
def _leading(spec: RunSpec, folder: Path, ranks: int) -> Iterator[None]:
    from zia_core.ranks import joined
    from zia_core.training import Interrupted

    world = {"MASTER_ADDR": HERE, "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(ranks)}
    # Blocked and not lost: a follower takes them up, to ignore them, once it has started.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, OF_A_WORKER)
    followers = {rank: _start(folder, rank, world) for rank in range(1, ranks)}
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        with joined(world | {"RANK": "0"}, device=_device(spec)):
            yield
    except Interrupted as interrupted:
        for rank, follower in followers.items():
            try:
                code = follower.wait(SETTLES_S)
            except subprocess.TimeoutExpired:  # the run is saved, for which nobody needs it
                say(f"rank {rank} does not end within {SETTLES_S:g} s of the stop and is killed")
                continue
            if code not in (0, _STOPPED):
                raise ZiaError(_how_it_ended(rank, code)) from interrupted
        raise
    finally:
        for follower in followers.values():
            follower.kill()
            follower.wait()


_STOPPED = 3  # the exit code of a follower whose run was stopped with it


def _start(folder: Path, rank: int, world: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # The leader's code, and not that of the folder which both happen to be in.
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
    """Follow: the arguments are the run's folder and the folder of the code that its leader runs.

    Torchrun's variables say which rank this is.
    """
    # Signals reach every process of a job; the first rank heeds them, for all at the same step.
    for number in OF_A_WORKER:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, OF_A_WORKER)
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
            experiment.run(spec, FollowersFolder(path, spec))
        except Interrupted:
            code = _STOPPED
        except Followed:
            pass
    # A thread of gloo's can outlive the group, and the interpreter's end then aborts the process
    # (seen once in three whole test runs). There is nothing to finish: followers write no files.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
