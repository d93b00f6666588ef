"""Files in the two layouts of torch.save, without torch: pickles are written opcode by opcode, hostile ones too.

A piece of a pickle is bytes that push one value; `program` makes a pickle of one.
"""

import struct
import zipfile

import numpy as np

KINDS = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}
NONE, TRUE, FALSE = b"N", b"\x88", b"\x89"


def word(module, name):
    return f"c{module}\n{name}\n".encode()


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def short_text(value):
    """As Python 2 wrote it."""
    return b"U" + bytes([len(value)]) + value.encode("ascii")


def integer(value):
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def row(*pieces):
    return b"(" + b"".join(pieces) + b"t"


def series(*pieces):
    return b"](" + b"".join(pieces) + b"e"


def call(module, name, *arguments):
    return word(module, name) + row(*arguments) + b"R"


def dictionary(items, empty=b"}"):
    """Of names to pieces."""
    return empty + b"(" + b"".join(text(name) + piece for name, piece in items.items()) + b"u"


def ordered(items):
    return dictionary(items, call("collections", "OrderedDict"))


def storage(layout, key, dtype, numel):
    kind = word("torch", KINDS[np.dtype(dtype).name])
    view = () if layout == "zip" else (NONE,)
    return row(text("storage"), kind, text(key), text("cpu"), integer(numel), *view) + b"Q"


def tensor(stored, shape, strides=None, offset=0):
    """Strides count elements; left out, they are those of a row-major array."""
    if strides is None:
        strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    shape, strides = (row(*map(integer, values)) for values in (shape, strides))
    return call("torch._utils", "_rebuild_tensor_v2", stored, integer(offset), shape, strides, FALSE, ordered({}))


def parameter(piece):
    return call("torch._utils", "_rebuild_parameter", piece, TRUE, ordered({}))


def program(piece):
    return b"\x80\x02" + piece + b"."


def pack(layout, state, storages):
    """A piece of nested dictionaries of arrays, each of which becomes a storage of its own."""
    if isinstance(state, dict):
        return ordered({name: pack(layout, value, storages) for name, value in state.items()})
    key = str(len(storages))
    storages[key] = np.asarray(state)
    return tensor(storage(layout, key, storages[key].dtype, storages[key].size), storages[key].shape)


def write_zip(path, pickled, storages, byteorder=b"little", compression=zipfile.ZIP_STORED):
    members = {"data.pkl": pickled, "byteorder": byteorder, "version": b"3\n"}
    members |= {f"data/{key}": array.tobytes() for key, array in storages.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), data, compression)  # without the time of day


def write_legacy(path, pickled, storages, little_endian=TRUE):
    machine = {"protocol_version": integer(1001), "little_endian": little_endian}
    head = (integer(0x1950A86A20F9469CFC6C), integer(1001), dictionary(machine))
    keys = series(*map(text, storages))
    data = (struct.pack("<q", array.size) + array.tobytes() for array in storages.values())
    path.write_bytes(b"".join(map(program, head)) + pickled + program(keys) + b"".join(data))


LAYOUTS = {"zip": write_zip, "legacy": write_legacy}


def save(path, layout, state):
    """As torch.save writes nested dictionaries of tensors."""
    storages = {}
    LAYOUTS[layout](path, program(pack(layout, state, storages)), storages)
    return path
