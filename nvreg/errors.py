"""The one exception that means "the user can mend this"."""


class UserError(Exception):
    """A mistake in what the user gave: input, settings, files or environment.

    The message is one line that says what was expected, what was got and how to mend it. The
    command line prints it without a traceback and exits with code 2.
    """
