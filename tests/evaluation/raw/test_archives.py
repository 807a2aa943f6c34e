"""Archives come from the network: honest ones of every kind are read alike, hostile ones are refused by name."""

import io
import random
import stat
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duotrack.evaluation.raw import archives
from duotrack.evaluation.raw.archives import ArchiveError, read_archive

TEXTS = {"A/bike.txt": b"1,2,3,4\n", "A/leftgirl's bag.txt": b"5,6,7,8\r\n", "A/info.json": b"{}"}
JUNK = {"__MACOSX/A/._bike.txt": b"\0\5", "A/.DS_Store": b"\0", "A/._bike.txt": b"\0", "A/image.jpg": b"\xff\xd8"}


def write_zip(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    packing = path.suffix[1:] if path.stem.endswith(".tar") else ""
    with tarfile.open(path, f"w:{packing}") as archive:  # type: ignore[call-overload]  # wants a literal
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write(path: Path, members: Mapping[str, bytes]) -> Path:
    return write_zip(path, members) if path.suffix == ".zip" else write_tar(path, members)


@pytest.mark.parametrize("name", ["r.zip", "r.tar", "r.tar.gz", "r.tar.bz2", "r.tar.xz"])
class TestEveryKind:
    def test_gives_its_text_files_and_no_leftovers(self, tmp_path: Path, name: str) -> None:
        assert read_archive(write(tmp_path / name, TEXTS | JUNK)) == TEXTS

    def test_is_known_by_its_content_not_by_its_name(self, tmp_path: Path, name: str) -> None:
        assert read_archive(write(tmp_path / name, TEXTS).rename(tmp_path / "download")) == TEXTS

    def test_puts_nothing_on_disk(self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(tmp_path / name, TEXTS)
        monkeypatch.chdir(tmp_path)
        read_archive(path)
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize(
        "member", ["/etc/a.txt", "../a.txt", "A/../../a.txt", "C:/a.txt", "c:a.txt", "..\\a.txt", "A\\..\\..\\a.txt"]
    )
    def test_refuses_paths_that_lead_out(self, tmp_path: Path, name: str, member: str) -> None:
        with pytest.raises(ArchiveError, match="leads out of it"):
            read_archive(write(tmp_path / name, {member: b"1,2,3,4"}))

    def test_refuses_two_files_of_one_name(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ArchiveError, match=r"two members of the name 'A/b\.txt'"):
            read_archive(write(tmp_path / name, {"A/b.txt": b"1,2,3,4", "./A/b.txt": b"5,6,7,8"}))

    def test_refuses_too_many_members(self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archives, "MAX_MEMBERS", 20)
        members = {f"{i}.jpg": b"" for i in range(20)}
        assert read_archive(write(tmp_path / name, members)) == {}
        with pytest.raises(ArchiveError, match="more than 20 members"):
            read_archive(write(tmp_path / name, members | {"a.txt": b""}))

    def test_refuses_too_much_unpacked(self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(tmp_path / name, {f"{i}.txt": b"1,2,3,4\n" * (1 << 16) for i in range(3)})
        assert len(read_archive(path)) == 3
        monkeypatch.setattr(archives, "MAX_UNPACKED", 1 << 20)
        with pytest.raises(ArchiveError, match="more than 1 MiB"):
            read_archive(path)

    def test_refuses_a_file_too_large(self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(tmp_path / name, TEXTS)
        monkeypatch.setattr(archives, "MAX_PACKED", path.stat().st_size - 1)
        with pytest.raises(ArchiveError, match="larger than"):
            read_archive(path)

    def test_names_itself_when_cut_off(self, tmp_path: Path, name: str) -> None:
        path = write(tmp_path / name, {f"{i}.txt": random.Random(i).randbytes(5000) for i in range(10)})
        path.write_bytes(path.read_bytes()[:-8000])
        with pytest.raises(ArchiveError, match="damaged") as error:
            read_archive(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["r.zip", "r.tar.gz", "r.tar.bz2", "r.tar.xz"])
def test_a_bomb_is_stopped_long_before_it_is_unpacked(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "FREE", 1 << 16)
    seen = []
    count = archives._Meter.count

    def watch(meter: archives._Meter, data: bytes) -> bytes:
        seen.append(len(data))
        return count(meter, data)

    monkeypatch.setattr(archives._Meter, "count", watch)
    path = write(tmp_path / name, {"a.txt": bytes(64 << 20)})
    with pytest.raises(ArchiveError, match="more than 200 times its size"):
        read_archive(path)
    assert sum(seen) < (1 << 16) + 200 * path.stat().st_size + (2 << 20)


def test_what_a_zip_says_of_its_sizes_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FREE", 1 << 16)
    path = write_zip(tmp_path / "r.zip", {"a.txt": bytes(4 << 20)})
    lie = path.read_bytes().replace((4 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    path.write_bytes(lie)
    with pytest.raises(ArchiveError):
        read_archive(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("A/bike.txt")
    member.type, member.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "r.tar", "w") as archive:
        archive.addfile(member)
    with pytest.raises(ArchiveError, match=r"no plain file: 'A/bike\.txt'"):
        read_archive(tmp_path / "r.tar")


def test_a_sparse_file_in_a_tar_is_refused(tmp_path: Path) -> None:
    """It would unpack to any number of zeros that are nowhere in the archive."""
    member = tarfile.TarInfo("A/bike.txt")
    member.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % (1 << 32)  # the size it claims
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    (tmp_path / "r.tar").write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(ArchiveError, match="no plain file"):
        read_archive(tmp_path / "r.tar")


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    member = zipfile.ZipInfo("A/bike.txt")
    member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "r.zip", "w") as archive:
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(ArchiveError, match="no plain file"):
        read_archive(tmp_path / "r.zip")


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "r.zip", {"a.txt": b"1,2,3,4"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x03\x04") + 6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="encrypted"):
        read_archive(path)


def test_a_wrong_checksum_at_the_end_is_noticed(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "r.tar.gz", TEXTS)
    path.write_bytes(path.read_bytes()[:-8] + b"\0" * 4 + path.read_bytes()[-4:])
    with pytest.raises(ArchiveError, match="damaged"):
        read_archive(path)


def test_a_plain_tar_is_not_taken_for_a_zip_by_a_name_in_it(tmp_path: Path) -> None:
    assert read_archive(write_tar(tmp_path / "r", {"PKU/a.txt": b"1"})) == {"PKU/a.txt": b"1"}


def test_a_zip_made_on_windows_is_read(tmp_path: Path) -> None:
    assert read_archive(write_zip(tmp_path / "r.zip", {"A\\B\\bike.txt": b"1"})) == {"A/B/bike.txt": b"1"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"Rar!\x1a\x07\x01\x00....", "is a RAR archive"),
        (b"7z\xbc\xaf\x27\x1c....", "is a 7-Zip archive"),
        (b"\x28\xb5\x2f\xfd....", "is a Zstandard archive"),
        (b"%PDF-1.7 and so on" * 100, "neither a zip nor a tar"),
        (b"", "neither a zip nor a tar"),
    ],
)
def test_other_files_are_named(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "r").write_bytes(data)
    with pytest.raises(ArchiveError, match=message):
        read_archive(tmp_path / "r")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["r.zip", "r.tar", "r.tar.gz", "r.tar.xz", "r.tar.bz2"]),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=5),
)
def test_scrambled_bytes_give_an_archive_error_or_files_and_nothing_else(
    tmp_path: Path, name: str, changes: list[tuple[float, int]]
) -> None:
    path = write(tmp_path / name, TEXTS)
    data = bytearray(path.read_bytes())
    for place, value in changes:
        data[int(place * len(data))] = value
    path.write_bytes(data)
    try:
        found = read_archive(path)
    except ArchiveError as error:
        assert str(path) in str(error)
    else:
        assert all(".." not in member and member.endswith(archives.TEXT_SUFFIXES) for member in found)
