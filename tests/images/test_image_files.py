"""One function reads images: by range, in the formats that are taken, or it names the file."""

import io
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, TiffImagePlugin

import experiments
from experiments.images import image_files
from experiments.images.image_files import FORMATS, read_rgb
from zia_core import ZiaError

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def saved(image: Image.Image, kind: str, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def pixels(file: io.BytesIO | Path) -> np.ndarray:
    image = read_rgb(file, "a file")
    assert image.mode == "RGB"
    return np.asarray(image)


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8))


# L, P, RGB and CMYK are bitwise what `convert` makes of them, so published numbers stay.
@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *[("RGB", kind) for kind in FORMATS],
        *[("L", kind) for kind in FORMATS],
        *[("P", kind) for kind in ("PNG", "GIF", "BMP", "TIFF")],
        *[("1", kind) for kind in ("PNG", "BMP", "TIFF")],
        ("CMYK", "JPEG"),
        ("CMYK", "TIFF"),
        ("YCbCr", "TIFF"),
    ],
)
def test_eight_bits_are_taken_as_they_are(mode: str, kind: str) -> None:
    file = saved(photo().convert(mode), kind)
    with Image.open(io.BytesIO(file.getvalue())) as plain:
        assert np.array_equal(pixels(file), np.asarray(plain.convert("RGB")))


def grey_16(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint16))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "big-endian"])
def test_sixteen_bits_become_eight_by_their_range(kind: str) -> None:
    image = grey_16(RAMP * np.uint16(257))
    if kind == "big-endian":
        swapped = (RAMP.astype(">u2") * 257).astype(">u2").tobytes()
        image, kind = Image.frombytes("I;16B", image.size, swapped), "TIFF"
    assert np.array_equal(pixels(saved(image, kind)), RAMP[..., None].repeat(3, axis=2))
    between = grey_16(np.array([[0, 128, 129, 32768, 65535]]))
    assert pixels(saved(between, "PNG"))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_twelve_bits_and_white_is_zero_are_what_the_tags_say() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[image_files.PHOTOMETRIC] = image_files.WHITE_IS_ZERO
    inverted = saved(grey_16(RAMP * np.uint16(257)), "TIFF", tiffinfo=tags)
    with Image.open(io.BytesIO(inverted.getvalue())) as image:
        assert image.tag_v2[image_files.PHOTOMETRIC] == image_files.WHITE_IS_ZERO
    assert np.array_equal(pixels(inverted)[..., 0], 255 - RAMP)
    twelve = twelve_bit_tiff([0, 2048, 4095, 16])
    assert pixels(io.BytesIO(twelve))[0, :, 0].tolist() == [0, 128, 255, 1]


def twelve_bit_tiff(row: list[int]) -> bytes:
    """A TIFF of one row of an even number of pixels, 12 bits each, packed."""
    bits = "".join(f"{value:012b}" for value in row)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big")
    entries = [(256, len(row)), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1)]
    entries += [(278, 1), (279, len(data))]
    start = 8 + len(data) + len(data) % 2
    ifd = struct.pack("<H", len(entries))
    ifd += b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    return struct.pack("<2sHI", b"II", 42, start) + data.ljust(start - 8, b"\0") + ifd + bytes(4)


def test_what_is_transparent_is_white_in_every_mode() -> None:
    red, clear = (255, 0, 0, 255), (0, 0, 255, 0)
    rgba = Image.new("RGBA", (2, 1), red)
    rgba.putpixel((1, 0), clear)
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    rgb = rgba.convert("RGB")
    white, expected = [255, 255, 255], [[255, 0, 0], [255, 255, 255]]
    for file in (
        saved(rgba, "PNG"),
        saved(rgba, "TIFF"),
        saved(rgba, "WEBP", lossless=True),
        saved(palette, "PNG", transparency=1),
        saved(palette, "GIF", transparency=1),
        saved(palette, "PNG", transparency=b"\xff\x00"),
        saved(rgb, "PNG", transparency=(0, 0, 255)),
    ):
        assert pixels(file)[0].tolist() == expected
    for file in (
        saved(Image.new("LA", (1, 1), (9, 0)), "PNG"),
        saved(Image.new("L", (1, 1), 9), "PNG", transparency=9),
        saved(Image.new("PA", (1, 1), (0, 0)), "TIFF"),
        saved(grey_16(np.array([[700]])), "PNG", transparency=700),
    ):
        assert pixels(file)[0, 0].tolist() == white
    half = saved(Image.new("LA", (1, 1), (0, 128)), "PNG")
    assert pixels(half)[0, 0].tolist() == [127, 127, 127]


@pytest.mark.parametrize(
    ("image", "mode"),
    [
        (Image.fromarray(np.full((2, 2), 0.5, np.float32)), "F"),
        (Image.fromarray(np.full((2, 2), 70_000, np.int32)), "I"),
        (Image.new("LAB", (2, 2)), "LAB"),
    ],
)
def test_values_of_unknown_range_are_refused_with_the_file_s_name(
    image: Image.Image, mode: str
) -> None:
    sentence = rf"^a/b\.tif has pixels of Pillow's mode {mode}, .*: save it with 8 bits a channel$"
    with pytest.raises(ZiaError, match=sentence):
        read_rgb(saved(image, "TIFF"), "a/b.tif")


def test_no_other_format_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    path, started = tmp_path / "a.png", []
    photo().save(path, "EPS")
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **_: started.append(given))
    for kind in ("EPS", "PDF", "ICO", "TGA", "JPEG2000"):
        photo().save(path, kind)
        with pytest.raises(ZiaError, match=r"a\.png cannot be read .* none of BMP, GIF, JPEG, PN"):
            read_rgb(path, str(path))
    assert started == []


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_file_is_named_wherever_it_is_cut_or_changed(kind: str) -> None:
    content, draw = saved(photo(), kind).getvalue(), np.random.default_rng(0)
    whole = pixels(io.BytesIO(content))
    for size in {*range(0, len(content), max(1, len(content) // 25)), len(content) // 2}:
        try:  # what only lacks its end mark is whole
            assert np.array_equal(pixels(io.BytesIO(content[:size])), whole), size
            assert size > 0.97 * len(content)
        except ZiaError as error:
            assert re.match(r"a file cannot be read as an image \(.+\): fetch", str(error))  # noqa: PT017
    for _ in range(60):
        changed = bytearray(content)
        for place in draw.integers(0, len(content), 4):
            changed[place] = draw.integers(256)
        try:
            assert read_rgb(io.BytesIO(bytes(changed)), "the image").mode == "RGB"
        except ZiaError as error:
            assert str(error).startswith("the image ")  # noqa: PT017


def png_of_size(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 40_000])  # Pillow only warns of the first
def test_a_decompression_bomb_is_named_and_not_decoded(side: int) -> None:
    with pytest.raises(ZiaError, match=r"^a\.png has more than 89,478,485 pixels: make it smaller"):
        read_rgb(io.BytesIO(png_of_size(side, side)), "a.png")


def test_the_orientation_of_a_camera_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = saved(photo(), "JPEG", exif=exif)
    with Image.open(io.BytesIO(file.getvalue())) as plain:
        assert ImageOps.exif_transpose(plain).size != plain.size
        assert np.array_equal(pixels(file), np.asarray(plain))


def test_a_missing_file_is_left_to_who_knows_what_it_is_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_rgb(tmp_path / "none.png", "none.png")


def test_images_are_opened_nowhere_else() -> None:
    root = Path(experiments.__file__).parent
    opening = re.compile(r"\bImage\.open\(|\bimread\(|\bdecode_(image|jpeg|png)\(")
    found = [path for path in root.rglob("*.py") if opening.search(path.read_text("utf-8"))]
    assert found == [root / "images/image_files.py"]
