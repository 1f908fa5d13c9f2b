"""A stored run as a record of what tables, figures and claims read of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan
from typing import Any


@dataclass(frozen=True)
class Run:
    """One run: its identity, its state, and the fields of its result that were asked for."""

    experiment: str
    version: int
    task: str
    method: str
    backbone: str
    data: str
    profile: str
    seed: int
    settings: dict[str, Any]
    state: str
    reason: str
    hardware: str
    folder: str
    result: dict[str, float | None]  # empty unless the run is done
    # Hashes of its data and weights: seeds are comparable only where these agree.
    inputs: Mapping[str, str] = field(default_factory=dict)
    line: str = ""  # its line in a table whose lines are not methods
    timed: bool = True  # False if it shared its cores

    @property
    def heading(self) -> str:
        """The name of its row in a table."""
        return self.line or self.method

    def value(self, field: str) -> float:
        """Return a field of the result; NaN where there is none."""
        value = self.result.get(field)
        return nan if value is None else value
