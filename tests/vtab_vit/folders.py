"""A tiny task in the field's layout: images of one colour each, and its four lists."""

import struct
import zlib
from pathlib import Path

from experiments.images.tasks import Task

TINY = Task("tiny", "Tiny", "small", classes=3, test=3, train=4, val=2)


def png(rows: list[list[tuple[int, int, int]]]) -> bytes:
    """An RGB image file, written by hand: what a decoder gives back is known."""
    raw = b"".join(b"\0" + bytes(value for pixel in row for value in pixel) for row in rows)
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def grey(*columns: int) -> bytes:
    """An image of one row."""
    return png([[(value,) * 3 for value in columns]])


def write_tiny(folder: Path) -> Path:
    """Four training, two validation and three test images: `images/N.png`, label N mod 3."""
    (folder / "images").mkdir(parents=True)
    for number in range(9):
        (folder / "images" / f"{number}.png").write_bytes(grey(10 * number, 5))
    write_list(folder, "train800.txt", range(4))
    write_list(folder, "val200.txt", range(4, 6))
    write_list(folder, "train800val200.txt", range(6))
    write_list(folder, "test.txt", range(6, 9))
    return folder


def write_list(folder: Path, name: str, numbers: range) -> None:
    (folder / name).write_text("".join(f"images/{n}.png {n % 3}\n" for n in numbers))
