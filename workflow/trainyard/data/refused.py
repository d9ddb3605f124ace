"""The word for input that is left out, with the reason."""


class Refused(ValueError):
    """A sample that cannot be used; the message says why, for quarantine.csv."""
