"""The image features of a run, or none for a method that sees no images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.images import encoders
from experiments.images.feature_cache import FeatureTable, image_features
from experiments.language.methods import sees_images
from experiments.language.settings import ImageTextSettings


@dataclass(frozen=True)
class RunImages:
    """Features of image files, and the row of each file in them."""

    features: FeatureTable | None = None
    width: int | None = None  # channels of the encoder; None without images
    weights: dict[str, str] | None = None  # SHA-256 of the encoder's files by `encoder/<name>`
    rows: dict[Path, int] | None = None

    def row(self, image: Path | None) -> int | None:
        """The row of an image in the features; None without an image or features."""
        return None if image is None or self.rows is None else self.rows.get(image)


def run_images(
    method: str, settings: ImageTextSettings, images: Sequence[Path], device: str | None = None
) -> RunImages:
    """Load the encoder and the features of the image files.

    The encoder runs on `device`, by default that of the settings. On a CPU it sets torch's threads
    to those of the settings, since their number changes how sums are rounded.

    Raises:
        ZiaError: as in `encoders.load` and `image_features`, say for a file that is missing.
    """
    import torch

    if not sees_images(method):
        return RunImages()
    device = device or settings.encoder_device
    if device == "cpu":
        torch.set_num_threads(settings.threads)
    encoder = encoders.load(settings.encoder)
    files = list(dict.fromkeys(images))
    queries = settings.projection == "queries"
    features = image_features(
        encoder,
        files,
        "tokens" if queries else "global",
        settings.depths[-1:] if queries else settings.depths,
        device=device,
    )
    # The language model's files may have the same names.
    weights = {f"encoder/{name}": digest for name, digest in encoder.weights.items()}
    return RunImages(features, encoder.width, weights, {file: i for i, file in enumerate(files)})
