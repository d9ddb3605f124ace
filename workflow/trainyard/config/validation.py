"""Mappings read, laid over one another and made typed config objects, with one clear message for any mistake in them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from trainyard.config.base import ConfigError, nearest

Model = TypeVar("Model", bound=BaseModel)


def merge(low: dict, high: dict) -> dict:
    """`high` over `low`: mappings key by key, everything else replaced."""
    out = dict(low)
    for key, value in high.items():
        out[key] = merge(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


def validate(kind: type[Model], data: dict, where: str) -> Model:
    """`data` as a `kind`; `where` begins the message. Raises ConfigError, naming the key, what is wrong, and a near name."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        path = [str(p) for p in first["loc"]]
        key = ".".join(path) or "(top)"
        if first["type"] == "extra_forbidden":
            message = f"unknown key '{path[-1]}'{nearest(path[-1], _keys_at(kind, first['loc'][:-1]))}"
        elif first["type"] == "missing":
            message = "is missing"
        else:
            message = first["msg"].removeprefix("Value error, ")
            if first["type"] != "value_error":
                message += f", found {first['input']!r}"
        more = error.error_count() - 1
        raise ConfigError(f"{where}: {key}: {message}" + (f" (and {more} more)" if more else "")) from None


def _keys_at(kind: Any, loc: tuple) -> list[str]:
    """Names of the fields that are allowed at a place below a config class."""
    current = kind
    for part in loc:
        current = current.model_fields[part].annotation if _is_model(current) else (get_args(current) or (None, None))[1]
        current = next((a for a in get_args(current) if _is_model(a)), current) if get_origin(current) is not dict else current
    return list(current.model_fields) if _is_model(current) else []


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def read_settings(text: str, needed: Iterable[str] = ()) -> dict[str, Any]:
    """JSON text, or @file with JSON in it. Raises ConfigError, also when a key that is `needed` is not there."""
    try:
        if text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        settings = json.loads(text)
    except OSError as error:
        raise ConfigError(f"--settings: cannot read {error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"--settings: not JSON: {error}") from None
    if not isinstance(settings, dict):
        raise ConfigError("--settings: expected a JSON object")
    if missing := sorted(set(needed) - settings.keys()):
        raise ConfigError(f"--settings: {', '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing")
    return settings
