"""The error for tables, and the reasons that other libraries give."""


class TableError(ValueError):
    """A table, its file or one of its columns is not valid; the message says what to do."""


def reason(error: BaseException) -> str:
    """Return the first line of an error's message, as part of a sentence."""
    reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(reason).splitlines()[0].rstrip(".:;, ")
