"""Write the generated world: `python -m experiments.mini_world DIR`, to be used as `$ZIA_DATA`."""

import argparse
import sys

from experiments.io.output import guarded, say, tell
from experiments.mini_world.world import write_world
from zia_core.arguments import named_path
from zia_core.errors import ZiaError


@guarded()
def main() -> int:
    """Write the world and print its folder; exit code 1 after a failure."""
    parser = argparse.ArgumentParser(prog="python -m experiments.mini_world", description=__doc__)
    parser.add_argument(
        "folder", type=named_path, metavar="DIR", help="a folder that is not there yet"
    )
    try:
        tell(write_world(parser.parse_args().folder))
    except ZiaError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
