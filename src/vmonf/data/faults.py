"""The error for tables."""


class TableError(ValueError):
    """A table, its file or one of its columns is not valid; the message says what to do."""
