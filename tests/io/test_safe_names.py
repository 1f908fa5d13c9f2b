"""Names from outside stay inside their folder, wherever they are read."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from experiments.coco_caption import convert as coco_convert
from experiments.coco_caption.data import load_captions
from experiments.dispatch.submission import Submission
from experiments.images.task_folder import load_task
from experiments.images.task_writing import Encoded, Lists, write_task
from experiments.io.safe_names import inside, is_file_name, is_plain
from experiments.scienceqa.data import load_problems
from experiments.vtab_vit.sources import dtd10
from tests.coco_caption.world import write_coco, write_flickr8k
from tests.vtab_vit.folders import TINY, grey, write_tiny
from zia_core.errors import ZiaError

OUTSIDE = (
    "/tmp/x.png", "../x.png", "a/../../x.png", "a//x.png", "//host/x.png", "C:/x.png", "c:x.png",
    "a\\..\\x.png", "..", ".", "a/.", "a/", "a\0.png", "a\u2028b.png", ".../x.png",
)  # fmt: skip


@pytest.mark.parametrize("name", [*OUTSIDE, "", "a\nb.png", 3, None])
def test_what_is_not_a_plain_name(tmp_path: Path, name: object) -> None:
    assert not is_plain(name)
    assert not is_file_name(name)
    with pytest.raises(ZiaError, match=r"list\.txt names .*, which is not a file inside"):
        inside(tmp_path, name, "list.txt")


def test_plain_names(tmp_path: Path) -> None:
    for name in ("a.png", "a/b c/ä (1).png", "..a/b..", ".hidden", "at 10:30.png"):
        assert inside(tmp_path, name, "list.txt") == tmp_path / name
    assert is_file_name("a b.png")
    assert not is_file_name("a/b.png")


def test_a_link_is_not_a_file_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "folder").symlink_to("there")  # the folder itself may be one
    for link in ("linked", "a/linked"):
        path = tmp_path / "there" / link
        path.parent.mkdir(exist_ok=True)
        path.symlink_to("/etc")
        for name in (link, f"{link}/hostname"):
            with pytest.raises(ZiaError, match=rf"folder/{link} is a link: put the file itself"):
                inside(tmp_path / "folder", name, "list.txt")


def image() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    return file.getvalue()


def vtab_list(root: Path, name: str) -> None:
    folder = write_tiny(root / "tiny")
    (folder / "test.txt").write_text(f"images/6.png 0\n{name} 1\nimages/8.png 2\n")
    load_task(TINY, folder)


def vtab_convert(root: Path, name: str) -> None:
    encoded = [Encoded(f"a/{n}.png", n % 3, grey(10 * n, 5)) for n in range(8)]
    write_task(TINY, Lists(encoded[:4], encoded[4:6], [*encoded[6:], Encoded(name, 2, b"x")]), root)


def vtab_archive(root: Path, name: str) -> None:
    """An archive whose list calls the part before the first slash a class."""
    first = name.partition("/")[0]
    splits = {"classes": [first, "b"], "train640": ["b/0.png"], "val160": [], "test": [name]}
    (root / "splits.json.gz").write_bytes(gzip.compress(json.dumps(splits).encode()))
    with zipfile.ZipFile(root / "images_96.zip", "w") as archive:
        for member in ("b/0.png", name):
            archive.writestr(zipfile.ZipInfo(member), grey(1))
    dtd10(root, TINY)


def flickr_convert(root: Path, name: str) -> None:
    (root / "captions.json").write_text(
        json.dumps([{"file": name, "split": "train", "captions": ["A ."]}])
    )
    with zipfile.ZipFile(root / "images_128.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), image())
    coco_convert.convert(root, root)


def flickr(root: Path, name: str) -> None:
    write_flickr8k(root / "flickr8k")
    for file in ("Flickr8k.token.txt", "Flickr_8k.testImages.txt"):
        path = root / "flickr8k" / file
        path.write_text(path.read_text().replace("013_green.jpg", name))
    load_captions("flickr8k")


def coco(root: Path, name: str) -> None:
    write_coco(root / "coco")
    path = root / "coco" / "karpathy_test_images.txt"
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([f"val2014/{name} {first.split()[1]}", *rest]))
    load_captions("coco")


def scienceqa(root: Path, name: str) -> None:
    problem(root, "1", name)


def scienceqa_pid(root: Path, name: str) -> None:
    problem(root, name, "image.png")


def problem(root: Path, pid: str, name: str) -> None:
    (root / "scienceqa").mkdir()
    record = {"question": "Q?", "choices": ["a", "b"], "answer": 0, "hint": "", "image": name}
    splits = {"train": [pid], "val": [], "test": [], "minitest": []}
    for file, value in (("problems", {pid: record}), ("pid_splits", splits)):
        (root / "scienceqa" / f"{file}.json").write_text(json.dumps(value))
    load_problems()


def submission(root: Path, name: str) -> None:
    folder = root / "submissions" / "one"
    assert Submission(folder, "slurm", None, "mini", "cpu", "/out", name, None, ()).code


PLACES = (
    vtab_list, vtab_convert, vtab_archive, flickr_convert, flickr, coco, scienceqa, scienceqa_pid,
    submission,
)  # fmt: skip


@pytest.mark.parametrize("name", [name for name in OUTSIDE if name.isprintable()])
@pytest.mark.parametrize("place", PLACES)
def test_no_place_follows_a_name_out_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Callable[[Path, str], object], name: str
) -> None:
    root = tmp_path / "deep" / "root"
    root.mkdir(parents=True)
    monkeypatch.setenv("ZIA_DATA", str(root))
    absolute = str(tmp_path / "elsewhere.png")
    name = name.replace("/tmp/x.png", absolute)
    if place is vtab_list and name in ("a//x.png", "a/.", "a/"):
        pytest.skip("lists may write a path in such a way")
    with pytest.raises(ZiaError, match=r"which is not a file inside|of no class|a file('s)? name"):
        place(root, name)
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in root.parent.iterdir()] == ["root"]


@pytest.mark.parametrize(
    ("place", "load", "file"),
    [
        (vtab_list, lambda root: load_task(TINY, root / "tiny"), "tiny/images/7.png"),
        (flickr, lambda _: load_captions("flickr8k"), "flickr8k/Flicker8k_Dataset/linked.jpg"),
        (coco, lambda _: load_captions("coco"), "coco/val2014/linked.jpg"),
    ],
)
def test_no_image_of_a_data_set_is_read_over_a_link(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: Callable[[Path, str], object],
    load: Callable[[Path], object],
    file: str,
) -> None:
    monkeypatch.setenv("ZIA_DATA", str(tmp_path))
    place(tmp_path, "images/7.png" if place is vtab_list else "linked.jpg")
    path = tmp_path / file
    path.unlink(missing_ok=True)
    path.symlink_to("/etc/hostname")
    with pytest.raises(ZiaError, match=r"is a link: put the file itself there"):
        load(tmp_path)
