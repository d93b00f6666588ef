"""Small files that would unpack to a great deal are refused in one line, after little memory and little time."""

import contextlib
import gzip
import io
import lzma
import math
import struct
import tarfile
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from genmodels.data import bounded, media
from genmodels.data.base import Settings
from genmodels.data.npz import open_npz
from genmodels.data.sources import make_source, read_images
from genmodels.errors import ConfigError, DataError
from tests.data.files import noise, write_folder
from tests.data.test_data import write_idx
from tests.data.test_images import encoded

GREAT = 2**25  # bytes that the bombs here unpack to
LITTLE = 2**23


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENMODELS_CACHE", str(tmp_path / "cache"))


@contextlib.contextmanager
def refused(words, error=DataError):
    """A context manager whose block must raise a DataError of one line, and take little memory until then."""
    tracemalloc.start()
    try:
        with pytest.raises(error, match=words) as caught:
            yield
        assert tracemalloc.get_traced_memory()[1] < LITTLE
        assert "\n" not in str(caught.value)
    finally:
        tracemalloc.stop()


IMAGES = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
LABELS = np.array([4, 0, 1], np.uint8)
DOTTED = ["{}-{}-{}-ubyte", "{}-{}.{}-ubyte", "{}.{}.{}.ubyte", "{}_{}_{}_ubyte", "{}-{}-{}.ubyte"]


@pytest.mark.parametrize("form", DOTTED)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_names_that_archives_of_mnist_unpack_to(form, suffix, tmp_path):
    for stem in ("train", "t10k"):
        write_idx(tmp_path / f"{form.format(stem, 'images', 'idx3')}{suffix}", IMAGES)
        write_idx(tmp_path / f"{form.format(stem, 'labels', 'idx1')}{suffix}", LABELS)
    for split in ("train", "test"):
        source = make_source(f"idx:{tmp_path}", split)
        np.testing.assert_array_equal(source.images[..., 0], IMAGES)
        np.testing.assert_array_equal(source.labels, LABELS)


def test_the_case_of_dotted_names(shared):
    folder = shared / "cases" / "idx_dot"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    source = make_source(f"idx:{folder}")
    assert source.labels is not None
    assert len(source) == len(source.labels) > 0


def test_mnists_own_name_comes_first_and_a_similar_one_is_suggested(tmp_path):
    write_idx(tmp_path / "train-images.idx3-ubyte.gz", IMAGES[::-1])
    write_idx(tmp_path / "train-images-idx3-ubyte", IMAGES)
    write_idx(tmp_path / "emnist-train-labels-idx1-ubyte", LABELS)
    with pytest.raises(DataError, match="rename emnist-train-labels-idx1-ubyte, if it is that file"):
        make_source(f"idx:{tmp_path}")
    (tmp_path / "emnist-train-labels-idx1-ubyte").rename(tmp_path / "train-labels.idx1-ubyte")
    np.testing.assert_array_equal(make_source(f"idx:{tmp_path}").images[..., 0], IMAGES)
    write_idx(tmp_path / "test-images-idx3-ubyte", IMAGES)
    write_idx(tmp_path / "test-labels-idx1-ubyte", LABELS)
    assert len(make_source(f"idx:{tmp_path}", "test")) == 3


def head(*lengths):
    return bytes([0, 0, 8, len(lengths)]) + struct.pack(f">{len(lengths)}I", *lengths)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (gzip.compress(head(3, 4, 4) + bytes(GREAT)), "more than the 48 bytes that its header promises"),
        (gzip.compress(bytes(GREAT)), "not an idx file"),
        (gzip.compress(head(*[2**32 - 1] * 3) + bytes(99)), "not enough memory"),
        (gzip.compress(head(2**31, 2**31, 4) + bytes(99)), "not enough memory"),  # 2^64, which is 0 in 64 bits
        (gzip.compress(head(2**31, 2**31, 2)), "not enough memory"),  # 2^63, which is negative
        (gzip.compress(head(*[1] * 200) + bytes(1)), "1 to 4 axes"),
        (gzip.compress(head(3, 4, 4)[:9]), "truncated"),
        (gzip.compress(head(3, 4, 4) + bytes(47)), "truncated: it should have 48 bytes"),
    ],
)
def test_idx_files_that_hold_other_than_their_headers_promise(data, words, tmp_path, monkeypatch):
    monkeypatch.setattr(bounded, "free_memory", lambda: 2.0**40)
    write_idx(tmp_path / "train-labels-idx1-ubyte", LABELS)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(data)
    with refused(rf"train-images-idx3-ubyte\.gz: cannot be read: .*{words}"):
        make_source(f"idx:{tmp_path}")
    (tmp_path / "train-images-idx3-ubyte.gz").unlink()
    (tmp_path / "train-images-idx3-ubyte").write_bytes(gzip.decompress(data))
    with refused(words):
        make_source(f"idx:{tmp_path}")


def test_memory_is_asked_for_before_it_is_taken(tmp_path, monkeypatch):
    assert bounded.free_memory() > 2**20
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", np.zeros((32, 1024, 1024), np.uint8))
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((32, 1024, 1024), np.uint8))
    monkeypatch.setattr(bounded, "free_memory", lambda: 2.0**20)
    for spec in (f"idx:{tmp_path}", f"npz:{tmp_path}/a.npz"):
        with refused("33,554,432 bytes, for which there is not enough memory"):
            make_source(spec)


def npy(shape, descr="'|u1'", fortran=False, version=1):
    text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text


NPZ = {
    "more than promised": (npy("(3, 4, 4)") + bytes(GREAT), "promises 48 bytes, it has 33,554,432"),
    "less than promised": (npy("(3, 4, 4)") + bytes(47), "promises 48 bytes, it has 47"),
    "2^64 bytes": (npy(f"({2**62}, 4)") + bytes(99), "it has 99"),
    "2^63 bytes": (npy(f"({2**62}, 2)") + bytes(99), "it has 99"),
    "a great dtype": (npy("(1,)", f"'|S{2**30}'") + bytes(99), "it has 99"),
    "a long header": (npy("(3,)", version=2)[:8] + struct.pack("<I", GREAT) + bytes(GREAT), "format"),
    "negative lengths": (npy("(-3, -16)") + bytes(48), "negative"),
    "objects": (npy("(1,)", "'|O'") + b"cos\nsystem\n", "objects"),
    "many axes": (npy(f"({'1, ' * 99})") + bytes(1), "images"),
    "nested brackets": (npy("(" * 3000 + ")" * 3000) + bytes(1), "images"),
    "no header": (bytes(GREAT), "magic"),
}


@pytest.mark.parametrize("what", NPZ)
def test_npz_members_that_hold_other_than_their_headers_promise(what, tmp_path, monkeypatch):
    monkeypatch.setattr(bounded, "free_memory", lambda: 2.0**40)
    data, words = NPZ[what]
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", data)
    with refused(rf"a\.npz: not a readable \.npz .*{words}"):
        make_source(f"npz:{tmp_path}/a.npz")


def test_an_npz_of_another_method_or_that_is_an_npy_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("images.npy", npy("(3, 4, 4)") + bytes(GREAT))
    with refused("packed by a method"):
        make_source(f"npz:{tmp_path}/a.npz")
    np.save(tmp_path / "b.npy", np.zeros(GREAT, np.uint8))
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    with refused("a single array"):
        make_source(f"npz:{tmp_path}/b.npz")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3)),
        np.array(5),
        np.array("words"),
        np.array("", "U"),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(4, dtype=">i4"),
        np.ones(3, np.complex64),
        np.array([True, False]),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_plain_arrays_come_back_as_numpy_reads_them(array, tmp_path):
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", array=array)
        with open_npz(tmp_path / "a.npz", "a") as file, np.load(tmp_path / "a.npz") as wanted:
            found = file["array"]
            assert (list(file), found.dtype, found.shape) == (["array"], array.dtype, array.shape)
            np.testing.assert_array_equal(found, wanted["array"])
            assert found.flags.f_contiguous == wanted["array"].flags.f_contiguous


def understated(path, name, size):
    """Changes an archive of one member so that it says that the member unpacks to `size` bytes."""
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        true = struct.pack("<I", archive.getinfo(name).file_size)
    place = data.find(true)
    while place >= 0:
        data[place : place + 4] = struct.pack("<I", size)
        place = data.find(true, place + 1)
    path.write_bytes(data)


@pytest.mark.parametrize(("method", "words"), [(zipfile.ZIP_DEFLATED, "CRC"), (zipfile.ZIP_BZIP2, "method")])
def test_a_member_of_a_zip_unpacks_to_no_more_than_the_archive_says(method, words, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a.png", encoded(noise(4, 4)).getvalue() + bytes(GREAT))
    understated(tmp_path / "a.zip", "a.png", 1000)
    with refused(rf"a\.png cannot be read: .*{words}"):
        make_source(f"zip:{tmp_path}/a.zip")


def test_a_file_in_a_folder_may_be_no_larger_than_a_member(tmp_path, monkeypatch):
    write_folder(tmp_path / "data", ["a.png", "b.png"])
    monkeypatch.setattr(media, "MAX_FILE_BYTES", LITTLE)
    with (tmp_path / "data" / "b.png").open("ab") as file:
        file.truncate(GREAT)
    with refused(r"b\.png cannot be read: .* 33,554,432 bytes; an image may have at most"):
        make_source(f"folder:{tmp_path}/data")
    with refused(r"b\.png cannot be read: .* 33,554,432 bytes"):
        read_images("--input", f"{tmp_path}/data/b.png", single=True)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_a_tar_may_not_claim_much(mode, kind, tmp_path):
    header = tarfile.TarInfo("header")
    header.type = kind
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = tarfile.itn(2**40, 12, tarfile.GNU_FORMAT)
    block[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(block))[0]
    unpacked = bytes(block) + bytes(GREAT)
    (tmp_path / "a.tar").write_bytes(PACK[mode](unpacked))
    with refused("claims to have 1,099,511,627,776 bytes"):
        make_source(f"tar:{tmp_path}/a.tar")


def bz2_of(data):
    import bz2

    return bz2.compress(data)


PACK = {"w": lambda data: data, "w:gz": gzip.compress, "w:bz2": bz2_of, "w:xz": lambda d: lzma.compress(d, preset=0)}


def test_an_xz_file_may_not_ask_for_a_great_dictionary(tmp_path):
    write_folder(tmp_path / "data", ["a.png"])
    with tarfile.open(tmp_path / "a.tar", "w:xz") as tar:
        tar.add(tmp_path / "data" / "a.png", "a.png")
    assert len(make_source(f"tar:{tmp_path}/a.tar")) == 1
    data = bytearray((tmp_path / "a.tar").read_bytes())
    size = 4 * (data[12] + 1)  # of the header of the first block, which ends with its checksum
    place = data.index(b"\x21\x01", 12) + 2  # LZMA2 with one byte of options: the size of the dictionary
    data[place] = 38  # 2 GiB
    data[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(data[12 : 12 + size - 4]))
    (tmp_path / "a.tar").write_bytes(data)
    with refused("Memory usage limit"):
        make_source(f"tar:{tmp_path}/a.tar")


def test_a_compressed_tar_of_a_great_member_that_is_no_image_is_read(tmp_path):
    image = encoded(noise(4, 4)).getvalue()
    with tarfile.open(tmp_path / "a.tar", "w:gz", compresslevel=1) as tar:
        for name, contents in (("film.mp4", bytes(GREAT)), ("a.png", image), ("b/c.png", image)):
            member = tarfile.TarInfo(name.rpartition("/")[2])
            member.size = len(contents)
            tar.addfile(member, io.BytesIO(contents))
    tracemalloc.start()
    assert make_source(f"tar:{tmp_path}/a.tar").files == ("a.png", "c.png")
    assert tracemalloc.get_traced_memory()[1] < LITTLE
    tracemalloc.stop()


LONG = "a" * 5000


@pytest.mark.parametrize("spec", ["folder:{}", "npz:{}", "idx:{}", "tar:{}/b.tar", "zip:{}", "folder:b\0", "npz:b\0"])
def test_a_name_that_no_file_can_have_is_no_such_file(spec):
    with pytest.raises(DataError, match="cannot be opened") as error:
        make_source(spec.format(LONG))
    assert "\n" not in str(error.value)


def test_a_source_that_is_nested_too_deeply_is_refused():
    for spec in (f"folder('x', size={'-' * 9000}1)", "split(" * 150 + '"digits"' + ")" * 150, "split(" * 9000):
        with pytest.raises(ConfigError, match=r"\w"):
            make_source(spec)


def test_a_caption_that_is_nested_too_deeply_is_refused(tmp_path):
    write_folder(tmp_path, ["a.png"])
    (tmp_path / "captions.jsonl").write_text('{"file": "a.png", "caption": ' + "[" * 100_000 + "\n")
    with pytest.raises(DataError, match=r"captions\.jsonl, line 1"):
        make_source(f"folder:{tmp_path}", "train", Settings())


def test_free_memory_is_a_number_of_bytes_or_infinite(monkeypatch):
    monkeypatch.setattr(bounded, "_text", lambda path: "")
    assert bounded.free_memory() == math.inf
    texts = {"/proc/meminfo": "MemFree: 1 kB\nMemAvailable:   3 kB\n", bounded.LIMITS[0]: "max\n"}
    monkeypatch.setattr(bounded, "_text", lambda path: texts.get(path, ""))
    assert bounded.free_memory() == 3072
    texts[bounded.LIMITS[0]] = "2000\n"
    assert bounded.free_memory() == 2000


def test_a_zip_of_a_version_to_come_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", encoded(noise(4, 4)).getvalue())
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[data.index(b"PK\1\2") + 6] = 195
    (tmp_path / "a.zip").write_bytes(data)
    with refused("the archive cannot be read .zip file version"):
        make_source(f"zip:{tmp_path}/a.zip")
