"""Imports go one way: no circles between modules, and a room imports only the rooms below it."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGES = ("zia_core", "experiments", "benchmarks")
EXPERIMENT = "an experiment"
FILES = {"io", "data", "metrics", "harness"}
MODELS = FILES | {"backbones", "training", "images", "language", "mini_world"}
# What each room may import, besides `zia_core`. Whatever is not listed is an experiment: it does
# not import another one, and nobody below `cli` knows it by name (`harness.registry` finds it).
MAY_IMPORT: dict[str, set[str]] = {
    "zia_core": set(),
    "io": set(),
    "data": {"io"},
    "metrics": {"io", "data"},
    "harness": {"io", "data"},
    "backbones": FILES,
    "training": FILES | {"backbones"},
    "images": FILES | {"backbones", "training"},
    "language": FILES | {"backbones", "training", "images"},
    "mini_world": FILES | {"backbones", "training", "images", "language"},
    EXPERIMENT: MODELS,
    "rehearsal": MODELS,
    "report": FILES,
    "dispatch": FILES | {"report"},
    "benchmarks": MODELS | {"report", "dispatch", "alpaca_llama"},
    "fetch": FILES,
    "cli": FILES | {"report", "dispatch", "benchmarks", "fetch", "rehearsal"},
}

Imports = Mapping[str, set[str]]


def test_no_module_imports_itself_through_others(repository: Path) -> None:
    imports = read_imports(repository)
    assert len(imports) > 250
    assert circle(imports) == []


def test_every_room_imports_only_what_it_may(repository: Path) -> None:
    assert list(wrong_arrows(read_imports(repository))) == []


def test_a_circle_is_found_also_in_functions_and_annotations(tmp_path: Path) -> None:
    _write(tmp_path, "io.one", "from experiments.io import two")
    _write(tmp_path, "io.two", "def late():\n    import experiments.io.three")
    annotation = "from experiments.io.one import x"
    _write(tmp_path, "io.three", f"if TYPE_CHECKING:\n    {annotation}")
    _write(tmp_path, "io.four", annotation)
    found = circle(read_imports(tmp_path))
    assert set(found) == {f"experiments.io.{name}" for name in ("one", "two", "three")}


def test_an_arrow_that_runs_the_wrong_way_is_found(tmp_path: Path) -> None:
    for name in ("io.one", "harness.one", "cats.one", "dogs.one", "cats.two"):
        _write(tmp_path, name, "")
    _write(tmp_path, "cats.right", "import experiments.harness.one\nimport experiments.cats.two")
    assert list(wrong_arrows(read_imports(tmp_path))) == []
    _write(tmp_path, "io.up", "from experiments.harness import one")
    _write(tmp_path, "harness.by_name", "from experiments.cats.one import x")
    _write(tmp_path, "cats.sideways", "from experiments import dogs\nimport experiments.dogs.one")
    assert list(wrong_arrows(read_imports(tmp_path))) == [
        "experiments.cats.sideways imports experiments.dogs",
        "experiments.cats.sideways imports experiments.dogs.one",
        "experiments.harness.by_name imports experiments.cats.one",
        "experiments.io.up imports experiments.harness.one",
    ]


def read_imports(root: Path) -> Imports:
    """The modules below `root` and, of these, the ones that each imports anywhere in its text."""
    paths = [path for package in PACKAGES for path in (root / package).rglob("*.py")]
    modules = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(paths)
    }
    return {name: set(_imported(path, modules)) - {name} for name, path in modules.items()}


def _imported(path: Path, modules: Iterable[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules else str(node.module) for name in names)


def circle(imports: Imports) -> list[str]:
    """The modules of a circle, if there is one."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def wrong_arrows(imports: Imports) -> Iterator[str]:
    """A sentence for each import from a room that the importing one may not use."""
    for importer in sorted(imports):
        own = room(importer)
        allowed = MAY_IMPORT.get(own, MAY_IMPORT[EXPERIMENT]) | {own, "zia_core"}
        if own == "zia_core":
            allowed = {own}
        for imported in sorted(imports[importer] & imports.keys()):
            if room(imported) not in allowed:
                yield f"{importer} imports {imported}"


def room(module: str) -> str:
    """`experiments.harness.plan` is in the room "harness", `zia_core.layer` in "zia_core"."""
    package, _, inner = module.partition(".")
    return inner.partition(".")[0] if package == "experiments" and inner else package


def _write(root: Path, name: str, text: str) -> None:
    path = root.joinpath("experiments", *name.split(".")).with_suffix(".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name("__init__.py").touch()
    path.write_text(text)
