"""What the header of a safetensors file claims is checked before memory is taken for it."""

import json
import struct
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy

from genmodels.errors import StorageError
from genmodels.interop.model_folder import read_tensors

NAME = "model.safetensors"


def with_header(header, data=b"", size=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def tensor(shape, begin, end, dtype="F32"):
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}}


HOSTILE = {
    "a header of 2^63 bytes": with_header(b"{}", size=2**63),
    "a header of 8 GB": with_header(b"{}", size=2**33),
    "a header beyond the end": with_header(b"{}", size=99),
    "8 GB that are not there": with_header(tensor([2**31], 0, 2**33), bytes(16)),
    "2^64 values": with_header(tensor([2**32, 2**32], 0, 0)),
    "2^63 bytes": with_header(tensor([2**61], 0, 2**63), bytes(16)),
    "more values than bytes": with_header(tensor([5], 0, 16), bytes(16)),
    "an end before the beginning": with_header(tensor([4], 16, 0), bytes(16)),
    "overlapping tensors": with_header(tensor([4], 0, 16) | {"b": tensor([4], 0, 16)["a"]}, bytes(16)),
    "deeply nested": with_header(b"[" * 100_000),
    "no object": with_header([1, 2]),
    "negative": with_header(tensor([-4], 0, 16), bytes(16)),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_header_that_claims_what_is_not_there_is_refused(what, tmp_path):
    (tmp_path / NAME).write_bytes(HOSTILE[what])
    tracemalloc.start()
    with pytest.raises(StorageError, match=NAME) as error:
        read_tensors(tmp_path, NAME)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()
    assert "\n" not in str(error.value)


def test_a_file_that_keeps_its_promise_is_read(tmp_path):
    safetensors.numpy.save_file({"a": np.arange(4, dtype=np.float32)}, tmp_path / NAME)
    assert (tmp_path / NAME).read_bytes()[8:].rstrip(b" ").startswith(b"{")
    np.testing.assert_array_equal(read_tensors(tmp_path, NAME)["a"], [0, 1, 2, 3])
    (tmp_path / NAME).write_bytes(with_header(tensor([4], 0, 16), np.ones(4, "f4").tobytes()))
    np.testing.assert_array_equal(read_tensors(tmp_path, NAME)["a"], np.ones(4))
