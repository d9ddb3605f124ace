"""config/README.md and config/schema.json, made from the config classes so that they cannot disagree with them."""

import json
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from trainyard.config.architectures import ARCHITECTURES
from trainyard.config.dataset import Dataset, ValueRule
from trainyard.config.features import FEATURES
from trainyard.config.machines import Machine, Machines
from trainyard.config.merging import Acceptance, Merge
from trainyard.config.schema import Base, Checkpoint, Discover, Model, Promote, Settings, Suite

INTRO = """# Configuration
This page and `schema.json` are made from the code by `make docs`; a test fails when they differ from it.

- `config.yaml` says what runs; every key of it is in *Settings*.
- `suites/<name>.yaml` is a suite: its datasets and models, then what each scale changes (`scales: demo: …, full: …`).
- Your own data or settings go into a small file of your own, given with `--configfile`: keys of *Settings*, and under a suite's
  name whatever you want to change of it. `examples/` has some. Single keys can be given as
  `--config epochs=5 only=als,alzheimers`.

What is stronger: `--config`, then your file, then the suite's scale, then the suite, then the defaults below.
"""

MACHINES = """## Machines
`machines.yaml`: what `make plan` divides the runs over. A machine starts from the values of its `kind`; its own go over them.
Runs are named by patterns on their suite, model or run (`kmidi`, `melody_*`, `aimedres/als-fold1`).
"""

PARTS: list[tuple[str, str, type[BaseModel]]] = [
    ("Settings", "Top level of `config.yaml` and of your own file.", Settings),
    ("Suite", "A file in `suites/`, or the part of your file under the suite's name.", Suite),
    ("Dataset", "`datasets.<name>`", Dataset),
    ("Label and group rules", "`datasets.<name>.label` and `.group`", ValueRule),
    ("Model", "`models.<name>`", Model),
    ("Checkpoints", "`models.<name>.checkpoint`", Checkpoint),
    ("Base model", "`models.<name>.base`, for LoRA without a `base_model`", Base),
    ("Merge", "`models.<name>.merge`, for LoRA on shards", Merge),
    ("Acceptance", "`models.<name>.merge.acceptance`", Acceptance),
    ("Found scripts", "`discover`", Discover),
    ("Promotion", "`promote`", Promote),
]


def readme() -> str:
    """The text of config/README.md."""
    lines = [INTRO]
    for title, where, kind in PARTS:
        lines += [f"## {title}", where, "", *_table(kind), ""]
    lines += ["## Features", "`datasets.<name>.features`, by format.", ""]
    for name, kind in FEATURES.items():
        lines += [f"### {name}", _sentence(kind), "", *_table(kind), ""]
    lines += ["## Options of the architectures", "`models.<name>.options`, by architecture.", ""]
    seen: dict[type, list[str]] = {}
    for name, spec in ARCHITECTURES.items():
        seen.setdefault(spec.options, []).append(name)
    for kind, names in seen.items():
        lines += [f"### {', '.join(names)}", *_table(kind), ""]
    lines += [MACHINES, *_table(Machines), "", "### A machine", "`machines.<name>`, and a kind.", "", *_table(Machine), ""]
    return "\n".join(lines).rstrip() + "\n"


def schema() -> str:
    """The text of config/schema.json: of config.yaml, with suites under their names."""
    whole = Settings.model_json_schema()
    suite = Suite.model_json_schema()
    whole["$defs"] = {**whole.get("$defs", {}), **suite.pop("$defs", {}), "Suite": suite}
    whole["additionalProperties"] = {"$ref": "#/$defs/Suite"}
    whole["$defs"]["features"] = {name: kind.model_json_schema() for name, kind in FEATURES.items()}
    whole["$defs"]["options"] = {name: spec.options.model_json_schema() for name, spec in ARCHITECTURES.items()}
    return json.dumps(whole, indent=1) + "\n"


def _table(kind: type[BaseModel]) -> list[str]:
    rows = ["| key | type | default | |", "|---|---|---|---|"]
    for name, field in kind.model_fields.items():
        limits = _limits(field.metadata)
        text = f"{field.description} ({limits})" if limits else field.description
        rows.append(f"| `{name}` | {_words(field.annotation)} | {_default(field)} | {text} |")
    return rows


def _words(annotation: Any) -> str:
    """A type as the person who writes YAML thinks of it."""
    plain = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "mapping", type(None): ""}
    if annotation in plain:
        return plain[annotation]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin is tuple:
        return f"list of {_words(inner[0])}"
    if origin is dict:
        return "mapping"
    if inner:
        return next(_words(part) for part in inner if part is not type(None))
    return "keys below"


def _limits(metadata: list[Any]) -> str:
    words = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    return ", ".join(f"{sign} {getattr(m, key)}" for m in metadata for key, sign in words.items() if hasattr(m, key))


def _default(field: Any) -> str:
    if field.default is PydanticUndefined:
        return "needed"
    value = field.default
    if isinstance(value, BaseModel):
        return "see below"
    if value is None:
        return "none"
    return f"`{json.dumps(value, ensure_ascii=False)}`".replace("|", "\\|")


def _sentence(kind: type[BaseModel]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]
