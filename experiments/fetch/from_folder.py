"""Find a data set's files in a folder of archives and files that people have downloaded."""

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from experiments.harness.needs import DataSet
from experiments.io.files import write_errors
from experiments.io.output import say
from experiments.io.safe_names import inside
from zia_core.errors import ZiaError

ZIPS, TARS = (".zip",), (".tar", ".tar.gz", ".tgz")


@dataclass(frozen=True)
class Held:
    """A file in the folder or in one of its archives; `name` has slashes."""

    name: str
    where: Path  # the file, or the archive
    stream: Callable[[], IO[bytes]]


@contextmanager
def held_files(folder: Path) -> Iterator[list[Held]]:
    """All files in a folder and in the archives in it; they can be read within the block.

    Damaged archives are passed over, which is said: they may be of something else. ZiaError if the
    folder does not exist.
    """
    if not folder.is_dir():
        raise ZiaError(f"--from {folder}: there is no such folder")
    with ExitStack() as archives:
        found: list[Held] = []
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            try:
                with _readable(path):
                    if name.endswith(ZIPS):
                        archive = archives.enter_context(zipfile.ZipFile(path))
                        found += list(_in_zip(path, archive))
                    elif name.endswith(TARS):
                        packed = archives.enter_context(tarfile.open(path))
                        found += list(_in_tar(path, packed))
                    else:
                        found.append(Held(name, path, partial(_opened, path)))
            except ZiaError as error:
                say(f"passed over: {error}")
        yield found


def collect(data: DataSet, held: list[Held], target: Path) -> list[str]:
    """Write the missing paths of a data set below `target`; return those that are not held.

    ZiaError if two archives or folders could be meant, or a file cannot be read or written.
    """
    missing = data.missing()
    made = _made(data, held, missing)
    lost = []
    for path in missing:
        if path in made:
            place = _place(target, path)
            with write_errors(place):
                place.write_bytes(made[path])
        elif not (_folder(path, held, target) if path.endswith("/") else _file(path, held, target)):
            lost.append(path)
    return lost


def _made(data: DataSet, held: list[Held], missing: list[str]) -> Mapping[str, bytes]:
    if data.made_from is None:
        return {}
    name, convert = data.made_from
    given = [each for each in held if PurePosixPath(each.name).name == name]
    # A list that somebody already has is taken as it is.
    named = {PurePosixPath(each.name).name.removesuffix(".gz") for each in held}
    if not given:
        return {}
    with _readable(given[0].where), given[0].stream() as file:
        made = convert(file.read())
    return {path: text for path, text in made.items() if PurePosixPath(path).name not in named}


def _file(path: str, held: list[Held], target: Path) -> bool:
    names = (path, f"{path}.gz")
    last = {PurePosixPath(name).name for name in names}
    given = [each for each in held if PurePosixPath(each.name).name in last]
    exact = [each for each in given if f"/{each.name}".endswith(tuple(f"/{n}" for n in names))]
    given = exact or given
    if not given:
        return False
    if len(given) > 1:
        raise ZiaError(_ambiguous(path, [f"{each.where}: {each.name}" for each in given]))
    packed = ".gz" if given[0].name.endswith(".gz") and not path.endswith(".gz") else ""
    _copy(given[0], _place(target, path + packed))
    return True


def _folder(path: str, held: list[Held], target: Path) -> bool:
    """Copy the folder that has the whole `path`, or else the only one with its last name."""
    for tail in dict.fromkeys((path, f"{PurePosixPath(path).name}/")):
        inner: dict[tuple[Path, str], list[tuple[str, Held]]] = {}
        for each in held:
            before, mark, rest = f"/{each.name}".partition(f"/{tail}")
            if mark and rest:
                # Loose files have one folder in common, members of an archive their archive.
                owner = each.where if each.where.suffix in (".zip", ".tar", ".gz", ".tgz") else None
                inner.setdefault((owner or Path(), before), []).append((rest, each))
        if len(inner) > 1:
            raise ZiaError(_ambiguous(path, [f"{w} {before}" for w, before in inner]))
        for members in inner.values():
            for rest, each in members:
                _copy(each, inside(target / path, rest, each.where))
            return True
    return False


def _ambiguous(path: str, places: list[str]) -> str:
    listed = "; ".join(place.strip() for place in places[:3])
    return f"several could be {path} ({listed}): leave one in the folder"


def _copy(held: Held, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _readable(held.where), held.stream() as source, write_errors(path), path.open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)


def _place(target: Path, path: str) -> Path:
    place = target / path
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb")


def _in_zip(path: Path, archive: zipfile.ZipFile) -> Iterator[Held]:
    for name in archive.namelist():
        if not name.endswith("/"):
            yield Held(name.removeprefix("./"), path, partial(archive.open, name))


def _in_tar(path: Path, archive: tarfile.TarFile) -> Iterator[Held]:
    for member in archive:
        if member.isfile():
            extract: Any = archive.extractfile  # None only for what is not a file
            yield Held(member.name.removeprefix("./"), path, partial(extract, member))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        said = str(error).partition("\n")[0]
        raise ZiaError(f"{path} is damaged ({said}): download it again") from error
    except OSError as error:
        raise ZiaError(f"cannot read {path}: {error.strerror or error}") from error
