"""A fingerprint of code that ignores what does not run: comments, docstrings, formatting.

The parsed tree is walked in a canonical way rather than dumped: `ast.dump` prints other things on other Pythons.
Modules that a file imports from this project are followed, so an edit below a command is seen too. The config package
is left out: what it decides reaches a job as settings.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[2]  # the folder that holds the package
PACKAGE = "trainyard"
LEFT_OUT = ("trainyard.config",)
IGNORED_FIELDS = {"ctx", "kind", "type_comment", "type_ignores", "lineno", "col_offset", "end_lineno", "end_col_offset"}


def code_fingerprint(command: Path, modules: Iterable[str] = (), texts: Iterable[Path] = ()) -> str:
    """16 hex digits for a command and all it imports from the project, for `modules` it loads by name, and for `texts` it reads."""
    files = {Path(command).resolve()}
    for module in modules:
        files |= _files_of(module)
    seen: set[Path] = set()
    while todo := files - seen:
        for file in todo:
            seen.add(file)
            files |= _imported(file)
    digest = hashlib.sha256()
    for name, file in sorted((f.relative_to(LIBRARY).as_posix() if f.is_relative_to(LIBRARY) else f.name, f) for f in files):
        digest.update(f"{name}\0{_canonical_file(file)}\0".encode())
    for text in texts:
        digest.update(text.read_bytes())
    return digest.hexdigest()[:16]


def canonical_source(source: str) -> str:
    """A text that is equal for two sources exactly when they parse to the same code, docstrings aside."""
    return _walk(ast.parse(source))


@cache
def _canonical_file(path: Path) -> str:
    return hashlib.sha256(_walk(_tree(path)).encode()).hexdigest()


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _walk(node: object) -> str:
    if isinstance(node, ast.AST):
        fields = []
        for name in sorted(node._fields):
            value = getattr(node, name, None)
            if name in IGNORED_FIELDS or value is None or value == []:
                continue
            if name == "body" and isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                value = _without_docstring(value)
            elif name == "values" and isinstance(node, ast.JoinedStr):
                # Python 3.12 ends some format specifications with an empty text, others do not.
                value = [v for v in value if not (isinstance(v, ast.Constant) and v.value == "")]
            fields.append(f"{name}={_walk(value)}")
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return "[" + ",".join(_walk(n) for n in node) + "]"
    return f"{type(node).__name__}:{node!r}"


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return body[1:]
    return body


@cache
def _imported(path: Path) -> frozenset[Path]:
    names: set[str] = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    files: set[Path] = set()
    for name in names:
        if name.split(".")[0] == PACKAGE and not name.startswith(LEFT_OUT):
            files |= _files_of(name)
    return frozenset(files)


def _files_of(module: str) -> set[Path]:
    """The file of a module, if `module` names one (and not a function in one)."""
    base = LIBRARY.joinpath(*module.split("."))
    return {f for f in (base.with_suffix(".py"), base / "__init__.py") if f.is_file()}
