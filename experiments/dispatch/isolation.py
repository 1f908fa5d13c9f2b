"""Isolate the runs that one process does one after another."""

import gc
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# After a shorter run on a CPU, whose model was small, garbage is left to Python's own collector.
SHORT_S = 10.0


@contextmanager
def restored_process_state() -> Iterator[None]:
    """On exit, restore the state of the process, so that runs do not affect each other.

    This covers random generators, threads, default dtype, matmul precision, kernel selection,
    environment variables and the working folder. Compiled functions and unused GPU memory are
    freed.
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
        if (
            _determinism() != deterministic
        ):  # setting it imports torch's compiler, which takes seconds
            torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
        torch.set_float32_matmul_precision(precision)
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        os.chdir(folder)
        _restore_environment(environment)
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()
        # Hooks and wrapped methods make models cyclic garbage. Collecting takes 0.25 s once
        # everything is imported: too much after every short run.
        if torch.cuda.is_initialized() or time.monotonic() - began > SHORT_S:
            gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def breaks_the_gpu(error: BaseException) -> bool:
    """Whether `error`, or one that caused it, leaves this process without a working GPU.

    After an illegal access or a failed assertion on a GPU, all further CUDA calls of the process
    fail. Running out of memory is not such an error: the next run may need less.
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
