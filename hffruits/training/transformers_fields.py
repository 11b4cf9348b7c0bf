"""The fields of transformers' `TrainingArguments`, read from its source without importing it.

The import takes seconds, and a mistyped flag or `--help` needn't wait for it. Only literals,
annotations and enumerations are understood: what else decides a default or a choice is left out,
and the import, which comes before anything is done with a command line, has the last word.
"""

import ast
import dataclasses
from collections.abc import Mapping
from enum import Enum
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from hffruits.data.parser import DataParser

_OF_ANOTHER_SHAPE = (OSError, SyntaxError, AttributeError, TypeError, ValueError)
_BUILTINS = {kind.__name__: kind for kind in (bool, int, float, str, list, dict, tuple)}


def read_training_arguments() -> type | None:
    """A dataclass with the same fields; None where the source is not as it has been so far."""
    spec = find_spec("transformers")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).with_name("training_args.py")
    try:
        module = _parse(file)
        found = _class_of(module, "TrainingArguments")
        if found is None or found.bases:
            return None
        names = _Names(module, file.parent)
        fields = [_field(node, names) for node in found.body if isinstance(node, ast.AnnAssign)]
        made = dataclasses.make_dataclass("TrainingArgumentsFields", fields, kw_only=True)
        DataParser((made,))  # takes each of these types
    except (*_OF_ANOTHER_SHAPE, RuntimeError):
        return None
    return made


def read_schedule_names() -> list[str] | None:
    """The values of transformers' `SchedulerType`, or None."""
    spec = find_spec("transformers")
    if spec is None or spec.origin is None:
        return None
    try:
        found = _class_of(_parse(Path(spec.origin).with_name("trainer_utils.py")), "SchedulerType")
        return [member.value for member in _enum(found)] if _is_enum(found) else None
    except _OF_ANOTHER_SHAPE:
        return None


@cache
def _parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _class_of(module: ast.Module, name: str) -> ast.ClassDef | None:
    found = (node for node in module.body if isinstance(node, ast.ClassDef) and node.name == name)
    return next(found, None)


def _field(node: ast.AnnAssign, names: "_Names") -> tuple[str, Any, Any]:
    """Name, type and `dataclasses.field` of a line of the class."""
    if not isinstance(node.target, ast.Name):
        raise ValueError(f"line {node.lineno}: not a field")
    kind = _Unread  # of an annotation in quotes, too
    if not isinstance(node.annotation, ast.Constant):
        code = compile(ast.Expression(node.annotation), "<annotation>", "eval")
        kind = eval(code, {"__builtins__": {}}, names)  # only these: no call
    call = node.value
    if not (isinstance(call, ast.Call) and getattr(call.func, "id", "") == "field"):
        return node.target.id, kind, dataclasses.field(default=_literal(call))
    given = {word.arg: word.value for word in call.keywords}
    options = {"metadata": _metadata(given.get("metadata"))}
    factory = given.get("default_factory")
    if isinstance(factory, ast.Name) and factory.id in _BUILTINS:
        options["default_factory"] = _BUILTINS[factory.id]
    else:
        options["default"] = _literal(given.get("default"))
    return node.target.id, kind, dataclasses.field(**options)


def _metadata(node: ast.expr | None) -> dict[str, Any]:
    """A field's help and options of argparse, those that are literals."""
    if not isinstance(node, ast.Dict):
        return {}
    pairs = {key.value: value for key, value in zip(node.keys, node.values, strict=True)
             if isinstance(key, ast.Constant)}  # fmt: skip
    read = {key: _literal(value) for key, value in pairs.items()}
    return {key: value for key, value in read.items() if value is not None}


def _literal(node: ast.expr | None) -> Any:
    """Its value, or None."""
    try:
        return None if node is None else ast.literal_eval(node)
    except ValueError:
        return None


class _AnyAnnotation(type):
    """Attributes of what isn't known here, its subscripts and unions aren't either."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

    def __getitem__(cls, key: object) -> type:
        return cls

    def __or__(cls, other: object) -> type:
        return cls

    __ror__ = __or__


class _Unread(metaclass=_AnyAnnotation):
    """Stands for a type that isn't known here: any text will do."""

    def __init__(self, text: str):
        self.text = text


class _Names(Mapping[str, Any]):
    """What a name in an annotation means: a builtin, or an enumeration of transformers."""

    def __init__(self, module: ast.Module, folder: Path):
        self.folder, self.files = folder, {}
        self.known = {**_BUILTINS, "Any": Any, "Literal": Literal, "None": None}
        for node in module.body:
            if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
                self.files |= {alias.name: node.module for alias in node.names}
        self.known |= {node.name: _enum(node) for node in module.body if _is_enum(node)}

    def __getitem__(self, name: str) -> Any:
        if name not in self.known:
            self.known[name] = self._imported(name)
        return self.known[name]

    def _imported(self, name: str) -> Any:
        file = self.folder / f"{self.files.get(name, name).replace('.', '/')}.py"
        found = _class_of(_parse(file), name) if name in self.files and file.is_file() else None
        return _enum(found) if _is_enum(found) else _Unread

    def __iter__(self):
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)


def _is_enum(node: ast.AST | None) -> bool:
    return isinstance(node, ast.ClassDef) and any(
        isinstance(base, ast.Name) and base.id.endswith("Enum") for base in node.bases
    )


def _enum(node: ast.ClassDef) -> type[Enum]:
    members = {
        line.targets[0].id: line.value.value
        for line in node.body
        if isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant)
    }
    return Enum(node.name, members)
