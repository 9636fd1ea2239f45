"""Sphinx extension: docstrings of plain text, as this package has them, become pages.

autodoc takes a docstring for reStructuredText; ours hold |det|, *given and `code`, as mathematics
and Python write them. So marks are escaped. `code` is set as code, and linked where
book/api.md lists its module. Rows with a star become lists. Under a class stand the fields that it
declares itself, as in the source; its bases, which are linked, have the others.
"""

import ast
import dataclasses
import inspect
import itertools
import re
import sys
import textwrap
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from sphinx.application import Sphinx

# The modules that have a place in the book.
OVERVIEW = Path(__file__).parent.parent / "api.md"
MODULES = re.findall(r"^   (nvp\.\S+)$", OVERVIEW.read_text(), re.M)


def reference(name: str, module: str) -> str | None:
    """The reference for `name` as written in a docstring of `module`, if it has a place."""
    if name in MODULES:
        return f":py:mod:`{name}`"
    where, _, last = name.rpartition(".")
    holder = sys.modules.get(where or module) or getattr(sys.modules.get(module), where, None)
    found = getattr(holder, last, None)
    home = getattr(found, "__module__", None)
    if home in MODULES and callable(found) and found.__doc__:
        return f":py:obj:`{name} <{home}.{found.__qualname__}>`"
    return None


def inline(text: str, module: str) -> str:
    """Escape what reStructuredText would read as marks; `code` stays code, or becomes a link."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        raise ValueError(f"a docstring of {module} has an odd number of backticks: {text!r}")
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = reference(part, module) or f"``{part}``"
        else:
            escaped = re.sub(r"([\\*|])", r"\\\1", part.replace("->", "→"))
            parts[i] = re.sub(r"(\w)_(?!\w)", r"\1\\_", escaped)
            if i and part[:1].isalnum():  # `Record`s
                parts[i] = "\\ " + parts[i]
    return "".join(parts)


def restructured(lines: list[str], module: str) -> list[str]:
    """The lines of a plain docstring in reStructuredText, paragraph by paragraph."""
    result = []
    for block in "\n".join(lines).strip("\n").split("\n\n"):
        indented = block.startswith("  ")
        rows = textwrap.dedent(block).splitlines()
        if rows and rows[0].startswith(">>>"):
            result += rows
        elif rows and rows[0].startswith("* "):
            items = "\n".join(rows).removeprefix("* ").split("\n* ")
            result += ["* " + inline(" ".join(item.split()), module) for item in items]
        elif indented:
            result += ["::", "", *("    " + row for row in rows)]
        else:
            result += inline("\n".join(rows), module).splitlines()
        result.append("")
    return result


def fields(cls: type) -> list[str]:
    """The fields of a class, above its methods, as the source declares them."""
    rows = textwrap.dedent(inspect.getsource(cls)).splitlines()
    (body,) = (n.body for n in ast.parse("\n".join(rows)).body if isinstance(n, ast.ClassDef))
    above = list(itertools.takewhile(lambda node: not isinstance(node, ast.FunctionDef), body))
    named = ast.Assign if issubclass(cls, Enum) else ast.AnnAssign
    if not any(isinstance(node, named) for node in above):
        return []
    shown = rows[above[0].end_lineno or 0 : above[-1].end_lineno]
    return [".. code-block:: python", "    :class: fields", "", *shown]


def is_data(cls: type) -> bool:
    """Whether the fields of a class are what it is made of."""
    kinds = BaseModel, Enum
    return issubclass(cls, kinds) or dataclasses.is_dataclass(cls) or hasattr(cls, "_fields")


def process_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Rewrite the docstring of one object in place."""
    module = name if what == "module" else getattr(obj, "__module__", None) or ""
    if what in ("method", "attribute", "property"):
        module = name.rsplit(".", 2)[0]
    text = restructured(lines, module)
    if what == "class" and inspect.isclass(obj) and (found := fields(obj)):
        text += [*found, ""]
    lines[:] = text


def process_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str, returns: str
) -> tuple[str, str] | None:
    """Leave out signatures that say nothing, and those of classes whose fields are listed."""
    listed = inspect.isclass(obj) and is_data(obj)
    empty = what == "exception" or str(signature).startswith("(*args")
    return ("", "") if listed or empty else None


def skip_member(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out a function's second name, and the fields of a named tuple, which stand under it."""
    second = inspect.isfunction(obj) and obj.__name__ != name.rpartition(".")[2]
    return True if second or str(obj.__doc__).startswith("Alias for field number") else None


def setup(app: Sphinx) -> None:
    """Register the hooks."""
    app.connect("autodoc-skip-member", skip_member)
    app.connect("autodoc-process-docstring", process_docstring)
    app.connect("autodoc-process-signature", process_signature)
