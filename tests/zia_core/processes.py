"""Processes that begin anew, like the ranks of a job.

A fork of the test itself would not do: after a backward pass through a sharded model, torch refuses
another one in any fork of that process.
"""

import multiprocessing
import socket
from collections.abc import Callable, Iterable
from typing import Any

_ANEW = multiprocessing.get_context("forkserver")
_ANEW.set_forkserver_preload(["tests.zia_core.toy_training"])


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


def exit_codes(
    target: Callable[..., None], arguments: Iterable[tuple[Any, ...]], seconds: float = 120
) -> list[int]:
    """Call `target` in one process for each of `arguments`; 1 is an exception, < 0 a signal."""
    processes: list[Any] = [_ANEW.Process(target=target, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(seconds)
    hanging = [process for process in processes if process.exitcode is None]
    for process in hanging:
        process.kill()
    assert not hanging
    return [process.exitcode for process in processes]
