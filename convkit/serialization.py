"""Saving and loading arrays in the safetensors format.

A file is eight bytes (the header's length, little-endian), the header, and the data. The header is a JSON object
``{name: {"dtype", "shape", "data_offsets": [begin, end]}}``, with ``"__metadata__"`` for strings. Nothing in it can run
code. A file from a stranger may still lie, so every rule of the format is checked before an array is made, and
whatever is wrong with a file is a ``FormatError``.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convkit.errors import DtypeError, FormatError
from convkit.spec import common
from convkit.spec.common import shown

if TYPE_CHECKING:
    from convkit.nn.module import Module

MAX_HEADER = 100_000_000  # bytes; the limit of the format's own reader
MAX_SIZE = 2**63 - 1
MAX_AXES = 32  # what NumPy 1.26 can hold
METADATA = "__metadata__"

# The format's dtypes that NumPy has. BF16 is read too, as float32, which holds every one of its values.
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
          "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1"}
_NAMES = {np.dtype(text): name for name, text in DTYPES.items()}


class _Entry(NamedTuple):
    """One array's place in the file, checked."""

    name: str
    dtype: str
    shape: tuple
    begin: int
    end: int


def save(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]] | Module,
         metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays to a safetensors file.

    The file appears under its name only when it is complete and on the disk: a crash leaves the old one.

    Parameters
    ----------
    path : str or PathLike
    arrays : dict of str to ndarray, or Module
        A module's ``state_dict()`` is saved. Any layout and byte order; no objects, strings or complex numbers.
    metadata : dict of str to str, optional

    Raises
    ------
    DtypeError
        If a name is no string, or a value is no array of a dtype that the format has.
    """
    if hasattr(arrays, "state_dict"):
        arrays = arrays.state_dict()
    named = common.mapping("arrays", arrays, "a Module or a dict of arrays")
    arrays = {_checked_name(name): _little_endian(name, array) for name, array in named.items()}
    # Wide dtypes first, so that every array starts at a multiple of its item size.
    arrays = dict(sorted(arrays.items(), key=lambda item: -item[1].itemsize))
    replace_file(os.path.realpath(path), [_header(arrays, metadata), *(_bytes_of(a) for a in arrays.values())])


def load(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Read all arrays of a safetensors file.

    Parameters
    ----------
    path : str or PathLike

    Returns
    -------
    dict of str to ndarray
        Writable arrays in the order of the file; F16 as float16, BF16 widened to float32.

    Raises
    ------
    FormatError
        If the file breaks a rule of the format or has a dtype that NumPy does not have.
    OSError
        If it cannot be read.
    """
    with open(path, "rb") as file:
        entries, _ = _read_header(file)
        return {entry.name: _read_array(file, entry) for entry in entries}


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The strings that ``save`` was given as ``metadata``.

    Parameters
    ----------
    path : str or PathLike

    Returns
    -------
    dict of str to str
        Empty where the file has none. The file is checked as by ``load``, but its arrays are not read.
    """
    with open(path, "rb") as file:
        return _read_header(file)[1]


# -- writing -----------------------------------------------------------------------------------------------


def _checked_name(name):
    if not isinstance(name, str):
        raise DtypeError(f"names of arrays must be strings, got {name!r}")
    if name == METADATA:
        raise DtypeError(f"{METADATA!r} cannot name an array; it is the format's name for the metadata")
    return name


def _little_endian(name, array):
    dtype = common.array(f"arrays[{name!r}]", array).dtype.newbyteorder("<")
    if dtype not in _NAMES:
        raise DtypeError(f"{name!r} has dtype {array.dtype}, which the format does not have; "
                         f"it has {', '.join(str(d) for d in _NAMES)}")
    return np.asarray(array, dtype=dtype, order="C")


def _header(arrays, metadata):
    header = {}
    if metadata is not None:
        common.mapping("metadata", metadata, "a dict of strings")
        if not all(isinstance(k, str) and isinstance(v, str) for k, v in metadata.items()):
            raise DtypeError(f"metadata must map strings to strings, got metadata={shown(metadata)}")
        header[METADATA] = dict(metadata)
    offset = 0
    for name, a in arrays.items():
        header[name] = {"dtype": _NAMES[a.dtype], "shape": a.shape, "data_offsets": (offset, offset + a.nbytes)}
        offset += a.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise FormatError(f"the header would take {len(text)} bytes, more than the format's {MAX_HEADER}")
    return len(text).to_bytes(8, "little") + text


def _bytes_of(array):
    return memoryview(array.reshape(-1).view(np.uint8)) if array.size else b""


def replace_file(path, chunks):
    """Write to a new file beside ``path``, wait for the disk, then give it the name."""
    temporary = f"{path}.{secrets.token_hex(8)}.tmp"
    try:
        with open(temporary, "xb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    _sync_folder(os.path.dirname(path))


def _sync_folder(folder):
    """Make a rename last through a power cut, where the system can do that."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# -- reading -----------------------------------------------------------------------------------------------


def _read_header(file):
    """The entries in the order of their data, and the metadata; leaves ``file`` at the start of the data."""
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise FormatError(f"the file has {size} bytes, fewer than the 8 of a header's length")
    first = _exactly(file, 8)
    if first.startswith(b"PK\x03\x04"):
        raise FormatError("the file is a ZIP archive, as torch.save and np.savez write, and no safetensors file")
    length = int.from_bytes(first, "little")
    if length > MAX_HEADER:
        raise FormatError(f"the header claims {length} bytes, more than the format's {MAX_HEADER}")
    if length > size - 8:
        raise FormatError(f"the header claims {length} bytes, but the file has only {size - 8} after its length")
    header = _parse(_exactly(file, length))
    metadata = _checked_metadata(header.pop(METADATA, {}))
    _check_text((*header, *metadata, *metadata.values()))
    entries = sorted((_checked_entry(name, value) for name, value in header.items()), key=lambda e: (e.begin, e.end))
    _check_places(entries, size - 8 - length)
    return entries, metadata


def _exactly(file, n):
    data = file.read(n)
    if len(data) != n:
        raise FormatError(f"the file ended {n - len(data)} bytes early")
    return data


def _parse(text):
    if not text.startswith(b"{"):
        raise FormatError("the header must be a JSON object starting with '{'")
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates, parse_constant=_no_constant,
                            parse_float=_no_float)
    except FormatError:
        raise
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"the header is not valid JSON in UTF-8: {exc}") from None
    return header


def _without_duplicates(pairs):
    result = dict(pairs)
    if len(result) != len(pairs):
        seen = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise FormatError(f"the header has the key {shown(twice)} more than once")
    return result


def _no_constant(text):
    raise FormatError(f"the header has {text}, which JSON does not have")


def _no_float(text):
    raise FormatError(f"the header has the number {text[:40]}, where only whole numbers can be")


def _checked_metadata(metadata):
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FormatError(f"{METADATA} must map strings to strings")
    return metadata


def _check_text(strings):
    """JSON can spell half of a surrogate pair, which is no text."""
    try:
        "".join(strings).encode("utf-8")
    except UnicodeEncodeError:
        raise FormatError("the header has a string that is not valid Unicode") from None


def _checked_entry(name, value):
    label = shown(name)
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{label} must have dtype, shape and data_offsets and nothing else")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or (dtype not in DTYPES and dtype != "BF16"):
        raise FormatError(f"{label} has dtype {shown(dtype)}; known are {', '.join(DTYPES)}, BF16")
    if not _whole_numbers(shape) or len(shape) > MAX_AXES:
        raise FormatError(f"{label} must have a shape of at most {MAX_AXES} whole numbers from 0 to 2**63 - 1")
    if not _whole_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise FormatError(f"{label} must have data_offsets [begin, end] with 0 <= begin <= end")
    item = _item_size(dtype)
    if prod(n for n in shape if n) * item > MAX_SIZE:
        raise FormatError(f"{label} has a shape whose size overflows")
    begin, end = offsets
    if prod(shape) * item != end - begin:
        raise FormatError(f"{label} has {end - begin} bytes of data, but its shape and dtype ask for "
                          f"{prod(shape) * item}")
    return _Entry(name, dtype, tuple(shape), begin, end)


def _whole_numbers(values):
    return isinstance(values, list) and all(type(v) is int and 0 <= v <= MAX_SIZE for v in values)


def _item_size(dtype):
    return 2 if dtype == "BF16" else np.dtype(DTYPES[dtype]).itemsize


def _check_places(entries, size):
    """The data of all entries must fill the rest of the file without hole or overlap."""
    end = 0
    for entry in entries:
        if entry.begin != end:
            raise FormatError(f"{shown(entry.name)} begins at byte {entry.begin} of the data, "
                              f"but the data before ends at {end}")
        end = entry.end
    if end != size:
        raise FormatError(f"the arrays take {end} bytes, but the file has {size} after its header")


def _read_array(file, entry):
    array = np.empty(entry.shape, "<u2" if entry.dtype == "BF16" else DTYPES[entry.dtype])
    if array.size:
        got = file.readinto(memoryview(array.reshape(-1).view(np.uint8)))
        if got != array.nbytes:
            raise FormatError(f"the file ended in the data of {shown(entry.name)}")
    if entry.dtype == "BF16":
        bits = array.astype(np.uint32)
        bits <<= 16  # in place: an array without axes stays an array
        array = bits.view(np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
