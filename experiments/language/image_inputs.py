"""The image side of a run: encoder and features, or nothing for a method that sees no images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.images import encoders
from experiments.images.feature_cache import FeatureTable, image_features
from experiments.language.methods import sees_images
from experiments.language.settings import ImageTextSettings


@dataclass(frozen=True)
class Seen:
    """Features of image files, and how examples refer to them."""

    features: FeatureTable | None
    width: int | None  # channels of the encoder; None without images
    weights: dict[str, str]  # SHA-256 of the encoder's files by `encoder/<name>`
    rows: dict[Path, int]

    def row(self, image: Path | None) -> int | None:
        """The row of an image in the features; None for no image or no features."""
        return None if image is None else self.rows.get(image)


def seen(
    method: str, settings: ImageTextSettings, images: Sequence[Path], device: str | None = None
) -> Seen:
    """Load the encoder and the features of all these files, each of which must be there.

    The encoder runs on `device`, by default on that of the settings.

    On a CPU with the threads of the settings, which torch goes on with: how many there are changes
    how sums are rounded. ZiaError as of `encoders.load` and `image_features`.
    """
    import torch

    if not sees_images(method):
        return Seen(None, None, {}, {})
    device = device or settings.encoder_device
    if device == "cpu":
        torch.set_num_threads(settings.threads)
    encoder = encoders.load(settings.encoder)
    files = list(dict.fromkeys(images))
    queries = settings.projection == "queries"
    table = image_features(
        encoder,
        files,
        "tokens" if queries else "global",
        settings.depths[-1:] if queries else settings.depths,
        device=device,
    )
    rows = {path: row for row, path in enumerate(files)}
    # Its file may have the name of the language model's.
    weights = {f"encoder/{name}": digest for name, digest in encoder.weights.items()}
    return Seen(table, encoder.width, weights, rows)
