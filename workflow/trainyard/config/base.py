"""What every config object is built on: frozen, strict about keys, and able to explain a mistake."""

from difflib import get_close_matches

from pydantic import BaseModel, ConfigDict


class ConfigError(ValueError):
    """A mistake in the configuration, in words for the person who made it."""


class Frozen(BaseModel):
    """A config object: immutable, unknown keys refused, every field described."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """`; did you mean 'x'?` for the closest of `known`, or the list of what is known."""
    close = get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(sorted(str(k) for k in known))}" if known else ""
