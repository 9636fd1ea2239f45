"""Sphinx extension: docstrings of plain text, as this package has them, become pages.

autodoc takes a docstring for reStructuredText; ours hold |det|, *given and `code`, as mathematics
and Python write them. So marks are escaped. `code` is set as code, and linked where
book/api.md lists its module. Rows with a star, and columns of names with their meanings, become
lists. Under a class stand its fields, with the comments on them in the source: for configurations,
the keys of a file.
"""

import ast
import dataclasses
import inspect
import io
import json
import re
import sys
import textwrap
import tokenize
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from sphinx.application import Sphinx

from nvp.model.config import Family

# The modules that have a place in the book.
OVERVIEW = Path(__file__).parent.parent / "api.md"
MODULES = re.findall(r"^   (nvp\.\S+)$", OVERVIEW.read_text(), re.M)
ENTRY = re.compile(r"(\S+(?:, \S+)*) {2,}(\S.*)")


def reference(name: str, module: str) -> str | None:
    """The reference for `name` as written in a docstring of `module`, if it has a place."""
    if name in MODULES:
        return f":py:mod:`{name}`"
    where, _, last = name.rpartition(".")
    found = getattr(sys.modules.get(where or module), last, None)
    home = getattr(found, "__module__", None)
    if home in MODULES and callable(found) and found.__doc__:
        return f":py:obj:`{name} <{home}.{last}>`"
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
        elif any(ENTRY.fullmatch(row) for row in rows):
            result += definition_list(rows, module)
        elif indented:
            result += ["::", "", *("    " + row for row in rows)]
        else:
            result += inline("\n".join(rows), module).splitlines()
        result.append("")
    return result


def definition_list(rows: list[str], module: str) -> list[str]:
    """A column of names, and behind it their meanings, as a list."""
    gathered: list[list[str]] = []
    for row in rows:
        if match := ENTRY.fullmatch(row):
            gathered.append([match[1], match[2]])
        elif gathered:
            gathered[-1][1] += " " + row.strip()
        else:
            gathered.append(["", row])
    return [
        "* " + (f"``{name}``: " if name else "") + inline(text, module) for name, text in gathered
    ]


def declared(cls: type) -> dict[str, tuple[str, str]]:
    """Annotated names in the body of a class, and members of an enum: with the comment on each.

    A comment stands behind the field, or in full sentences on the lines above it.
    """
    source = textwrap.dedent(inspect.getsource(cls))
    rows = source.splitlines()
    said = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    (body,) = (node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    for node in body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name)):
                pass
            case ast.Assign(targets=[ast.Name(id=name)]) if issubclass(cls, Enum):
                pass
            case _:
                continue
        above: list[str] = []
        line = node.lineno - 1
        while line in said and rows[line - 1].lstrip().startswith("#"):
            above.insert(0, said[line])
            line -= 1
        text = " ".join(above) if above and above[-1].endswith(".") else ""
        declaration = ast.unparse(node).partition(" = field(")[0]  # how, not what
        found[name] = (declaration, said.get(node.end_lineno or 0, text))
    return found


def fields(cls: type) -> list[str]:
    """A list of a class's fields: all of what it is made of, else those with a comment."""
    said: dict[str, tuple[str, str]] = {}
    for base in reversed(cls.__mro__) if is_data(cls) else [cls]:  # models share the protocol's
        if base.__module__.startswith("nvp."):
            said |= declared(base)
    if issubclass(cls, BaseModel):
        said = {
            name: (said[name][0].partition(" = ")[0] + default_of(cls, name), said[name][1])
            for name in cls.model_fields
        }
    elif not is_data(cls):
        said = {name: both for name, both in said.items() if both[1]}
    return [
        f"* ``{declaration}``" + (f": {inline(comment, cls.__module__)}" if comment else "")
        for name, (declaration, comment) in said.items()
        if not name.startswith("_")
    ]


def is_data(cls: type) -> bool:
    """Whether the fields of a class are what it is made of."""
    kinds = BaseModel, Enum
    return issubclass(cls, kinds) or dataclasses.is_dataclass(cls) or hasattr(cls, "_fields")


def default_of(cls: type[BaseModel], name: str) -> str:
    """What stands behind the name of a field where a file leaves it out, in a file's words."""
    field = cls.model_fields[name]
    if field.is_required() or (name == "family" and inspect.isabstract(cls)):
        return ""
    value = field.get_default(call_default_factory=True)
    if issubclass(cls, Family) and name == "family":
        value = cls.name()
    if isinstance(value, BaseModel):  # a section, which has its own defaults
        return " = {}"
    plain = value.value if isinstance(value, Enum) else value
    return f" = {plain if isinstance(plain, str) and plain else json.dumps(plain)}"


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
    """Leave out the fields of a named tuple, which stand under it."""
    return True if str(obj.__doc__).startswith("Alias for field number") else None


def setup(app: Sphinx) -> None:
    """Register the hooks."""
    app.connect("autodoc-skip-member", skip_member)
    app.connect("autodoc-process-docstring", process_docstring)
    app.connect("autodoc-process-signature", process_signature)
