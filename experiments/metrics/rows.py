"""Base class of the `evaluate` modules, which accept rows of official files and data sets.

`evaluate` stores exactly the declared fields: extra ones raise a KeyError, and a null in the first
row fixes a wrong type. So each module extracts what it reads from a row, and only that is stored.
(`evaluate` takes a script's first class for the metric: import this module there, not its class.)
"""

from collections.abc import Iterable
from typing import Any

import evaluate

from zia_core.errors import ZiaError


class RowMetric(evaluate.Metric):
    """A metric whose rows may have extra fields."""

    def prediction(self, row: Any, where: str) -> Any:
        """Return the declared fields of a prediction; a ZiaError starts with `where`."""
        raise NotImplementedError

    def reference(self, row: Any, where: str) -> Any:
        """Return the declared fields of a reference; a ZiaError starts with `where`."""
        raise NotImplementedError

    def add(self, *, prediction: Any = None, reference: Any = None, **others: Any) -> None:
        """Add a prediction and its reference."""
        self.add_batch(predictions=[prediction], references=[reference], **others)

    def add_batch(
        self,
        *,
        predictions: Iterable[Any] | None = None,
        references: Iterable[Any] | None = None,
        **others: Any,
    ) -> None:
        """Add rows; ZiaError, naming the row, for a missing field or a wrong type."""
        if predictions is None or references is None:
            raise ZiaError("a metric needs both: give predictions and references")
        given = [self.prediction(row, f"prediction {i}") for i, row in enumerate(predictions)]
        right = [self.reference(row, f"reference {i}") for i, row in enumerate(references)]
        if len(given) != len(right):
            raise ZiaError(
                f"{len(given):,} predictions for {len(right):,} references: give one for each"
            )
        super().add_batch(predictions=given, references=right, **others)
