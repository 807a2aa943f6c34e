"""Archives of raw results as they are published: zip, tar, and tar packed with gzip, bzip2 or xz.

An archive from the network is not to be trusted. It is read in memory and never unpacked to disk, so that no name in it
can lead anywhere; names that try (absolute, ``..``) are refused all the same, and so are links and devices, because
an honest archive of text files has none. What it unpacks to is measured while it unpacks: the sizes that an archive
states of itself may lie.
"""

import bz2
import gzip
import io
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

TEXT_SUFFIXES = (".txt", ".csv", ".json")
"""Members that are read; all others (images, models, curves) are passed over."""

MAX_PACKED = 256 << 20
"""Bytes of the archive itself. The published results of one tracker on LasHeR take about 1 MiB."""

MAX_UNPACKED = 512 << 20
"""Bytes that may come out of an archive."""

MAX_MEMBERS = 65_535
"""Members of an archive, folders included."""

MAX_RATIO = 200
"""How many times its own size an archive may unpack to, beyond the first ``FREE``. Tracks reach about 10."""

FREE = 16 << 20
"""Bytes below which the ratio does not matter: a short track that stands still packs very well."""

_TAR_PACKINGS: tuple[tuple[bytes, Callable[..., Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\x00", lzma.open),
    (b"", open),
)
"""First bytes of a packed tar and what opens it; a plain tar has nothing in its first bytes to know it by."""

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # the second is an empty one

_FOREIGN = ((b"Rar!", "RAR"), (b"7z\xbc\xaf\x27\x1c", "7-Zip"), (b"\x28\xb5\x2f\xfd", "Zstandard"))

_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    ArithmeticError,
    LookupError,
    RuntimeError,  # also what zipfile cannot unpack: NotImplementedError
    struct.error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
)
"""What the standard library raises on archives that are cut off or scrambled."""


class ArchiveError(ValueError):
    """An archive that cannot be read, or that is refused because it may do harm. The message names the file."""


def read_archive(path: str | Path) -> dict[str, bytes]:
    """Reads the text files of an archive (:data:`TEXT_SUFFIXES`) without unpacking it to disk.

    What operating systems leave behind (``__MACOSX/``, ``.DS_Store``, ``._name``) is passed over.

    Args:
        path: a zip or tar file; what it is is read from its content, not from its name.

    Returns:
        The content of each text file by its path in the archive, ``folder/name.txt``, sorted by path.

    Raises:
        OSError: if the file cannot be opened.
        ArchiveError: if it is no zip or tar archive, is encrypted or damaged; if it has a member with an absolute path
            or ``..`` in it, a link, a device or a sparse file, or two files of one name; if it has too many members,
            is too large, or unpacks to too much.
    """
    path = Path(path)
    packed = path.stat().st_size
    if packed > MAX_PACKED:
        raise ArchiveError(f"{path} is larger than {_mib(MAX_PACKED)}: unpack it, and give the folder of one tracker")
    with path.open("rb") as file:
        magic = file.read(8)
    for start, kind in _FOREIGN:
        if magic.startswith(start):
            raise ArchiveError(f"{path} is a {kind} archive, which is not read: unpack it, and give the folder")
    meter = _Meter(path, packed)
    try:
        members = _zip(path, meter) if magic.startswith(_ZIP) else _tar(path, magic, meter)
        return dict(sorted(members.items()))
    except ArchiveError:
        raise
    except tarfile.ReadError as error:
        raise ArchiveError(f"{path} is neither a zip nor a tar archive, or it is damaged ({error})") from error
    except _DAMAGE as error:
        raise ArchiveError(f"{path} is damaged ({error!r}): download it again") from error


class _Meter:
    """Counts what comes out of an archive, and stops it when it becomes too much."""

    def __init__(self, path: Path, packed: int) -> None:
        self.path = path
        self.packed = packed
        self.members = 0
        self.unpacked = 0

    def member(self) -> None:
        self.members += 1
        if self.members > MAX_MEMBERS:
            raise ArchiveError(f"{self.path} has more than {MAX_MEMBERS} members: no results of one tracker have")

    def count(self, data: bytes) -> bytes:
        self.unpacked += len(data)
        if self.unpacked > MAX_UNPACKED:
            raise ArchiveError(f"{self.path} unpacks to more than {_mib(MAX_UNPACKED)}: it is refused")
        if self.unpacked > max(FREE, MAX_RATIO * self.packed):
            raise ArchiveError(f"{self.path} unpacks to more than {MAX_RATIO} times its size: it is refused")
        return data


class _Metered(io.BufferedIOBase):
    """The unpacked bytes of a tar archive, every one of them counted: headers and skipped members too."""

    def __init__(self, stream: IO[bytes], meter: _Meter) -> None:
        self.stream = stream
        self.meter = meter

    def read(self, size: int | None = -1, /) -> bytes:
        return self.meter.count(self.stream.read(-1 if size is None else size))


def _tar(path: Path, magic: bytes, meter: _Meter) -> dict[str, bytes]:
    unpack = next(unpack for start, unpack in _TAR_PACKINGS if magic.startswith(start))
    texts: dict[str, bytes] = {}
    # "r|" reads from front to back and never seeks, so that each byte passes the meter once.
    with (
        unpack(path, "rb") as stream,
        _Metered(stream, meter) as unpacked,
        tarfile.open(fileobj=unpacked, mode="r|") as archive,
    ):
        for member in archive:
            meter.member()
            name = _safe(path, member.name)
            # A sparse file is a few bytes that claim to be a great many zeros, which no meter would see.
            if not (member.isfile() or member.isdir()) or member.issparse() or member.size < 0:
                raise ArchiveError(f"{path} has a member that is no plain file: {member.name!r} (a link or device?)")
            if member.isfile() and _wanted(name):
                content = archive.extractfile(member)
                assert content is not None, "a plain file has content"
                _keep(path, texts, name, content.read())
        while unpacked.read(1 << 20):
            pass  # to the end, where the checksum is
    return texts


def _zip(path: Path, meter: _Meter) -> dict[str, bytes]:
    texts: dict[str, bytes] = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            meter.member()
            name = _safe(path, member.filename)
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ArchiveError(
                    f"{path} has a member that is no plain file: {member.filename!r} (a link or device?)"
                )
            if not member.is_dir() and _wanted(name):
                if member.flag_bits & 1:
                    raise ArchiveError(f"{path} is encrypted: unpack it with its password, and give the folder")
                _keep(path, texts, name, b"".join(map(meter.count, _chunks(archive, member))))
    return texts


def _chunks(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    with archive.open(member) as content:
        while chunk := content.read(1 << 20):
            yield chunk


def _safe(path: Path, name: str) -> str:
    """The name of a member with ``/`` between its parts and without ``.``; archives made on Windows have ``\\``."""
    parts = name.replace("\\", "/").split("/")
    if parts[0] == "" or ".." in parts or re.match("[A-Za-z]:", name) or "\0" in name:
        raise ArchiveError(f"{path} has a member with a path that leads out of it: {name!r}")
    return "/".join(part for part in parts if part not in ("", "."))


def _wanted(name: str) -> bool:
    parts = name.split("/")
    return not any(part.startswith((".", "__MACOSX")) for part in parts) and name.lower().endswith(TEXT_SUFFIXES)


def _keep(path: Path, texts: dict[str, bytes], name: str, content: bytes) -> None:
    if name in texts:
        raise ArchiveError(f"{path} has two members of the name {name!r}: which one is meant is not clear")
    texts[name] = content


def _mib(count: int) -> str:
    return f"{count >> 20} MiB"
