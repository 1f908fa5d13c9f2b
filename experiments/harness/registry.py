"""Find the experiments, so that nothing has to know them by name."""

import importlib
import importlib.util
import os
import pkgutil
from collections.abc import Collection, Iterable, Iterator
from functools import cache

from experiments.harness.experiment import Experiment
from zia_core.errors import ZiaError

OUTSIDE = "ZIA_EXPERIMENTS"  # further packages of experiments


class InvalidChoiceError(ZiaError):
    """A choice on the command line is not valid (exit code 2)."""


@cache
def experiments(*packages: str) -> dict[str, Experiment]:
    """All experiments by name, sorted: `EXPERIMENT` of each module `<package>.<name>.experiment`.

    The packages are `experiments` and those in `$ZIA_EXPERIMENTS`, separated by commas. Nested
    folders are joined: `pretrain.llama` is `pretrain_llama`.

    Raises ZiaError if a module defines no experiment, or one whose name is not its folder's or is
    taken.
    """
    found: dict[str, Experiment] = {}
    for package in packages or ("experiments", *_packages_outside()):
        for experiment in _experiments_of(package):
            if experiment.name in found:
                raise ZiaError(f"there are two experiments {experiment.name}, one in {package}")
            found[experiment.name] = experiment
    return dict(sorted(found.items()))


def _packages_outside() -> list[str]:
    return [name for name in os.environ.get(OUTSIDE, "").replace(" ", "").split(",") if name]


def _experiments_of(package: str) -> Iterator[Experiment]:
    try:
        folders = importlib.import_module(package).__path__
    except (ModuleNotFoundError, AttributeError, TypeError, ValueError) as error:
        raise ZiaError(
            f"${OUTSIDE} names {package!r:.60}, which is not a package: {error}"
        ) from error
    for name, module in _experiment_modules(package, folders):
        experiment = getattr(importlib.import_module(module), "EXPERIMENT", None)
        if not isinstance(experiment, Experiment) or experiment.name != name:
            raise ZiaError(f"{module} must define EXPERIMENT, an Experiment whose name is {name!r}")
        yield experiment


def _experiment_modules(
    package: str, folders: Iterable[str], prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """Name and module of each experiment: `a` in `<package>.a`, `a_b` in `<package>.a.b`."""
    for folder in pkgutil.iter_modules(folders):
        if not folder.ispkg:
            continue
        inner = f"{package}.{folder.name}"
        module = importlib.util.find_spec(f"{inner}.experiment")
        if module is None and not prefix:
            found = importlib.util.find_spec(inner)
            inside = found.submodule_search_locations if found else None
            yield from _experiment_modules(inner, inside or (), f"{folder.name}_")
        elif module is not None and module.name != Experiment.__module__:  # defines the type
            yield prefix + folder.name, module.name


def get(name: str) -> Experiment:
    """Return an experiment by name; InvalidChoiceError lists the valid names."""
    known = experiments()
    check_choice("experiment", name, known)
    return known[name]


def check_choice(kind: str, value: str, valid: Collection[str], of: str = "") -> None:
    """Raise InvalidChoiceError, which lists the valid choices, unless `value` is one of them."""
    if value not in valid:
        owner = f" of {of}" if of else ""
        raise InvalidChoiceError(
            f"there is no {kind} {value!r}{owner}; choose from: {', '.join(valid) or 'none'}"
        )
