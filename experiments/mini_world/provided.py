"""Provide the generated world as the data of the profile `mini`, from a cache."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TypeVar

from experiments.data.files import DATA_VARIABLE
from experiments.harness import stored
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.io.files import read_json
from experiments.mini_world.world import VERSION, write_world
from zia_core.errors import ZiaError

PROFILE = "mini"
Found = TypeVar("Found")


def world_folder() -> Path:
    """The world's folder, which is created if missing; safe to call from several processes.

    It is in the project's part of the cache of `datasets` (`HF_DATASETS_CACHE`). Delete it to
    regenerate it.
    """
    import datasets

    folder = Path(datasets.config.HF_DATASETS_CACHE, "zia", f"world-v{VERSION}")
    if not folder.is_dir():
        try:
            write_world(folder)
        except ZiaError:
            if not folder.is_dir():  # else another process was faster
                raise
    return folder


@contextmanager
def data_of(profile: str) -> Iterator[None]:
    """Set `$ZIA_DATA` to the generated world within the block, if the profile is `mini`."""
    if profile != PROFILE:
        yield
        return
    before = os.environ.get(DATA_VARIABLE)
    os.environ[DATA_VARIABLE] = str(world_folder())
    try:
        yield
    finally:
        if before is None:
            del os.environ[DATA_VARIABLE]
        else:
            os.environ[DATA_VARIABLE] = before


def run_with_data(
    run: Callable[[RunSpec, RunFolder], None],
) -> Callable[[RunSpec, RunFolder], None]:
    """Wrap an experiment's `run` to use the data of the run's profile."""

    @wraps(run)
    def with_data(spec: RunSpec, folder: RunFolder) -> None:
        with data_of(spec.profile):
            run(spec, folder)

    return with_data


def rescore_with_data(rescore: Callable[[Path], Found]) -> Callable[[Path], Found]:
    """Wrap an experiment's `rescore` to use the data of the run's profile."""

    @wraps(rescore)
    def with_data(path: Path) -> Found:
        with data_of(str(read_json(path / stored.CONFIG).get("profile"))):
            return rescore(path)

    return with_data
