"""Convert partial ScienceQA files to the official layout.

    python -m experiments.scienceqa.convert SOURCE DEST

It reads `problems_1-1773.json`, `pid_splits.json`, `test_image_questions.json` (each plain or .gz)
and `images_test_224.zip`, and writes two folders of `$ZIA_DATA`: `scienceqa`, the problems with
every field, and `scienceqa-images`, all questions of the test split with an image and their known
fields. Images become PNG, losslessly.
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

from experiments.data.files import parse_json, read_text, text_field
from experiments.images.image_files import read_rgb
from experiments.images.zip_archives import member, open_archive
from experiments.io.files import check_output, write_errors
from experiments.io.output import guarded, say, tell
from experiments.io.safe_names import inside
from experiments.scienceqa.data import SIZES
from experiments.scienceqa.subsets import OWN_FOLDER
from zia_core.arguments import named_path
from zia_core.errors import ZiaError

PROBLEMS, SPLITS = "problems_1-1773.json", "pid_splits.json"
QUESTIONS, ARCHIVE = "test_image_questions.json", "images_test_224.zip"
COPIED = ("question", "choices", "answer")  # from a question that is not among the problems
FOLDER, IMAGE = "scienceqa", "image.png"


def convert(source: Path, dest: Path) -> dict[str, int]:
    """Write both folders into `dest`, whole or not at all; return their numbers of problems.

    ZiaError if a source file is missing or damaged, a record is malformed, or a folder exists.
    """
    for target in (dest / FOLDER, dest / OWN_FOLDER):
        if target.exists():
            raise ZiaError(f"{target} is there already: move it away")
    check_output(dest)
    problems, splits = _problems(source), _json(source, SPLITS)[0]
    questions = _questions(source)
    files = {pid: row["image_file"] for pid, row in questions.items()}
    of_images = {
        pid: problems.get(pid)
        or {**{name: row[name] for name in COPIED}, "image": IMAGE, "split": "test"}
        for pid, row in questions.items()
    }
    both = {FOLDER: problems, OWN_FOLDER: of_images}
    staging = dest / f".{FOLDER}.{secrets.token_hex(6)}"
    try:
        with open_archive(source / ARCHIVE) as archive:
            for name, chosen in both.items():
                images = {pid: files[pid] for pid in chosen if pid in files}
                _write(staging / name, chosen, splits, images, archive)
        with write_errors(dest):
            os.sync()  # once for thousands of files
            for name in both:
                (staging / name).rename(dest / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return {name: len(chosen) for name, chosen in both.items()}


def _write(
    folder: Path,
    problems: Mapping[str, Any],
    splits: Any,
    images: Mapping[str, str],
    archive: zipfile.ZipFile,
) -> None:
    with write_errors(folder):
        folder.mkdir(parents=True)
        (folder / "problems.json").write_text(json.dumps(problems), encoding="utf-8")
        (folder / "pid_splits.json").write_text(json.dumps(splits), encoding="utf-8")
    for pid, name in images.items():
        png, where = io.BytesIO(), f"{archive.filename}/{name}"
        read_rgb(io.BytesIO(member(archive, name)), where).save(png, "PNG")
        path = inside(folder / "images", f"{problems[pid]['split']}/{pid}/{IMAGE}", "the source")
        with write_errors(folder):
            path.parent.mkdir(parents=True)
            path.write_bytes(png.getvalue())


def _problems(source: Path) -> dict[str, Any]:
    """The problems by pid, each with a split; other fields are checked when they are loaded."""
    found, path = _json(source, PROBLEMS)
    if not isinstance(found, dict):
        raise ZiaError(f"{path} must be an object {{pid: problem}}: fetch it again")
    for pid, problem in found.items():
        where = f"{path}, problem {pid!r}"
        if not pid.isdecimal() or text_field(problem, "split", where) not in SIZES:
            raise ZiaError(f"{where} needs a number as its pid, and a split of {', '.join(SIZES)}")
    return found


def _questions(source: Path) -> dict[str, Any]:
    """The questions with an image, by pid."""
    rows, path = _json(source, QUESTIONS)
    if not isinstance(rows, list):
        raise ZiaError(f"{path} must be a list of questions: fetch it again")
    found = {}
    for place, row in enumerate(rows):
        where = f"{path}, record {place}"
        pid, _ = (text_field(row, name, where) for name in ("pid", "image_file"))
        absent = [name for name in COPIED if name not in row]
        if absent or not pid.isdecimal() or pid in found:
            fault = f"has no field {absent[0]!r}" if absent else "has no pid of its own, a number"
            raise ZiaError(f"{where} {fault}: repair it or fetch the file again")
        found[pid] = row
    return found


def _json(source: Path, name: str) -> tuple[Any, Path]:
    path = next((p for p in (source / name, source / f"{name}.gz") if p.exists()), source / name)
    return parse_json(read_text(path), str(path)), path


@guarded()
def main() -> int:
    """Convert and print what was written; return 1 after a failure."""
    parser = argparse.ArgumentParser(prog="python -m experiments.scienceqa.convert")
    parser.add_argument("source", type=named_path, help="folder with the partial files")
    parser.add_argument("dest", type=named_path, help="the folder $ZIA_DATA")
    arguments = parser.parse_args()
    try:
        written = convert(arguments.source, arguments.dest)
    except ZiaError as error:
        say(f"error: {error}")
        return 1
    for name, count in written.items():
        tell(f"{arguments.dest / name}: {count:,} problems")
    return 0


if __name__ == "__main__":
    sys.exit(main())
