"""What every test shares: one thread, and the folder of real data where there is one."""

import os
from pathlib import Path

import pytest

from experiments.dispatch import job_environment
from experiments.harness.provenance import usable_cores

# Numbers of a run depend on the thread count, so the tests fix it before torch starts its pool.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Configures logging when it is imported, which closes the handlers that are there. absl's, which
# comes with ROUGE, then closes the stream that was stderr when it was made: pytest's own.
import submitit  # noqa: F401
import torch

# Without a card Triton's kernels are interpreted; Triton reads this as it is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
# No test reaches the hub; without this its client would try for half a minute before it says so.
os.environ["HF_HUB_OFFLINE"] = "1"
# In a shell inside a Slurm job, the tests are no part of that job.
for variable in [*filter(job_environment.is_job_variable, os.environ), *job_environment.RANKS]:
    os.environ.pop(variable, None)

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """`-n auto`: a worker for every core that the tests may use, however many the machine has."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else usable_cores()


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with real data and weights beside the repository (or `$ZIA_TEST_SHARED`)."""
    path = Path(os.environ.get("ZIA_TEST_SHARED", REPOSITORY.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no folder of real data at {path}")
    return path


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY
