"""Finds the experiments, so that the harness knows none of them by name."""

import importlib
import importlib.util
import os
import pkgutil
from collections.abc import Collection, Iterator
from functools import cache

from experiments.harness.experiment import Experiment
from zia_core.errors import ZiaError

OUTSIDE = "ZIA_EXPERIMENTS"  # packages of experiments besides this project's own


class InvalidChoiceError(ZiaError):
    """Something typed on the command line is not one of the valid choices (exit code 2)."""


@cache
def experiments(*packages: str) -> dict[str, Experiment]:
    """Every `EXPERIMENT` of a module `<package>.<name>.experiment`, by name, in alphabetic order.

    The packages are `experiments` and those named in `$ZIA_EXPERIMENTS`, separated by commas.

    Raises ZiaError if such a module does not define one, or if its name is not its folder's or is
    that of another one.
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
    except (ModuleNotFoundError, AttributeError, ValueError) as error:
        raise ZiaError(f"${OUTSIDE} names {package!r:.60}, which is no package: {error}") from error
    for module in pkgutil.iter_modules(folders):
        name = f"{package}.{module.name}.experiment"
        if not module.ispkg or importlib.util.find_spec(name) is None:
            continue
        if name == Experiment.__module__:  # that of this package, which defines the type
            continue
        experiment = getattr(importlib.import_module(name), "EXPERIMENT", None)
        if not isinstance(experiment, Experiment) or experiment.name != module.name:
            raise ZiaError(
                f"{name} must define EXPERIMENT, an Experiment whose name is {module.name!r}"
            )
        yield experiment


def get(name: str) -> Experiment:
    """The experiment of that name; InvalidChoiceError lists the valid names for any other."""
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
