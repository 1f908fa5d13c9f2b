"""Write definitions as in the source, for readers who do not see the rest of the file."""

import ast
import re
from importlib import import_module
from typing import Literal, TypeVar, get_origin

WIDTH = 92  # of one line
SHOWN = ("contextmanager", "dataclass", "property", "classmethod")  # decorators
BUILT_IN = {"Exception", "Protocol"}


def signature(module: str, node: ast.FunctionDef | ast.ClassDef) -> str:
    """The definition, without its body; of a dataclass, the fields too."""
    lines = [
        f"@{text(module, d)}" for d in node.decorator_list if text(module, d).startswith(SHOWN)
    ]
    if isinstance(node, ast.ClassDef):
        bases = [text(module, base) for base in node.bases]
        shown = [base for base in bases if base in BUILT_IN or not is_private(module, base)]
        head = f"class {node.name}" + (f"({', '.join(shown)})" if shown else "")
        fields = [
            f"    {text(module, part)}" for part in node.body if isinstance(part, ast.AnnAssign)
        ]
        return "\n".join([*lines, head + (":" if fields else ""), *fields])
    given, returned = pieces(module, node), text(module, node.returns)
    line = f"def {node.name}({', '.join(given)}) -> {returned}"
    if len(line) > WIDTH:
        line = f"def {node.name}(\n" + "".join(f"    {part},\n" for part in given)
        line += f") -> {returned}"
    return "\n".join([*lines, line])


def pieces(module: str, node: ast.FunctionDef) -> list[str]:
    """The parameters as they are written, and the * before those given by name."""
    arguments = node.args
    ordered = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(ordered) - len(arguments.defaults)) + [*arguments.defaults]
    found = [piece(module, *pair) for pair in zip(ordered, defaults, strict=True)]
    if arguments.kwonlyargs:
        found.append("*")
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    found += [piece(module, *pair) for pair in named]
    return [*found, *([f"**{piece(module, arguments.kwarg, None)}"] if arguments.kwarg else [])]


def piece(module: str, argument: ast.arg, default: ast.expr | None) -> str:
    kind = f": {text(module, argument.annotation)}" if argument.annotation else ""
    equals = " = " if kind else "="
    return f"{argument.arg}{kind}" + (f"{equals}{text(module, default)}" if default else "")


def parameters(node: ast.FunctionDef | ast.ClassDef) -> list[ast.arg]:
    """All but `self`."""
    if isinstance(node, ast.ClassDef):
        return []
    given = node.args
    found = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    found += [each for each in (given.vararg, given.kwarg) if each]
    return [each for each in found if each.arg not in ("self", "cls")]


def text(module: str, node: ast.AST | None) -> str:
    """Source text, with our own names for types written out."""
    if node is None:
        return "None"
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    source = ast.unparse(node)
    for name in names:
        value = vars(import_module(module)).get(name)
        if isinstance(value, str):
            source = re.sub(rf"\b{name}\b", f'"{value}"', source)
        elif isinstance(value, TypeVar):
            source = re.sub(rf"\b{name}\b", f"nn.{value.__bound__.__name__}", source)
        elif get_origin(value) is Literal or type(value).__name__ == "_CallableGenericAlias":
            source = re.sub(rf"\b{name}\b", plain(repr(value)), source)
    return source if '"' in source else source.replace("'", '"')


def plain(source: str) -> str:
    """The text of a type without the modules of its names."""
    return re.sub(r"\b(?:\w+\.)+", "", source)


def is_private(module: str, base: str) -> bool:
    value = vars(import_module(module)).get(base)
    home = getattr(value, "__module__", "")
    return home.startswith("zia_core") and base not in import_module("zia_core").__all__
