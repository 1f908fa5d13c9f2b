"""Partial ScienceQA files into the official layout: `python -m experiments.scienceqa.convert`.

It reads `problems_1-1773.json`, `pid_splits.json`, `test_image_questions.json` (each plain or .gz)
and `images_test_224.zip`, and writes two folders of `$ZIA_DATA`: `scienceqa`, the problems that
have every field, and `scienceqa-images`, all questions of the test split that have an image, with
what is known of them. Images become PNG, losslessly.
"""

import argparse
import io
import json
import os
import secrets
import shutil
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.harness.datafiles import parse_json, read_text
from experiments.harness.files import write_errors
from experiments.image_features.preprocessing import decode
from experiments.scienceqa.subsets import OWN_FOLDER
from zia_core.errors import ZiaError

IMAGE = "image.png"


def convert(source: Path, dest: Path) -> dict[str, int]:
    """Write both folders into `dest`, whole or not at all; the number of problems in each.

    ZiaError for a source file that is missing or damaged, and for a folder that is there already.
    """
    problems = _json(source, "problems_1-1773.json")
    splits = _json(source, "pid_splits.json")
    questions = {row["pid"]: row for row in _json(source, "test_image_questions.json")}
    files = {pid: row["image_file"] for pid, row in questions.items()}
    fields = ("question", "choices", "answer")
    of_images = {
        pid: problems.get(pid)
        or {**{name: row[name] for name in fields}, "image": IMAGE, "split": "test"}
        for pid, row in questions.items()
    }
    with _archive(source / "images_test_224.zip") as archive:
        for name, chosen in (("scienceqa", problems), (OWN_FOLDER, of_images)):
            images = {pid: files[pid] for pid in chosen if pid in files}
            _write(dest / name, chosen, splits, images, archive)
    return {"scienceqa": len(problems), OWN_FOLDER: len(of_images)}


def _write(
    target: Path,
    problems: Mapping[str, Any],
    splits: Any,
    images: Mapping[str, str],
    archive: zipfile.ZipFile,
) -> None:
    if target.exists():
        raise ZiaError(f"{target} is there already: move it away")
    staging = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    try:
        with write_errors(target):
            staging.mkdir(parents=True)
            (staging / "problems.json").write_text(json.dumps(problems))
            (staging / "pid_splits.json").write_text(json.dumps(splits))
        for pid, name in images.items():
            png = io.BytesIO()
            decode(_member(archive, name), Path(str(archive.filename), name)).save(png, "PNG")
            path = staging / "images" / problems[pid]["split"] / pid / IMAGE
            with write_errors(target):
                path.parent.mkdir(parents=True)
                path.write_bytes(png.getvalue())
        with write_errors(target):
            os.sync()  # once for thousands of files
            staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _json(source: Path, name: str) -> Any:
    path = next((p for p in (source / name, source / f"{name}.gz") if p.exists()), source / name)
    return parse_json(read_text(path), str(path))


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise ZiaError(f"cannot read the images in {path} ({error}): fetch it again") from error


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ZiaError(f"{archive.filename} has no image {name} ({error})") from error


def main() -> int:
    """Convert, and say what was written; 1 after a failure, which is one sentence."""
    parser = argparse.ArgumentParser(prog="python -m experiments.scienceqa.convert")
    parser.add_argument("source", type=Path, help="folder with the partial files")
    parser.add_argument("dest", type=Path, help="the folder $ZIA_DATA")
    arguments = parser.parse_args()
    try:
        written = convert(arguments.source, arguments.dest)
    except ZiaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, count in written.items():
        print(f"{arguments.dest / name}: {count:,} problems")
    return 0


if __name__ == "__main__":
    sys.exit(main())
