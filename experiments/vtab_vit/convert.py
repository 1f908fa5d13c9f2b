"""Convert image sets to the VTAB-1k layout: `python -m experiments.vtab_vit.convert -h`."""

import argparse
import sys

from experiments.images.digits import INSTALLED
from experiments.images.task_folder import contents
from experiments.images.task_writing import write_task
from experiments.io.files import check_output
from experiments.io.output import guarded, say, tell
from experiments.vtab_vit.sources import SOURCES
from experiments.vtab_vit.tasks import get
from zia_core.arguments import named_path
from zia_core.errors import ZiaError


@guarded()
def main() -> int:
    """Convert a set and print what was written; return 1 after a failure."""
    parser = argparse.ArgumentParser(prog="python -m experiments.vtab_vit.convert")
    parser.add_argument("kind", metavar="SOURCE_KIND", choices=SOURCES, help=", ".join(SOURCES))
    parser.add_argument(
        "source",
        type=named_path,
        help=f"folder with its files; digits: digits.csv.gz or {INSTALLED!r}",
    )
    parser.add_argument("dest", type=named_path, help="the folder vtab/ of $ZIA_DATA")
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
