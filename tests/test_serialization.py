"""The safetensors reader and writer: round trips, every rule of the format, and mutated files."""

import json
import os
import stat
import struct

import numpy as np
import pytest

from convkit import load, load_metadata, save
from convkit.errors import DtypeError, FormatError
from convkit.serialization import DTYPES


def _file(path, header, data=b"", length=None):
    """A file from a header (bytes, or an object to be written as JSON) and data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def _entry(dtype="F32", shape=(2,), begin=0, end=8, **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end], **more}


def _assert_same(got, want):
    assert set(got) == set(want)
    for name, a in want.items():
        assert got[name].dtype == a.dtype.newbyteorder("=") and got[name].shape == a.shape, name
        assert got[name].flags.writeable and got[name].flags.c_contiguous and got[name].flags.aligned
        np.testing.assert_array_equal(got[name], a)


# -- round trips -------------------------------------------------------------------------------------------


def test_every_dtype_and_layout_comes_back(tmp_path):
    rng = np.random.default_rng(0)
    base = rng.integers(0, 100, (4, 6))
    arrays = {name: base.astype(text) for name, text in DTYPES.items()}
    arrays |= {"scalar": np.array(3.5), "empty": np.zeros((0, 3), np.float32), "fortran": np.asfortranarray(base * 0.5),
               "reversed": base[::-1, ::2], "big": base.astype(">f4"), "ünï/ 名": np.ones(1, np.int8),
               "nan": np.array([np.nan, np.inf, -0.0])}
    save(tmp_path / "a", arrays)
    _assert_same(load(tmp_path / "a"), arrays)


def test_arrays_are_aligned_and_the_bytes_depend_only_on_the_content(tmp_path):
    arrays = {"b": np.ones(3, np.int8), "a": np.ones(5, np.float64), "c": np.ones(1, np.float32)}
    save(tmp_path / "1", arrays)
    save(tmp_path / "2", {name: a.copy(order="F") for name, a in arrays.items()})
    raw = (tmp_path / "1").read_bytes()
    assert raw == (tmp_path / "2").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    assert length % 8 == 0
    for name, entry in json.loads(raw[8:8 + length]).items():
        assert entry["data_offsets"][0] % arrays[name].itemsize == 0


def test_metadata(tmp_path):
    save(tmp_path / "a", {"x": np.zeros(2)}, metadata={"epoch": "3", "Ω": "µ"})
    assert load_metadata(tmp_path / "a") == {"epoch": "3", "Ω": "µ"}
    save(tmp_path / "b", {})
    assert load(tmp_path / "b") == {} and load_metadata(tmp_path / "b") == {}


def test_bfloat16_is_widened(tmp_path):
    values = np.array([1.0, -2.5, np.inf, 2.0**-126], np.float32)
    bits = (values.view(np.uint32) >> 16).astype("<u2")
    got = load(_file(tmp_path / "a", {"x": _entry("BF16", (2, 2), 0, 8)}, bits.tobytes()))["x"]
    assert got.dtype == np.float32 and got.shape == (2, 2)
    np.testing.assert_array_equal(got.ravel(), values)
    scalar = load(_file(tmp_path / "b", {"x": _entry("BF16", (), 0, 2)}, bits[:1].tobytes()))["x"]
    assert isinstance(scalar, np.ndarray) and scalar == 1.0


def test_agrees_with_the_safetensors_package(tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(1)
    dtypes = np.float32, np.float64, np.float16
    arrays = {f"layer.{i}": rng.normal(size=(i, 3)).astype(dtypes[i % 3]) for i in range(6)}
    save(tmp_path / "ours", arrays, metadata={"a": "b"})
    _assert_same(package.load_file(tmp_path / "ours"), arrays)
    package.save_file(arrays, tmp_path / "theirs", metadata={"a": "b"})
    _assert_same(load(tmp_path / "theirs"), arrays)


# -- writing safely ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("arrays, message", [
    ({"x": [1.0]}, r"arrays\['x'\] must be a NumPy array, got list"),
    ({"x": np.array(["a"])}, "'x' has dtype <U1, which the format does not have"),
    ({"x": np.zeros(2, complex)}, "complex128"),
    ({"x": np.array([None])}, "object"),
    ({"x": np.ma.masked_array([1.0], [True])}, "masked"),
    ({1: np.zeros(2)}, "names of arrays must be strings, got 1"),
    ([np.zeros(2)], r"arrays must be a Module or a dict of arrays, got arrays=\[array"),
    ("a.safetensors", "arrays must be a Module or a dict of arrays, got arrays='a.safetensors'"),
    ({"__metadata__": np.zeros(2)}, "cannot name an array"),
])
def test_what_cannot_be_written_leaves_the_old_file(tmp_path, arrays, message):
    path = tmp_path / "a"
    save(path, {"old": np.ones(1)})
    with pytest.raises(DtypeError, match=message):
        save(path, arrays)
    assert list(load(path)) == ["old"] and os.listdir(tmp_path) == ["a"]


def test_metadata_must_be_strings(tmp_path):
    with pytest.raises(DtypeError, match="metadata must map strings to strings, got metadata={'epoch': 3}"):
        save(tmp_path / "a", {}, metadata={"epoch": 3})
    with pytest.raises(DtypeError, match=r"metadata must be a dict of strings, got metadata=\['epoch'\]"):
        save(tmp_path / "a", {}, metadata=["epoch"])


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a"
    save(path, {"old": np.ones(1)})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(path, {"new": np.ones(1)})
    assert list(load(path)) == ["old"] and os.listdir(tmp_path) == ["a"]


def test_mode_follows_umask_and_links_are_followed(tmp_path):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    save(target, {"old": np.ones(1)})
    link.symlink_to(target)
    save(link, {"new": np.ones(1)})
    assert link.is_symlink() and list(load(target)) == ["new"]
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


# -- the rules of the format -------------------------------------------------------------------------------

GOOD = {"x": _entry()}
DATA = bytes(8)
HUGE = 2**62

BROKEN = {
    "duplicate name": (b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
                       b'"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', DATA, "key 'x' more than once"),
    "duplicate field": (b'{"x":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', DATA,
                        "key 'dtype' more than once"),
    "not JSON": (b"{not json", DATA, "not valid JSON"),
    "no object": (b"[1, 2]", DATA, "starting with '{'"),
    "space first": (b" {}", b"", "starting with '{'"),
    "empty header": (b"", b"", "starting with '{'"),
    "not UTF-8": (b'{"\xff\xfe":1}', DATA, "not valid JSON in UTF-8"),
    "half a surrogate pair": (b'{"\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', DATA,
                              "not valid Unicode"),
    "deep nesting": (b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}", DATA, "not valid JSON|must have dtype"),
    "number of a million digits": (b'{"x":' + b"9" * 1_000_000 + b"}", DATA, "not valid JSON"),
    "NaN": (b'{"x":NaN}', DATA, "NaN"),
    "text after the object": (b'{} {"x":1}', b"", "not valid JSON"),
    "entry no object": ({"x": 3}, DATA, "must have dtype, shape and data_offsets"),
    "field missing": ({"x": {"dtype": "F32", "shape": [2]}}, DATA, "must have dtype, shape and data_offsets"),
    "field too many": ({"x": _entry(strides=[4])}, DATA, "and nothing else"),
    "unknown dtype": ({"x": _entry("F8_E4M3", (8,))}, DATA, "dtype 'F8_E4M3'; known are"),
    "dtype no string": ({"x": _entry(["F32"])}, DATA, "known are"),
    "negative size": ({"x": _entry(shape=(-2,))}, DATA, "whole numbers"),
    "size a bool": ({"x": _entry("U8", (True,), 0, 1)}, b"\0", "whole numbers"),
    "size a float": ({"x": _entry(shape=(2.0,))}, DATA, "only whole numbers"),
    "shape no list": ({"x": {"dtype": "F32", "shape": "2", "data_offsets": [0, 8]}}, DATA, "whole numbers"),
    "too many axes": ({"x": _entry(shape=(1,) * 33 + (2,))}, DATA, "at most 32"),
    "product overflows": ({"x": _entry(shape=(HUGE, HUGE))}, DATA, "overflows"),
    "product overflows to the right size": ({"x": _entry("U8", (2**32, 2**32, 8), 0, 0)}, b"", "overflows"),
    "overflow hidden by a zero": ({"x": _entry("U8", (HUGE, HUGE, 0), 0, 0)}, b"", "overflows"),
    "offsets reversed": ({"x": _entry(begin=8, end=0)}, DATA, "0 <= begin <= end"),
    "offset negative": ({"x": _entry(begin=-8, end=0)}, DATA, "0 <= begin <= end"),
    "three offsets": ({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 8]}}, DATA, "0 <= begin <= end"),
    "size and offsets differ": ({"x": _entry(shape=(3,))}, DATA, "8 bytes of data, but .* ask for 12"),
    "hole at the start": ({"x": _entry(begin=8, end=16)}, bytes(16), "begins at byte 8 .* ends at 0"),
    "hole in the middle": ({"x": _entry(), "y": _entry(begin=16, end=24)}, bytes(24), "'y' begins at byte 16"),
    "overlap": ({"x": _entry(), "y": _entry(begin=4, end=12)}, bytes(12), "'y' begins at byte 4"),
    "same place twice": ({"x": _entry(), "y": _entry()}, DATA, "'y' begins at byte 0"),
    "bytes left over": (GOOD, bytes(9), "take 8 bytes, but the file has 9"),
    "data too short": (GOOD, bytes(7), "take 8 bytes, but the file has 7"),
    "metadata no object": ({"__metadata__": []}, b"", "map strings to strings"),
    "metadata of numbers": ({"__metadata__": {"a": 1}}, b"", "map strings to strings"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_rule_is_named(tmp_path, case):
    header, data, message = BROKEN[case]
    with pytest.raises(FormatError, match=message) as caught:
        load(_file(tmp_path / "a", header, data))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("raw, message", [
    (b"", "0 bytes, fewer than the 8"),
    (bytes(7), "7 bytes, fewer than the 8"),
    (struct.pack("<Q", 9) + b"{}      ", "claims 9 bytes, but the file has only 8"),
    (struct.pack("<Q", 100_000_001), "claims 100000001 bytes, more than the format's 100000000"),
    (b"\xff" * 16, "more than the format's"),
    (b"PK\x03\x04" + bytes(16), "a ZIP archive, as torch.save and np.savez write"),
])
def test_broken_length_is_named(tmp_path, raw, message):
    (tmp_path / "a").write_bytes(raw)
    with pytest.raises(FormatError, match=message):
        load(tmp_path / "a")


def test_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none")


def test_mutated_files_raise_nothing_but_format_errors(tmp_path):
    rng = np.random.default_rng(2)
    save(tmp_path / "good", {"w": np.ones((2, 3), np.float32), "b": np.zeros(3), "n": np.array(7)}, metadata={"k": "v"})
    good = (tmp_path / "good").read_bytes()
    length = 8 + int.from_bytes(good[:8], "little")
    structure = np.frombuffer(b'{}[]":,0123456789-.eE \\nullF', np.uint8)
    refused = 0
    path = tmp_path / "bad"
    for i in range(1500):
        raw = np.frombuffer(good, np.uint8).copy()
        where = rng.integers(0, length if i % 4 else len(raw), rng.integers(1, 5))
        raw[where] = rng.choice(structure, where.size) if i % 2 else rng.integers(0, 256, where.size)
        if i % 5 == 0:
            raw = raw[:rng.integers(0, len(raw))]
        path.write_bytes(raw.tobytes())
        try:
            arrays = load(path)
        except FormatError:
            refused += 1
        else:
            assert sum(a.nbytes for a in arrays.values()) <= len(good)
    assert 750 < refused < 1500
