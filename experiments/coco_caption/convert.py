"""Convert Flickr8k from captions.json and a zip of images to the official layout.

    python -m experiments.coco_caption.convert SOURCE DEST

It reads `captions.json` (or .gz: a list of {"file", "split", "captions"}) and `images_128.zip`, and
writes the folder `flickr8k` of `$ZIA_DATA`. Images are not changed.
"""

import argparse
import os
import secrets
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

from experiments.coco_caption.data import FLICKR_IMAGES, FLICKR_TOKENS, SPLITS
from experiments.data.files import parse_json, read_text, text_field
from experiments.images.zip_archives import member, open_archive
from experiments.io.files import check_output, write_errors
from experiments.io.output import guarded, say, tell
from experiments.io.safe_names import inside, is_file_name
from zia_core.arguments import named_path
from zia_core.errors import ZiaError


def convert(source: Path, dest: Path) -> int:
    """Write `dest/flickr8k`, whole or not at all; return the number of images.

    ZiaError if a source file is missing or damaged, a record is malformed, the zip lacks an image,
    or the folder exists.
    """
    target = dest / "flickr8k"
    if target.exists():
        raise ZiaError(f"{target} is there already: move it away")
    path = next((p for p in (source / "captions.json.gz",) if p.exists()), source / "captions.json")
    check_output(dest)
    records = parse_json(read_text(path), str(path))
    _check(records, path)
    staging = dest / f".flickr8k.{secrets.token_hex(6)}"
    try:
        with open_archive(source / "images_128.zip") as archive, write_errors(target):
            _write(staging, records, archive)
            os.sync()  # once for thousands of files
            staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return len(records)


def _check(records: Any, path: Path) -> None:
    if not isinstance(records, list) or not records:
        raise ZiaError(f"{path} must be a list of images with their captions: fetch it again")
    for place, record in enumerate(records):
        where = f"{path}, record {place}"
        name, _ = (text_field(record, field, where) for field in ("file", "split"))
        if not is_file_name(name):
            raise ZiaError(f"{where}: 'file' must be a file's name, not {name!r:.60}")
        captions = record.get("captions")
        if not isinstance(captions, list) or not captions:
            raise ZiaError(f"{where}: 'captions' must be a list of texts: fetch the file again")
        for caption in captions:
            text = text_field({"caption": caption}, "caption", where)
            if len(text.strip().splitlines()) != 1:
                raise ZiaError(f"{where}: a caption must be one line, not {text!r:.60}")


def _write(folder: Path, records: Any, archive: zipfile.ZipFile) -> None:
    images = folder / FLICKR_IMAGES
    images.mkdir(parents=True)
    for record in records:
        path = inside(images, record["file"], "the list of captions")
        path.write_bytes(member(archive, record["file"]))
    (folder / FLICKR_TOKENS).write_text(
        "".join(
            f"{record['file']}#{i}\t{caption.strip()}\n"
            for record in records
            for i, caption in enumerate(record["captions"])
        ),
        encoding="utf-8",
    )
    for split in SPLITS.values():
        names = [f"{record['file']}\n" for record in records if record["split"] == split]
        (folder / f"Flickr_8k.{split}Images.txt").write_text("".join(names), encoding="utf-8")


@guarded()
def main() -> int:
    """Convert and print what was written; return 1 after a failure."""
    parser = argparse.ArgumentParser(prog="python -m experiments.coco_caption.convert")
    parser.add_argument(
        "source", type=named_path, help="folder with captions.json and images_128.zip"
    )
    parser.add_argument("dest", type=named_path, help="the folder $ZIA_DATA")
    arguments = parser.parse_args()
    try:
        count = convert(arguments.source, arguments.dest)
    except ZiaError as error:
        say(f"error: {error}")
        return 1
    tell(f"{arguments.dest / 'flickr8k'}: {count:,} images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
