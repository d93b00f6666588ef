"""Tars and zips read in place: the same as the folder that was packed, or one clear line."""

import io
import os
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from genmodels.data import media
from genmodels.data.base import Settings
from genmodels.data.sources import make_source
from genmodels.errors import DataError
from tests.data.files import noise, pack, write_folder

CLASSES = [f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(4)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENMODELS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.xz", ".zip"])
@pytest.mark.parametrize("inside", ["", "./", "photos/"])
def test_an_archive_is_its_folder(suffix, inside, tmp_path):
    write_folder(tmp_path / "data", CLASSES)
    (tmp_path / "data" / "captions.jsonl").write_text('{"file": "dog/2.png", "caption": "a dog"}\n')
    folder = make_source(f"folder:{tmp_path}/data")
    path = pack(tmp_path / "data", tmp_path / f"packed{suffix}", inside)
    scheme = "zip" if suffix == ".zip" else "tar"
    archive = make_source(f"{scheme}:{path}")
    assert archive.fingerprint == folder.fingerprint
    assert archive.class_names == folder.class_names
    assert archive.captions == folder.captions == ("",) * 6 + ("a dog", "")
    np.testing.assert_array_equal(archive.images, folder.images)


def test_a_compressed_tar_cannot_be_streamed(tmp_path):
    write_folder(tmp_path / "data", CLASSES)
    path = pack(tmp_path / "data", tmp_path / "packed.tar.gz")
    with pytest.raises(DataError, match="decompress it, or raise memory_gb"):
        make_source(f"tar:{path}", "train", Settings(memory_gb=0.0))


def test_a_tar_or_zip_that_leads_out_of_itself_is_refused(tmp_path):
    png = io.BytesIO()
    Image.fromarray(noise(4, 4)).save(png, "PNG")
    for number, name in enumerate(("../evil.png", "/etc/evil.png", "a/../../evil.png")):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as tar:
            member = tarfile.TarInfo(name)
            member.size = len(png.getvalue())
            tar.addfile(member, io.BytesIO(png.getvalue()))
        with zipfile.ZipFile(tmp_path / f"{number}.zip", "w") as archive:
            archive.writestr(name, png.getvalue())
        for scheme in ("tar", "zip"):
            with pytest.raises(DataError, match="leads out of the archive"):
                make_source(f"{scheme}:{tmp_path}/{number}.{scheme}")


def test_archives_that_are_none_or_cut_short(tmp_path):
    write_folder(tmp_path / "data", CLASSES)
    for suffix, scheme in ((".tar", "tar"), (".tar.gz", "tar"), (".tar.xz", "tar"), (".zip", "zip")):
        path = pack(tmp_path / "data", tmp_path / f"packed{suffix}")
        whole = path.read_bytes()
        for damaged in (b"", b"hello" * 300, whole[: len(whole) // 2]):
            path.write_bytes(damaged)
            with pytest.raises(DataError, match=r"packed.*(cannot be read|no images)"):
                make_source(f"{scheme}:{path}")


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_links_in_a_tar_are_followed_inside_it(suffix, tmp_path):
    write_folder(tmp_path / "data", ["cat/0.png", "cat/1.png"])
    os.link(tmp_path / "data" / "cat" / "0.png", tmp_path / "data" / "cat" / "hard.png")
    (tmp_path / "data" / "dog").mkdir()
    (tmp_path / "data" / "dog" / "soft.png").symlink_to("../cat/1.png")
    folder = make_source(f"folder:{tmp_path}/data")
    with tarfile.open(tmp_path / f"packed{suffix}", f"w:{suffix[5:]}") as tar:
        tar.add(tmp_path / "data", ".")
    assert folder.files == ("cat/0.png", "cat/1.png", "cat/hard.png", "dog/soft.png")
    assert make_source(f"tar:{tmp_path}/packed{suffix}").fingerprint == folder.fingerprint
    with tarfile.open(tmp_path / "out.tar", "w") as tar:
        tar.add(tmp_path / "data" / "dog" / "soft.png", "soft.png")
    with pytest.raises(DataError, match=r"soft\.png is a link to \.\./cat/1\.png, which the archive does not hold"):
        make_source(f"tar:{tmp_path}/out.tar")


def test_a_compressed_tar_is_known_by_its_contents_and_a_damaged_zip_names_the_member(tmp_path):
    write_folder(tmp_path / "data", CLASSES)
    wanted = make_source(f"folder:{tmp_path}/data").fingerprint
    pack(tmp_path / "data", tmp_path / "a.tar.gz").rename(tmp_path / "plain.tar")
    assert make_source(f"tar:{tmp_path}/plain.tar").fingerprint == wanted
    path = pack(tmp_path / "data", tmp_path / "a.zip")
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("cat/2.png")
    data = bytearray(path.read_bytes())
    start = info.header_offset + 30 + len(info.filename)
    data[start + 2 : start + 12] = bytes(10)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"cat/2\.png cannot be read: .*skip_damaged=True"):
        make_source(f"zip:{path}")
    assert len(make_source(f"zip:{path}", "train", Settings(skip_damaged=True))) == 7


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".zip"])
def test_a_large_file_is_refused_only_where_it_is_an_image(suffix, tmp_path, monkeypatch):
    write_folder(tmp_path / "data", CLASSES)
    (tmp_path / "data" / "film.mp4").write_bytes(os.urandom(3000))
    scheme = "zip" if suffix == ".zip" else "tar"
    spec = f"{scheme}:{pack(tmp_path / 'data', tmp_path / f'packed{suffix}')}"
    monkeypatch.setattr(media, "MAX_FILE_BYTES", 2000)
    assert len(make_source(spec)) == 8
    Image.fromarray(noise(40, 40, 3)).save(tmp_path / "data" / "cat" / "huge.png")
    pack(tmp_path / "data", tmp_path / f"packed{suffix}")
    with pytest.raises(
        DataError, match=r"cat/huge\.png cannot be read: .* has [\d,]+ bytes; an image may have at most"
    ):
        make_source(spec)
