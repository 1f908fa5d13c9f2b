"""The one exception that users are meant to read."""


class ZiaError(Exception):
    """A failure that the user can act on.

    Its message is one sentence: it names the file, record or setting that is at fault and says
    what to do. The command line prints it without a traceback.
    """
