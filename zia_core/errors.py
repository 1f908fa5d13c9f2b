"""The exception that is meant for users."""


class ZiaError(Exception):
    """A failure that the user can act on.

    The message is one sentence that names the file, record or setting at fault and says what to
    do.
    """
