"""Write the API reference, zia_core/docs/: `python -m tests.zia_core.api_reference`.

A module with `__all__` is public and has a page, with the names in `__all__`; `zia_core` itself is
the first. Everything is read from signatures and docstrings.
"""

import ast
import inspect
import re
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from tests.zia_core import docstrings
from tests.zia_core.signatures import parameters, signature

CORE = Path(__file__).parents[2] / "zia_core"
DOCS = CORE / "docs"
EXAMPLES = Path(__file__).parent / "examples"
NOTE = "<!-- Made from docstrings by `make docs`: edit those. -->\n"


class Name(NamedTuple):
    """A public function or class: its module, and where it is defined."""

    module: str
    name: str
    value: Any

    @property
    def home(self) -> str:
        return str(self.value.__module__)

    @property
    def source(self) -> str:
        return Path(sys.modules[self.home].__file__ or "").relative_to(CORE).as_posix()

    @property
    def node(self) -> ast.FunctionDef | ast.ClassDef:
        found = [n for n in tree(self.home).body if getattr(n, "name", None) == self.name]
        (node,) = found
        assert isinstance(node, ast.FunctionDef | ast.ClassDef)
        return node


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(Path(import_module(module).__file__ or "").read_text("utf-8"))


@cache
def public_modules() -> list[str]:
    """Modules with `__all__`, `zia_core` first."""
    found = ["zia_core"]
    for path in sorted(CORE.rglob("*.py")):
        parts = path.relative_to(CORE.parent).with_suffix("").parts
        module = ".".join(parts).removesuffix(".__init__")
        body = ast.parse(path.read_text("utf-8")).body
        targets = [node.targets[0] for node in body if isinstance(node, ast.Assign)]
        if module not in found and any(getattr(t, "id", "") == "__all__" for t in targets):
            found.append(module)
    return found


def public_names(module: str) -> list[Name]:
    """The names in `__all__`, without those that are `zia_core`'s too."""
    found, core = import_module(module), import_module("zia_core").__all__
    listed = [name for name in found.__all__ if found.__name__ == "zia_core" or name not in core]
    return [Name(module, name, getattr(found, name)) for name in listed]


def pages() -> dict[str, str]:
    """Each file of the reference and its contents."""
    modules = public_modules()
    return {"README.md": index(modules)} | {file_of(each): page(each) for each in modules}


def file_of(module: str) -> str:
    return f"{module.removeprefix('zia_core.')}.md"


def index(modules: list[str]) -> str:
    lines = [
        NOTE + "# The API of `zia_core`", "",
        "What is here is public; everything else in the package may change without notice. "
        "How to use it is in the [guide](../README.md), and the models that it fits are in "
        "[a table](models.md).", "",
    ]  # fmt: skip
    for module in modules:
        lines += [f"## [`{module}`]({file_of(module)})", "", summary_of(module), ""]
        lines += [
            f"- [`{each.name}`]({file_of(module)}#{anchor(each.name)}): {summary_of(each)}"
            for each in public_names(module)
        ]
        lines.append("")
    return "\n".join(lines)


def page(module: str) -> str:
    """The page of a module: its docstring, then each name."""
    links = Links(module)
    parts = [f"{NOTE}# `{module}`\n", docstrings.markdown(import_module(module).__doc__, links)]
    if (example := EXAMPLES / file_of(module).replace(".md", ".py")).exists():
        parts.append(f"```python\n{example.read_text('utf-8')}```\n")
    for each in public_names(module):
        parts += [f"## `{each.name}`\n", entry(each, each.node, each.value, links)]
        for method, node in methods(each):
            parts += [f"### `{each.name}.{node.name}`\n", entry(each, node, method, links)]
        parts.append(f"Source: [`{each.source}`](../{each.source})\n")
    return "\n".join(parts)


def entry(name: Name, node: ast.FunctionDef | ast.ClassDef, value: Any, links: "Links") -> str:
    own = links.without({each.arg for each in parameters(node)} | {name.name})
    text = docstrings.markdown(inspect.getdoc(value), own)
    return f"```python\n{signature(name.home, node)}\n```\n\n{text}"


def methods(name: Name) -> list[tuple[Any, ast.FunctionDef]]:
    """The public methods that a class does not have from a class above it."""
    if not isinstance(name.node, ast.ClassDef):
        return []
    above = {attribute for base in name.value.__mro__[1:] for attribute in vars(base)}
    return [
        (inspect.getattr_static(name.value, node.name), node)
        for node in name.node.body
        if isinstance(node, ast.FunctionDef)
        and node.name not in above
        and (not node.name.startswith("_") or node.name == "__len__")
    ]


def anchor(name: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w-]", "", name.lower())


def summary_of(what: str | Name) -> str:
    value = import_module(what) if isinstance(what, str) else what.value
    return summary(inspect.getdoc(value) or "")


def summary(docstring: str) -> str:
    """The first sentence."""
    first = " ".join(docstrings.prose(docstring.split("\n\n")[0]).split())
    return re.split(r"(?<=\.) ", first)[0]


class Links:
    """Turns code that names something public into a link to it."""

    def __init__(self, module: str, hidden: frozenset[str] = frozenset()) -> None:
        self.module, self.hidden = module, hidden
        self.targets: dict[str, str] = {each: file_of(each) for each in public_modules()}
        for each in [*public_modules(), module]:
            for name in public_names(each):
                target = f"{file_of(each) if each != module else ''}#{anchor(name.name)}"
                self.targets[f"{each}.{name.name}"] = target
                if each in ("zia_core", module):
                    self.targets[name.name] = target

    def without(self, names: set[str]) -> "Links":
        return Links(self.module, frozenset(names))

    def __call__(self, code: str) -> str:
        name = code.removesuffix("()")
        known = name in self.targets and name not in self.hidden and name != self.module
        return f"[`{code}`]({self.targets[name]})" if known else f"`{code}`"


if __name__ == "__main__":
    DOCS.mkdir(exist_ok=True)
    for file, contents in pages().items():
        (DOCS / file).write_text(contents, "utf-8")
