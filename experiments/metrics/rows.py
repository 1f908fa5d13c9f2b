"""What the `evaluate` modules share: they take rows as official files and data sets have them.

`evaluate` itself stores exactly the fields that a module declares: a row with others is a KeyError
there, a null where the first row has one a wrong type. So each module says of a row what it reads,
and only that is stored. (It takes a script's first class for the metric: import this module there,
not its class.)
"""

from collections.abc import Iterable
from typing import Any

import evaluate

from zia_core.errors import ZiaError


class RowMetric(evaluate.Metric):
    """A metric whose rows may have more fields than it reads."""

    def prediction(self, row: Any, where: str) -> Any:
        """Return the declared fields of a prediction; a ZiaError begins with `where`."""
        raise NotImplementedError

    def reference(self, row: Any, where: str) -> Any:
        """Return the declared fields of a reference; a ZiaError begins with `where`."""
        raise NotImplementedError

    def add(self, *, prediction: Any = None, reference: Any = None, **others: Any) -> None:
        """Take one row of each."""
        self.add_batch(predictions=[prediction], references=[reference], **others)

    def add_batch(
        self,
        *,
        predictions: Iterable[Any] | None = None,
        references: Iterable[Any] | None = None,
        **others: Any,
    ) -> None:
        """Take rows; ZiaError, naming the row, for one without what is read or of another type."""
        if predictions is None or references is None:
            raise ZiaError("a metric needs both: give predictions and references")
        given = [self.prediction(row, f"prediction {i}") for i, row in enumerate(predictions)]
        right = [self.reference(row, f"reference {i}") for i, row in enumerate(references)]
        if len(given) != len(right):
            raise ZiaError(
                f"{len(given):,} predictions for {len(right):,} references: give one for each"
            )
        super().add_batch(predictions=given, references=right, **others)
