"""The control without a backbone."""

from torch import Tensor, nn


class PixelProbe(nn.Module):
    """A linear classifier of preprocessed pixels, which a backbone's features must beat.

    Its `head` is found like timm's, so it counts as the task head.
    """

    def __init__(self, resolution: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3 * resolution**2, classes)

    def get_classifier(self) -> nn.Module:
        """The only layer."""
        return self.head

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """(B, 3, R, R) -> (B, classes)."""
        return self.head(images_BCHW.flatten(1))
