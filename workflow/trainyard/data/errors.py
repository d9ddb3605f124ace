"""The word for data that stop a command: what is wrong, where, and what to do."""


class DataError(ValueError):
    """A data set, not one sample, that cannot be used; the message is for the person who runs the command."""
