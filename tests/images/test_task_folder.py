from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.images.task_folder import contents, load_task, read_image
from tests.vtab_vit.folders import TINY, grey, png, write_list, write_tiny
from zia_core.errors import ZiaError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZIA_DATA", str(tmp_path))
    return write_tiny(tmp_path / "vtab" / "tiny")


def test_examples_come_in_the_order_of_the_lists(folder: Path) -> None:
    (folder / "test.txt").write_bytes(b"images/8.png 2\r\n\nimages/6.png 0\n./images/7.png  1")
    data = load_task(TINY)
    assert [(each.name, each.label) for each in data.test] == [
        ("images/8.png", 2),
        ("images/6.png", 0),
        ("images/7.png", 1),
    ]
    assert [each.label for each in data.train] == [0, 1, 2, 0]
    assert [each.label for each in data.val] == [1, 2]
    assert data.train_val == data.split("train_val")
    assert data.folder == folder
    assert read_image(data.test[0]).getpixel((0, 0)) == (80, 80, 80)


def test_each_list_may_have_copies_of_its_own(folder: Path) -> None:
    """As in the customary export, where `train800val200.txt` has other paths than the two."""
    for number in range(6):
        (folder / "images" / f"1{number}.png").write_bytes(grey(10 * number, 5))
    lines = "".join(f"images/1{n}.png {n % 3}\n" for n in (5, 4, 3, 2, 1, 0))
    (folder / "train800val200.txt").write_text(lines)
    data = load_task(TINY)
    assert data.train_val[0].name == "images/15.png"
    assert contents(data).shared == 0


def test_a_path_may_have_spaces_and_images_may_be_grey(folder: Path) -> None:
    Image.new("L", (3, 2), 7).save(folder / "images" / "a b.png")
    (folder / "val200.txt").write_text("images/a b.png 1\nimages/5.png 2\n")
    image = read_image(load_task(TINY).val[0])
    assert (image.mode, image.size, image.getpixel((2, 1))) == ("RGB", (3, 2), (7, 7, 7))


BAD_LISTS: list[tuple[str, Any, str]] = [
    ("test.txt", None, "cannot read {folder}/test.txt: No such file or directory"),
    ("train800.txt", b"", "{folder}/train800.txt is empty"),
    (
        "val200.txt",
        b"images/4.png 1\nimages/\xe95.png 2\n",
        "val200.txt is not UTF-8 text (byte 22",
    ),
    ("test.txt", "images/6.png 0\nimages/7.png\n", "test.txt, line 2 must be an image's path, a"),
    ("test.txt", "images/6.png 0\nimages/7.png one\n", "test.txt, line 2 must be an image's path"),
    ("test.txt", "images/6.png -1\n", "test.txt, line 1 must be an image's path, a space and a"),
    (
        "test.txt",
        "images/6.png 0\nimages/7.png 3\n",
        "test.txt, line 2 has the label 3: tiny has 3",
    ),
    (
        "test.txt",
        "images/../../a.png 0\n",
        "line 1 names 'images/../../a.png', which is not a file inside {folder}",
    ),
    (
        "test.txt",
        "/etc/passwd 0\n",
        "test.txt, line 1 names '/etc/passwd', which is not a file inside {folder}",
    ),
    ("test.txt", "images/6.png 0\n", "test.txt lists 1 images where tiny has 3: fetch the lists"),
    (
        "test.txt",
        "images/6.png 0\nimages/9.png 0\nimages/8.png 2\n",
        "test.txt, line 2 names the image {folder}/images/9.png, which is missing",
    ),
    (
        "test.txt",
        "images/6.png 0\nimages/7.png 1\nimages/3.png 0\n",
        "test.txt, line 3 lists the image images/3.png again, after {folder}/train800.txt, line 4",
    ),
    (
        "test.txt",
        "images/6.png 0\nimages/6.png 0\nimages/7.png 1\n",
        "test.txt, line 2 lists the image images/6.png again, after {folder}/test.txt, line 1",
    ),
    (
        "val200.txt",
        "images/0.png 1\nimages/5.png 2\n",
        "val200.txt, line 1 lists the image images/0.png again, after {folder}/train800.txt",
    ),
    (
        "train800val200.txt",
        "".join(f"images/{n}.png 0\n" for n in range(6)),
        "train800val200.txt has other labels than train800.txt and val200.txt together",
    ),
]


@pytest.mark.parametrize(("name", "content", "sentence"), BAD_LISTS)
def test_a_bad_list_is_one_sentence_with_file_and_line(
    folder: Path, name: str, content: Any, sentence: str
) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ZiaError) as caught:
        load_task(TINY)
    message = str(caught.value)
    assert sentence.format(folder=folder) in message
    assert str(folder / name) in message
    assert "\n" not in message


def test_a_test_image_in_the_joined_list_only_is_noticed(folder: Path) -> None:
    lines = "".join(f"images/{n}.png {n % 3}\n" for n in (0, 1, 2, 3, 4, 8))
    (folder / "train800val200.txt").write_text(lines)
    with pytest.raises(ZiaError, match=r"test\.txt, line 3 lists the image images/8\.png again"):
        load_task(TINY)


@pytest.mark.parametrize("content", [b"not an image\n", b"", grey(1, 2)[:20]])
def test_a_file_that_is_no_image_is_found_before_anything_runs(
    folder: Path, content: bytes
) -> None:
    (folder / "images" / "7.png").write_bytes(content)
    with pytest.raises(ZiaError) as caught:
        load_task(TINY)
    message = str(caught.value)
    assert f"{folder}/images/7.png, which {folder}/test.txt, line 2 names, cannot be" in message
    assert "\n" not in message


def test_an_image_of_unknown_range_is_found_before_anything_runs(folder: Path) -> None:
    path = folder / "images" / "7.png"
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(path, "TIFF")
    with pytest.raises(ZiaError, match=r"7\.png, which .*, line 2 names, has pixels .* mode F"):
        load_task(TINY)


def test_sixteen_bits_of_grey_are_gray_and_not_white(folder: Path) -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    Image.fromarray(values).save(folder / "images" / "7.png")
    found = np.asarray(read_image(load_task(TINY).test[1]))
    assert found.tolist() == [[[grey] * 3 for grey in (0, 1, 128, 255)]]


def test_a_folder_in_the_place_of_an_image_is_named(folder: Path) -> None:
    (folder / "images" / "7.png").unlink()
    (folder / "images" / "7.png").mkdir()
    with pytest.raises(ZiaError, match=r"images/7\.png, which .* cannot be .*Is a directory"):
        load_task(TINY)


def test_an_image_cut_short_is_named_when_it_is_decoded(folder: Path) -> None:
    whole = png([[(n % 251, n % 241, n % 239) for n in range(row, row + 64)] for row in range(64)])
    (folder / "images" / "7.png").write_bytes(whole[: len(whole) // 2])
    data = load_task(TINY)
    with pytest.raises(ZiaError, match=r"images/7\.png, which .*test\.txt, line 2 names, cannot"):
        read_image(data.test[1])


def test_missing_data_say_where_they_belong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZIA_DATA", str(tmp_path))
    with pytest.raises(ZiaError, match=rf"{tmp_path}/vtab/tiny does not exist \(\$ZIA_DATA\); put"):
        load_task(TINY)
    monkeypatch.delenv("ZIA_DATA")
    with pytest.raises(ZiaError, match=r"\$ZIA_DATA is not set; put .* folder vtab/tiny of"):
        load_task(TINY)


def test_the_fingerprint_notices_image_label_path_and_order(folder: Path) -> None:
    original = contents(load_task(TINY))
    assert original == contents(load_task(TINY, folder))
    assert len(original.fingerprint) == 64
    seen = {original.fingerprint}
    test = folder / "test.txt"
    lines = test.read_text()
    for changed in (
        "images/8.png 2\nimages/7.png 1\nimages/6.png 0\n",  # order
        "images/6.png 0\nimages/7.png 1\nimages/8.png 1\n",  # label
    ):
        test.write_text(changed)
        seen.add(contents(load_task(TINY)).fingerprint)
    (folder / "images" / "9.png").write_bytes((folder / "images" / "8.png").read_bytes())
    test.write_text(lines.replace("8.png", "9.png"))  # path
    seen.add(contents(load_task(TINY)).fingerprint)
    test.write_text(lines)
    (folder / "images" / "8.png").write_bytes(grey(81, 5))  # image
    seen.add(contents(load_task(TINY)).fingerprint)
    assert len(seen) == 5


def test_copies_of_training_images_in_the_test_set_are_counted(folder: Path) -> None:
    for copy, original in ((7, 0), (8, 5)):
        content = (folder / "images" / f"{original}.png").read_bytes()
        (folder / "images" / f"{copy}.png").write_bytes(content)
    assert contents(load_task(TINY)).shared == 2


def test_the_fingerprint_is_that_of_the_place_it_was_moved_to(folder: Path) -> None:
    before = contents(load_task(TINY)).fingerprint
    moved = folder.rename(folder.with_name("elsewhere"))
    assert contents(load_task(TINY, moved)).fingerprint == before
    write_list(moved, "test.txt", range(6, 8))
    with pytest.raises(ZiaError, match="lists 2 images"):
        load_task(TINY, moved)
