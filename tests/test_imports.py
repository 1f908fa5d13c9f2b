"""Every module imports, in an interpreter that has imported nothing else before it."""

import subprocess
import sys
from pathlib import Path

PACKAGES = ("zia_core", "experiments", "benchmarks")
# A module that needs another one to be imported first would pass in a shared interpreter by luck,
# so each is imported with the project's own modules forgotten; the libraries are kept, for speed.
PROGRAM = """
import importlib, sys
for name in sys.argv[1:]:
    for loaded in [m for m in sys.modules if m.split(".")[0] in {packages}]:
        del sys.modules[loaded]
    importlib.import_module(name)
print(len(sys.argv) - 1)
"""


def test_every_module_imports(repository: Path) -> None:
    modules = sorted(
        ".".join(path.relative_to(repository).with_suffix("").parts).removesuffix(".__init__")
        for package in PACKAGES
        for path in (repository / package).rglob("*.py")
    )
    # Registering twice is refused by `evaluate` for good reason: its modules are loaded by path.
    modules = [name for name in modules if not name.startswith("experiments.metrics.")]
    program = PROGRAM.format(packages=set(PACKAGES))
    done = subprocess.run(
        [sys.executable, "-c", program, *modules],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(modules) > 40


def test_the_public_names_resolve() -> None:
    """They are looked up on first use, so a wrong entry would show only then."""
    import zia_core

    assert {name for name in zia_core.__all__ if not callable(getattr(zia_core, name))} == set()
    assert zia_core.attach.__module__ == "zia_core.attachment"
