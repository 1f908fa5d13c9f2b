"""Read many small JPEG files from one npz, such as `cifar10_{train,test}_jpeg.npz`."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zia_core.errors import ZiaError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class JpegArrays:
    """Concatenated JPEG files and their labels."""

    jpeg: "NDArray[np.uint8]"
    offsets: "NDArray[np.int64]"  # (N + 1,)
    labels: "NDArray[np.uint8]"  # (N,)
    order: "NDArray[np.int32]"  # the indices of the images, by a hash of their names

    def file(self, index: int) -> bytes:
        """The JPEG file of one image."""
        return self.jpeg[self.offsets[index] : self.offsets[index + 1]].tobytes()


def read_jpeg_arrays(path: Path) -> JpegArrays:
    """Read an npz of JPEG files; ZiaError if it is missing, damaged or lacks an array."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = ("jpeg", "offsets", "labels", "order_sha256")
            read = JpegArrays(*(arrays[name] for name in names))
    except (OSError, ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise ZiaError(f"cannot read the images in {path} ({error}): fetch it again") from error
    whole = len(read.offsets) == len(read.labels) + 1 and read.offsets[-1] == len(read.jpeg)
    if not whole or sorted(read.order.tolist()) != list(range(len(read.labels))):
        raise ZiaError(f"the arrays in {path} do not fit one another: fetch it again")
    return read
