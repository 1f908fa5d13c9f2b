"""What every test shares: one thread, and the folder of real data where there is one."""

import os
from pathlib import Path

import pytest

# Numbers of a run depend on the thread count, so the tests fix it before torch starts its pool.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# No test reaches the hub; without this its client would try for half a minute before it says so.
os.environ["HF_HUB_OFFLINE"] = "1"

REPOSITORY = Path(__file__).resolve().parent.parent


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
