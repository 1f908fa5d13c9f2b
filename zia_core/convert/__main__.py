"""`python -m zia_core.convert`: convert adapters where only the library is installed."""

import sys
from argparse import ArgumentParser, BooleanOptionalAction

from zia_core.arguments import named_path
from zia_core.convert.command import SOURCES, convert
from zia_core.errors import ZiaError


def main() -> int:
    """Parse the command line, convert, and print where to and how exactly."""
    parser = ArgumentParser("python -m zia_core.convert", description=convert.__doc__)
    parser.add_argument("source", type=named_path)
    parser.add_argument("out", type=named_path)
    parser.add_argument("--from", dest="kind", choices=SOURCES, required=True)
    parser.add_argument("--model", required=True, help="folder or hub name of the base model")
    parser.add_argument("--prompt-length", type=int)
    parser.add_argument("--tanh", action=BooleanOptionalAction)
    given = parser.parse_args()
    try:
        said = convert(
            given.source, given.model, given.out, given.kind, given.prompt_length, given.tanh
        )
    except ZiaError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{said}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
