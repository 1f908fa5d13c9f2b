"""Keep Arrow tables between runs; damaged or incomplete ones are built again."""

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.io.files import read_json, sha256_file, write_json_atomic
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from datasets import Dataset

MANIFEST = "sha256.json"


def cached(key: str, build: Callable[[], "Dataset"], root: Path | None = None) -> "Dataset":
    """Return the memory-mapped table stored under `key`; build it if there is none.

    `root` is the folder of all tables, by default in the cache of `datasets` (`HF_DATASETS_CACHE`).
    Every byte is checked against the table's manifest. Several processes may build the same table
    at once. ZiaError if it cannot be written.
    """
    import datasets

    root = root or Path(datasets.config.HF_DATASETS_CACHE) / "zia"
    folder = root / key
    if not _intact(folder):
        _store(build(), folder)
    return datasets.load_from_disk(folder)


def _intact(folder: Path) -> bool:
    try:
        return read_json(folder / MANIFEST) == _digests(folder)
    except ZiaError:
        return False


def _digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.iterdir() if path.name != MANIFEST]
    return {path.name: sha256_file(path) for path in files}


def _store(table: "Dataset", folder: Path) -> None:
    temporary = folder.with_name(f".{secrets.token_hex(6)}.{folder.name}")
    try:
        with _no_progress_bar():
            table.save_to_disk(temporary)
        write_json_atomic(temporary / MANIFEST, _digests(temporary))
        if not _intact(folder):  # else another process was faster
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
    except OSError as error:
        if not _intact(folder):
            raise ZiaError(
                f"cannot write the table of tokens {folder} ({error.strerror or error}): make room "
                "or set HF_DATASETS_CACHE to another folder"
            ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
