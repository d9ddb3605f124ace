"""What every page needs: templates that escape, a policy that lets nothing be fetched, names that may be broken."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


def plain_environment() -> Environment:
    return Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def soft(name: Any) -> Markup:
    """A name that may be broken after `_`, `-` and `/`, and nowhere else."""
    return Markup("<wbr>").join(re.split(r"(?<=[_/-])", str(name)))


def coded(words: Any) -> Markup:
    """Words in which what stands between backticks is code."""
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(str(words).split("`")))


def content_policy(style: str, script: str = "") -> str:
    """A content security policy: nothing from anywhere, and of inline code only ours, so that injected markup could do nothing."""
    digest = lambda text: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()  # noqa: E731
    ours = f"style-src 'sha256-{digest(style)}'" + (f"; script-src 'sha256-{digest(script)}'" if script else "")
    return f"default-src 'none'; img-src data:; {ours}; base-uri 'none'; form-action 'none'"
