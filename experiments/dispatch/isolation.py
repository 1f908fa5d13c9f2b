"""One process does many runs, and none of them sees what another one left behind."""

import gc
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# A run on a CPU that was shorter leaves its garbage to Python's own collector, which comes when
# there is enough of it: its model was a small one, read and trained in that time.
SHORT_S = 10.0


@contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Put the process back, behind the block, to what it was: a run's result is then its own.

    That is: random generators, threads, default dtype, matmul precision, the choice of kernels,
    environment variables, the working folder; compiled functions and unused GPU memory are let go.
    """
    import torch

    from zia_core.rng import isolated_rng

    environment, folder = dict(os.environ), Path.cwd()
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    precision = torch.get_float32_matmul_precision()
    deterministic = _determinism()
    cudnn = torch.backends.cudnn
    kernels = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32
    gradients = torch.is_grad_enabled()
    began = time.monotonic()
    try:
        with isolated_rng():
            yield
    finally:
        torch.set_grad_enabled(gradients)
        cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = kernels
        if _determinism() != deterministic:  # setting it imports torch's compiler, for seconds
            torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
        torch.set_float32_matmul_precision(precision)
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        os.chdir(folder)
        _restore_environment(environment)
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()
        # Models hold themselves in cycles: hooks, wrapped methods. Looking for those takes 0.25 s
        # once everything is imported, so behind runs of a second it is not done every time.
        if torch.cuda.is_initialized() or time.monotonic() - began > SHORT_S:
            gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def spoils_the_process(error: BaseException) -> bool:
    """Whether this process can use its GPU no more after `error`, or one that led to it.

    After an illegal access or a failed assertion on a GPU all that a process asks of it fails, for
    whichever run. Memory that ran out is none of these: the next run may need less.
    """
    import torch

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, RuntimeError) and not isinstance(seen, torch.OutOfMemoryError):
            text = str(seen)
            if isinstance(seen, torch.AcceleratorError) or "CUDA error: " in text:
                return True
        seen = seen.__cause__ or seen.__context__
    return False


def _determinism() -> tuple[bool, bool]:
    import torch

    enabled = torch.are_deterministic_algorithms_enabled()
    return enabled, torch.is_deterministic_algorithms_warn_only_enabled()


def _restore_environment(before: dict[str, str]) -> None:
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    for name, value in before.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
