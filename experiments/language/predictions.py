"""Select the predictions of a finished run."""

from collections.abc import Iterable, Sequence
from typing import Any

from zia_core.errors import ZiaError


def of_set(
    predictions: Iterable[dict[str, Any]], name: str, ids: Sequence[Any]
) -> dict[Any, dict[str, Any]]:
    """The predictions of one `set` by id, in their order.

    ZiaError unless there is exactly one for each of `ids`.
    """
    chosen = [prediction for prediction in predictions if prediction.get("set") == name]
    found = {prediction.get("id"): prediction for prediction in chosen}
    if len(chosen) != len(ids) or found.keys() != set(ids):
        raise ZiaError(
            f"the predictions of the set {name!r} are not one for each of the {len(ids)} records "
            "of this run: do the run again"
        )
    return found
