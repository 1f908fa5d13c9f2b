"""Arguments of command lines."""

from argparse import ArgumentTypeError
from pathlib import Path


def named_path(text: str) -> Path:
    """Return a path; as `type=` of argparse it refuses an empty text.

    `Path("")` is the current folder, which nobody asks for by an unset variable.

    Raises:
        ArgumentTypeError: the text is empty.
    """
    if not text:
        raise ArgumentTypeError('"" is empty; is a variable unset?')
    return Path(text)
