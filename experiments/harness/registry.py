"""Finds the experiments, so that the harness knows none of them by name."""

import importlib
import importlib.util
import pkgutil
from collections.abc import Collection
from functools import cache

from experiments.harness.experiment import Experiment
from zia_core.errors import ZiaError


class InvalidChoiceError(ZiaError):
    """Something typed on the command line is not one of the valid choices (exit code 2)."""


@cache
def experiments(package: str = "experiments") -> dict[str, Experiment]:
    """Every `EXPERIMENT` of a module `<package>.<name>.experiment`, by name, in alphabetic order.

    Raises ZiaError if such a module does not define one, or if its name is not its folder's.
    """
    found: dict[str, Experiment] = {}
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
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
        found[experiment.name] = experiment
    return found


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
