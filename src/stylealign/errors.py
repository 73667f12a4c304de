"""The one exception a user is meant to read. It knows nothing of faces."""


class UserError(Exception):
    """Something the user gave is wrong.

    The message is one sentence naming the file, line or key, what was found and what was expected. The command line
    prints it without a traceback (unless `--debug`) and exits with status 2.
    """
