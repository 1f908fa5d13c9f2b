"""Bring an image set into the layout of `data`: `python -m experiments.vtab_vit.convert -h`."""

import argparse
import os
import secrets
import shutil
import sys
from pathlib import Path

from experiments.io.files import check_output, write_errors
from experiments.io.output import guarded, say, tell
from experiments.io.safe_names import inside
from experiments.vtab_vit.data import LISTS, TaskData, contents, load_task
from experiments.vtab_vit.sources import INSTALLED, SOURCES, Encoded, Lists
from experiments.vtab_vit.tasks import Task, get
from zia_core.errors import ZiaError


def write_task(task: Task, lists: Lists, dest: Path) -> TaskData:
    """Write the folder `dest/<task>`; it appears complete and checked, or not at all.

    A folder that is there already stays as it is: it is returned if it holds just these images and
    lists, and refused otherwise.

    Raises:
        ZiaError: as `load_task`; the folder holds something else; or it cannot be written.
    """
    target = dest / task.name
    # In `dest`, so that it can be moved; the name says whose it is after a crash.
    staging = dest / f".{task.name}.{secrets.token_hex(6)}"
    try:
        with write_errors(target):
            _write(lists, staging)
        written = load_task(task, staging)
        if target.exists():
            return _same(task, target, written)
        with write_errors(target):
            os.sync()  # once for thousands of files
            staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return load_task(task, target)


def _write(lists: Lists, folder: Path) -> None:
    parts = {
        "train": lists.train,
        "val": lists.val,
        "train_val": lists.train + lists.val,
        "test": lists.test,
    }
    for encoded in lists.train + lists.val + lists.test:
        path = inside(folder / "images", encoded.name, "the source")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded.content)
    for split, name in LISTS.items():
        (folder / name).write_text("".join(map(_line, parts[split])), encoding="utf-8")


def _line(encoded: Encoded) -> str:
    return f"images/{encoded.name} {encoded.label}\n"


def _same(task: Task, target: Path, written: TaskData) -> TaskData:
    try:
        present = load_task(task, target)
        same = contents(present).fingerprint == contents(written).fingerprint
    except ZiaError:
        same = False
    if not same:
        raise ZiaError(
            f"{target} is there already and does not hold what this source gives: move it away"
        )
    return present


@guarded()
def main() -> int:
    """Convert, and say what was written; 1 after a failure, which is one sentence."""
    parser = argparse.ArgumentParser(prog="python -m experiments.vtab_vit.convert")
    parser.add_argument("kind", metavar="SOURCE_KIND", choices=SOURCES, help=", ".join(SOURCES))
    parser.add_argument(
        "source", type=Path, help=f"folder with its files; digits: digits.csv.gz or {INSTALLED!r}"
    )
    parser.add_argument("dest", type=Path, help="the folder vtab/ of $ZIA_DATA")
    arguments = parser.parse_args()
    name, read = SOURCES[arguments.kind]
    task = get(name)
    try:
        check_output(arguments.dest)
        data = write_task(task, read(arguments.source, task), arguments.dest)
        found = contents(data)
    except ZiaError as error:
        say(f"error: {error}")
        return 1
    tell(
        f"{data.folder}: {len(data.train)} + {len(data.val)} training and {len(data.test)} test "
        f"images, {found.shared} of which are training images too; sha256 {found.fingerprint}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
