import gzip
import io
import os
import zipfile

import pytest

from market_data_pipeline.model.errors import SourceError
from market_data_pipeline.sources.formats import unpack
from market_data_pipeline.sources.formats.unpack import Packed, first_line, line_blocks

TEXT = b"".join(b"%d,%d\n" % (i, i * 7919) for i in range(4000))


@pytest.fixture
def path(tmp_path):
    def written(name: str, content: bytes):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return written


def zipped(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def test_all_forms_give_the_same_text(path):
    for name, content in (("a.csv", TEXT), ("a.csv.gz", gzip.compress(TEXT)), ("a.zip", zipped(("a.csv", TEXT)))):
        assert b"".join(line_blocks(path(name, content))) == TEXT
        assert first_line(path(name, content)) == "0,0"


def test_blocks_are_whole_lines(path, monkeypatch):
    monkeypatch.setattr(unpack, "BLOCK", 1000)
    blocks = list(line_blocks(path("a.csv.gz", gzip.compress(TEXT))))
    assert len(blocks) > 20
    assert all(block.endswith(b"\n") for block in blocks)
    assert b"".join(blocks) == TEXT


def test_a_gzip_of_several_members_is_legal(path):
    assert b"".join(line_blocks(path("a.csv.gz", gzip.compress(TEXT) + gzip.compress(TEXT)))) == TEXT * 2


@pytest.mark.parametrize("block", [1, 7, 4096, 4 << 20])
def test_a_gzip_torn_at_any_byte_is_found(path, monkeypatch, block):
    monkeypatch.setattr(unpack, "BLOCK", block)
    whole = gzip.compress(b"a,b\n" + os.urandom(40).hex().encode() + b"\n")
    for end in range(1, len(whole)):
        with pytest.raises(SourceError, match=r"a\.csv\.gz: torn or damaged .*fetch it again"):
            list(line_blocks(path("a.csv.gz", whole[:end])))


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:],
        lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
        lambda whole: whole[: len(whole) // 2] + b"\0\0\0\0" + whole[len(whole) // 2 + 4 :],
        lambda whole: whole + b"trailing garbage",
        lambda whole: whole + gzip.compress(b"more\n")[:-3],
        lambda _: TEXT,
    ],
    ids=["checksum", "length", "middle", "garbage", "second member torn", "no gzip"],
)
def test_a_damaged_gzip_is_found(path, damage):
    with pytest.raises(SourceError, match="torn or damaged"):
        list(line_blocks(path("a.csv.gz", damage(gzip.compress(TEXT)))))


def test_a_zip_torn_at_any_byte_is_found(path):
    whole = zipped(("a.csv", b"1,2\n" * 20))
    for end in range(1, len(whole)):
        with pytest.raises(SourceError, match=r"a\.zip: torn or damaged"):
            list(line_blocks(path("a.zip", whole[:end])))


def test_a_zip_with_a_wrong_checksum_is_found(path):
    whole = bytearray(zipped(("a.csv", TEXT)))
    whole[2000] ^= 0xFF
    with pytest.raises(SourceError, match="torn or damaged"):
        list(line_blocks(path("a.zip", bytes(whole))))


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([], "holds 0 files"),
        ([("a.csv", TEXT), ("b.csv", TEXT)], "holds 2 files, expected exactly one"),
        ([("a.exe", TEXT)], "holds 'a.exe', expected a .csv"),
    ],
)
def test_a_zip_holds_one_csv(path, members, why):
    with pytest.raises(SourceError, match=why):
        list(line_blocks(path("a.zip", zipped(*members))))


def test_nothing_in_the_file_is_torn_but_an_empty_text_is_an_empty_day(path):
    for name in ("a.csv", "a.csv.gz", "a.zip"):
        with pytest.raises(SourceError, match="is torn: it has 0 bytes"):
            list(line_blocks(path(name, b"")))
    for content in (gzip.compress(b""), gzip.compress(b"\n\n")):
        assert list(line_blocks(path("a.csv.gz", content))) == []
    assert list(line_blocks(path("a.zip", zipped(("a.csv", b""))))) == []
    assert first_line(path("a.csv.gz", gzip.compress(b""))) is None


def test_the_last_line_may_lack_its_end_and_empty_lines_may_follow_it(path):
    assert list(line_blocks(path("a.csv", b"1,2\n3,4"))) == [b"1,2\n3,4\n"]
    assert list(line_blocks(path("a.csv", b"1,2\r\n3,4\r\n\r\n\n"))) == [b"1,2\r\n3,4\n"]


def test_reading_is_bounded(path, monkeypatch):
    bomb = path("a.csv.gz", gzip.compress(bytes(64 << 20)))
    with pytest.raises(SourceError, match="a line is longer than 1 MiB"):
        list(line_blocks(bomb))
    monkeypatch.setattr(unpack, "_LARGEST", len(TEXT) - 1)
    with pytest.raises(SourceError, match="unpacks to more than"):
        list(line_blocks(path("b.csv.gz", gzip.compress(TEXT))))


def test_what_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"gone\.csv: cannot be opened: No such file"):
        list(line_blocks(tmp_path / "gone.csv"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(SourceError, match="is no regular file"):
        list(line_blocks(tmp_path / "folder.csv"))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_that_could_unpack_without_bounds_is_refused(path, method):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("a.csv", TEXT)
    with pytest.raises(SourceError, match=rf"'a\.csv' is packed by method {method}, not deflate"):
        list(line_blocks(path("a.zip", buffer.getvalue())))


@pytest.mark.parametrize("name", ["a.csv.gz", "a.zip", "packed"])
def test_a_bomb_of_lines_is_refused_long_before_it_is_unpacked(path, monkeypatch, name):
    monkeypatch.setattr(unpack, "BLOCK", 1 << 16)
    monkeypatch.setattr(unpack, "_ALWAYS_BELIEVED", 1 << 20)
    bomb = b"1,1\n" * (8 << 20)
    content = zipped(("a.csv", bomb)) if name == "a.zip" else gzip.compress(bomb)
    origin = Packed("bomb", ".gz", lambda: io.BytesIO(content)) if name == "packed" else path(name, content)
    unpacked: list[int] = []
    with pytest.raises(SourceError, match="unpacks to more than 200 times its size"):
        unpacked.extend(len(block) for block in line_blocks(origin))
    assert sum(unpacked) < len(bomb) / 4


@pytest.mark.parametrize("name", ["../../a.csv", "/etc/a.csv", "..\\a.csv"])
def test_a_members_name_leads_nowhere(path, tmp_path, name):
    zip_ = path("a.zip", zipped((name, TEXT)))
    before = {each.name for each in tmp_path.parent.iterdir()}
    assert b"".join(line_blocks(zip_)) == TEXT
    assert {each.name for each in tmp_path.iterdir()} == {"a.zip"}
    assert {each.name for each in tmp_path.parent.iterdir()} == before
