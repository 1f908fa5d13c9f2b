"""Compute the features of images once and keep them on disk.

A folder `<root>/<key>` is for one encoder, preprocessing and choice of features. It has shards,
safetensors files of up to 256 images each, which are found by the SHA-256 of the image files. A
shard is named after the hash of its bytes, which is checked whenever the folder is opened, and it
appears whole or not at all, so processes that compute the same images at once only waste work. One
shard at a time is in memory.

On disk an image takes 4 bytes per channel and depth for global features and 2 (float16) for all
tokens: 4 kB per depth, or 0.5 MB, for CLIP ViT-L/14.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from experiments.images.encoder import Encoder
from experiments.images.image_files import READING, read_rgb
from experiments.io.files import canonical_json, replacing, sha256_file, write_json_atomic
from zia_core.errors import ZiaError
from zia_core.strict_json import loads

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["global", "tokens"]
FORMAT = 2  # raised when the numbers can change
SHARD = 256  # images
# Every batch has this size; the last is filled up. Rounding depends on the shape of a matrix
# product, and features must not depend on which images are computed together.
BATCH = 32
WHAT = "what.json"


class FeatureTable:
    """The features of a list of images by their index, read from disk when they are used.

    Attributes:
        shape: of one image: (F,) for global features, depths side by side, (T, E) for tokens.
        fingerprint: of the images in order, the encoder and the choice of features; not of the
            machine, so that a run that is resumed elsewhere has the same data.
    """

    def __init__(self, places: list[tuple[Path, int]], fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self._places = places
        self._open: dict[Path, Any] = {}
        self.shape = tuple(self.rows([0]).shape[1:])

    def __len__(self) -> int:
        return len(self._places)

    def rows(self, indices: Sequence[int]) -> "Tensor":
        """The features of at least one image, (len(indices), *shape) float32."""
        import torch
        from safetensors import safe_open

        rows = []
        for index in indices:
            path, row = self._places[index]
            if path not in self._open:
                self._open[path] = safe_open(path, framework="pt")
            rows.append(self._open[path].get_slice("features")[row : row + 1])
        return torch.cat(rows).float()


def image_features(
    encoder: Encoder,
    images: Sequence[Path],
    kind: Kind,
    depths: Sequence[int] = (-1,),
    *,
    root: Path | None = None,
    device: str = "cpu",
) -> FeatureTable:
    """Return the features of image files; compute those that are not in the cache.

    Args:
        encoder: its weights, architecture and preprocessing are in the key.
        images: files, found by their content; equal files are computed once.
        kind: the global features of all `depths`, side by side, or all tokens of the one depth.
        depths: layers from 1; -1 is the last.
        root: folder of all caches; by default in the cache of `datasets` (`HF_DATASETS_CACHE`).
        device: where the encoder runs; the kind of device and number of threads are in the key.

    Raises:
        ZiaError: a file is missing or not an image, or the cache cannot be written.
    """
    import torch

    if not images:
        raise ZiaError("no record has an image, so there are no features: use a text-only method")
    if kind == "tokens" and len(depths) != 1:
        raise ZiaError(f"tokens are those of one depth, not of {len(depths)}")
    where = f"cpu, {torch.get_num_threads()} threads" if device == "cpu" else device.split(":")[0]
    what = {
        **encoder.identity(),
        "kind": kind,
        "depths": [encoder.layer(depth) for depth in depths],
        "format": FORMAT,
    }
    computed = {"computed": f"float32, {where}, {torch.__version__}", "reading": READING}
    folder = (root or _default_root()) / _hash(what | computed)[:32]
    digests = [_digest(path) for path in images]
    places = _index(folder)
    missing = {d: path for d, path in zip(digests, images, strict=True) if d not in places}
    if missing:
        write_json_atomic(_made(folder) / WHAT, {"name": encoder.name, **what, **computed})
        todo = list(missing.items())
        for start in range(0, len(todo), SHARD):
            part = todo[start : start + SHARD]
            _write(folder, [d for d, _ in part], _computed(encoder, part, kind, depths, device))
        places = _index(folder)
    return FeatureTable(
        [places[digest] for digest in digests], _hash({"what": what, "images": digests})
    )


def _default_root() -> Path:
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE) / "zia" / "image-features"


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZiaError(
            f"cannot write the image features {folder} ({error.strerror}): make room or set "
            "HF_DATASETS_CACHE to another folder"
        ) from error
    return folder


def _digest(path: Path) -> str:
    if not path.is_file():
        raise ZiaError(f"the image {path} does not exist: fetch it, or leave its record out")
    return sha256_file(path)


def _hash(value: object) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _index(folder: Path) -> dict[str, tuple[Path, int]]:
    """The shard and row of each image; damaged shards are ignored."""
    from safetensors import safe_open

    places: dict[str, tuple[Path, int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        if path.name.startswith(".") or sha256_file(path) != path.stem:
            continue
        with safe_open(path, framework="pt") as file:
            digests = loads((file.metadata() or {}).get("images", ""))
        places |= {digest: (path, row) for row, digest in enumerate(digests)}
    return places


def _computed(
    encoder: Encoder, images: Sequence[tuple[str, Path]], kind: Kind, depths: Any, device: str
) -> "Tensor":
    import torch

    model = encoder.model.to(device)
    parts = []
    for batch in _batches(encoder, images):
        pixels = batch.to(device)
        used = len(pixels)
        filled = torch.cat([pixels, pixels[-1:].expand(BATCH - used, -1, -1, -1)])
        with torch.inference_mode():
            tokens = encoder.tokens(filled, depths)
            if kind == "global":
                found = torch.cat([encoder.summary(each) for each in tokens], dim=-1)
            else:
                found = tokens[0].half()
        if not found.isfinite().all():
            raise ZiaError(f"{encoder.name} gives features that are not finite")
        parts.append(found[:used].cpu())
    model.to("cpu")
    return torch.cat(parts)


def _batches(encoder: Encoder, images: Sequence[tuple[str, Path]]) -> Iterator["Tensor"]:
    import torch

    for start in range(0, len(images), BATCH):
        pixels = []
        for digest, path in images[start : start + BATCH]:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != digest:
                raise ZiaError(f"{path} changed while it was read: start again")
            pixels.append(encoder.protocol(read_rgb(io.BytesIO(content), str(path))))
        yield torch.stack(pixels)


def _write(folder: Path, digests: list[str], features: "Tensor") -> None:
    from safetensors.torch import save

    content = save({"features": features.contiguous()}, {"images": json.dumps(digests)})
    name = f"{hashlib.sha256(content).hexdigest()}.safetensors"
    try:
        with replacing(folder / name) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise ZiaError(
            f"cannot write the image features {folder} ({error.strerror}): make room or set "
            "HF_DATASETS_CACHE to another folder"
        ) from error
