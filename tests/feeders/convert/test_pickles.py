"""The reader of other people's pickles: what it accepts, and that it runs nothing."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from feeders.convert import pickles
from feeders.convert.pickles import load_restricted
from feeders.store import DataError

PLAIN = {
    "arrays": [np.arange(6, dtype=np.float16).reshape(2, 3), np.zeros((0, 3)), np.array(3), np.array([True])],
    "orders": [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2)],
    "views": [np.arange(8)[::2], np.arange(3, dtype=">i4")],
    "texts": [np.array(["ab", "c"]), np.array([b"ab"]), np.str_("a"), np.str_("")],
    "objects": [np.array(["a", None, (1, 2)], dtype=object)],
    "scalars": [np.float32(2.5), np.int64(-1), np.bool_(True)],
    "numbers": [1, -(2**70), 0.5, 1j, True, None],
    "strings": ["a", "ä", b"", b"\xff", bytearray(b"a")],
    "containers": [(), (1, [2, {"a": {3}}]), frozenset("a"), OrderedDict(b=1, a=2)],
}


def same(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray):
        alike = isinstance(other, np.ndarray) and one.shape == other.shape and one.dtype.kind == other.dtype.kind
        return alike and one.tolist() == other.tolist()
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", PLAIN)
def test_plain_things_come_back(tmp_path, protocol, kind):
    path = tmp_path / "plain.pkl"
    for wanted in PLAIN[kind]:
        path.write_bytes(pickle.dumps({"x": wanted}, protocol))
        assert same(wanted, load_restricted(path)["x"]), wanted


class Touch:
    """Runs a command when an ordinary reader loads it."""

    def __init__(self, path: os.PathLike) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(6))
def test_commands_are_not_run(tmp_path, protocol):
    marker, path = tmp_path / "marker", tmp_path / "best_score.pkl"
    path.write_bytes(pickle.dumps({"test_0": np.zeros(3), "test_1": [Touch(marker)]}, protocol))
    with pytest.raises(DataError, match=r"best_score.pkl asks for posix.system, .*: refused, nothing of it"):
        load_restricted(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists(), "an ordinary reader runs the command"


@pytest.mark.parametrize(
    "name",
    [
        "builtins eval",
        "builtins exec",
        "builtins getattr",
        "builtins __import__",
        "builtins open",
        "builtins type",
        "__builtin__ eval",
        "os system",
        "subprocess Popen",
        "operator attrgetter",
        "functools partial",
        "importlib import_module",
        "copyreg _reconstructor",
        "collections Counter",
        "collections OrderedDict.__init__.__globals__",
        "numpy load",
        "numpy ndarray.tofile",
        "numpy core.multiarray.scalar",
        "numpy.core.multiarray fromfile",
        "numpy._core.numeric _frombuffer.__globals__",
        "numpy.testing._private.utils runstring",
        "numpy.lib.npyio load",
        "torch load",
        "feeders.convert.pickles load_restricted",
    ],
)
@pytest.mark.parametrize("opcode", ["global", "stack_global", "inst", "obj"])
def test_gadgets_are_refused(tmp_path, name, opcode):
    module, name = name.split()
    lines = f"{module}\n{name}\n".encode()
    parts = [b"\x8c%c%s" % (len(word), word.encode()) for word in (module, name)]
    content = {
        "global": b"c" + lines + b"(tR.",
        "stack_global": b"\x80\x04" + b"".join(parts) + b"\x93)R.",
        "inst": b"(i" + lines + b".",
        "obj": b"(c" + lines + b"o.",
    }[opcode]
    path = tmp_path / "gadget.pkl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"gadget.pkl asks for {module}.{name}, "):
        load_restricted(path)


@pytest.mark.parametrize("content", [b"Pname\n.", b"(lX\x01\x00\x00\x00aQ.", b"\x80\x02\x82\x01."])
def test_persistent_ids_and_extensions(tmp_path, content):
    path = tmp_path / "id.pkl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"id.pkl is damaged"):
        load_restricted(path)


def state_of(target: bytes, state: object) -> bytes:
    """A pickle that gives ``target`` a ``state``."""
    return b"\x80\x04" + target + pickle.dumps(state, 2)[2:-1] + b"b."


DTYPE = b"cnumpy\ndtype\n(X\x02\x00\x00\x00%sI00\nI01\ntR"
ARRAY = b"c%s.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntX\x01\x00\x00\x00btR"
SCALAR = b"c%s.multiarray\nscalar\n(" + DTYPE % b"i1" + b"C\x01\x07tR."
BUFFER = b"c%s.numeric\n_frombuffer\n(C\x01\x07" + DTYPE % b"i1" + b"I1\n\x85X\x01\x00\x00\x00CtR."


@pytest.mark.parametrize("module", [b"numpy.core", b"numpy._core"])
@pytest.mark.parametrize("content", [SCALAR, BUFFER, state_of(ARRAY, (1, (1,), np.dtype("i1"), False, b"\x07"))])
def test_module_names_of_both_numpys(tmp_path, module, content):
    path = tmp_path / "array.pkl"
    path.write_bytes(content.replace(b"%s", module))
    assert load_restricted(path) == np.int8(7)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (state_of(DTYPE % b"f4", (3, "<", np.array([None]), None, None, -1, -1, 0)), "layout of its own"),
        (state_of(DTYPE % b"f4", (3, "<", None, ("a",), {"a": 1}, -1, -1, 0)), "layout of its own"),
        (state_of(DTYPE % b"f4", (3, "<", None, None, None, -1, -1, 63)), "layout of its own"),
        (state_of(DTYPE % b"U4", (3, "<", None, None, None, 400, 4, 8)), "layout of its own"),
        (state_of(DTYPE % b"f4", (3, "<")), "TypeError"),
        (DTYPE % b"V8" + b".", "an array of .V8"),
        (DTYPE % b"M8" + b".", "an array of datetime64"),
        (b"ccollections\nOrderedDict\n(tR}X\x01\x00\x00\x00aI1\nsb.", "a OrderedDict with attributes of its own"),
        (b"cnumpy._core.numeric\n_frombuffer\nN}X\x0c\x00\x00\x00__defaults__Ns\x86b.", "attributes of its own"),
        (BUFFER.replace(b"C\x01\x07", SCALAR[:-1]) % ((b"numpy.core",) * 2), "content is not bytes"),
        (b"cnumpy\nndarray\n(I8\ntR.", "not callable"),
        (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00zlbtR.", "bytes in the encoding 'zlb'"),
    ],
)
def test_states_that_numpy_would_trust(tmp_path, content, reason):
    path = tmp_path / "state.pkl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason):
        load_restricted(path)


@pytest.mark.parametrize(
    ("array", "shape"), [(np.array(["a", None], dtype=object), (216,)), (np.zeros(2), (3,)), (np.zeros(2), (-1, -2))]
)
def test_shapes_that_the_content_does_not_fill(tmp_path, array, shape):
    path = tmp_path / "shape.pkl"
    version, _, dtype, order, content = array.__reduce__()[2]
    path.write_bytes(state_of(ARRAY % b"numpy.core", (version, shape, dtype, order, content)))
    with pytest.raises(DataError, match=r"an array of shape"):
        load_restricted(path)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_damaged_files(tmp_path, protocol):
    path = tmp_path / "cut.pkl"
    whole = pickle.dumps({"test_0": np.arange(9.0), "test_1": np.arange(9.0)}, protocol)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut.pkl (is damaged, cut off .*; fetch or write it again|asks for )"):
            load_restricted(path)
    path.write_bytes(b"PK\x03\x04 no pickle")
    with pytest.raises(DataError, match=r"cut.pkl is damaged"):
        load_restricted(path)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"none.pkl cannot be read \(No such file"):
        load_restricted(tmp_path / "none.pkl")


def test_known_names_are_few():
    assert {module for module, _ in pickles.KNOWN} == {
        "builtins", "__builtin__", "collections", "_codecs", "numpy", "numpy.core.multiarray", "numpy.core.numeric",
        "numpy._core.multiarray", "numpy._core.numeric",
    }  # fmt: skip
    kinds = {name for module, name in pickles.KNOWN if module == "builtins"}
    assert kinds == {"set", "frozenset", "bytes", "bytearray", "complex"}


# --- small files that would fill the memory or never end -------------------------------------------------------------


def nested(width: int, depth: int, leaf: object = 0) -> list:
    """A list of lists that are all the same one: width ** depth items in a few bytes."""
    made = leaf
    for _ in range(depth):
        made = [made] * width
    return made


def twins(depth: int) -> bytes:
    """The opcodes of a tuple of two tuples that are the same one, and so on: slow to hash."""
    return b")" + b"2\x86" * depth


CYCLE: list = []
CYCLE.append(CYCLE)
BOMBS = {
    "lists": (pickle.dumps({"x": nested(10, 9)}), "name each other again and again"),
    "dicts": (pickle.dumps(nested(1000, 3, {"a": [1, 2]})), "name each other again and again"),
    "objects": (pickle.dumps(np.array([nested(100, 4), None], dtype=object)), "name each other again and again"),
    "arrays": (pickle.dumps([np.zeros(5000, np.int8)] * 300), "name each other again and again"),
    "itself": (pickle.dumps(CYCLE), "more than 32 containers"),
    "deep": (b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".", "more than 32 containers"),
    "key": (b"\x80\x02}" + twins(60) + b"K\x01s.", "tuples in tuples"),
    "keys": (b"\x80\x02}(" + twins(60) + b"K\x01u.", "tuples in tuples"),
    "dict": (b"\x80\x02(" + twins(60) + b"K\x01d.", "tuples in tuples"),
    "members": (b"\x80\x04\x8f(" + twins(60) + b"\x90.", "tuples in tuples"),
    "frozen": (b"\x80\x04(" + twins(60) + b"\x91.", "tuples in tuples"),
    "set": (b"\x80\x02cbuiltins\nset\n((" + twins(60) + b"ltR.", "tuples in tuples"),
    "ordered": (b"\x80\x02ccollections\nOrderedDict\n((" + twins(60) + b"K\x01\x86ltR.", "tuples in tuples"),
    "number": (pickle.dumps({"x": 2**100_000}), "a whole number of 100001 bits"),
    "digits": (b"I" + b"9" * 100_000 + b"\n.", "digits"),
    "bytes": (b"cbuiltins\nbytes\n(I99999999999\ntR.", "bytes of a int"),
    "bytearray": (b"cbuiltins\nbytearray\n(I99999999999\ntR.", "bytes of a int"),
    "scalar": (b"cnumpy.core.multiarray\nscalar\n(" + DTYPE.replace(b"%s", b"S9") + b"tR.", "_scalar"),
    "length": (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x00.", "in a file of 12"),
}


@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.parametrize("deferred", [False, True])
def test_bombs_are_refused(tmp_path, kind, deferred):
    content, reason = BOMBS[kind]
    path = tmp_path / "bomb.pkl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason):
        load_restricted(path, deferred)


def test_what_only_looks_like_a_bomb(tmp_path):
    """One name in many places, keys of numbers, a list with more items than a thousandth of the limit."""
    path, shape = tmp_path / "plain.pkl", (240, 320)
    plain = {"a": [{"name": "x", "shape": shape} for _ in range(5000)], (1, 2): {frozenset([(1, 2)])}}
    path.write_bytes(pickle.dumps(plain))
    assert load_restricted(path) == plain


# --- arrays that stay in the file ------------------------------------------------------------------------------------

ARRAYS = {
    "halves": np.linspace(-9, 9, 2 * 40 * 25 * 3, dtype=np.float16).reshape(2, 40, 25, 3),
    "columns": np.asfortranarray(np.arange(1200.0).reshape(30, 40)),
    "axes": np.arange(4800).reshape(20, 16, 15).transpose(1, 0, 2),
    "small": np.arange(4, dtype=">i2"),
    "objects": np.array([None, "a", 3], dtype=object),
    "empty": np.zeros((0, 20, 17, 2)),
}


@pytest.mark.parametrize("protocol", range(6))
def test_deferred_arrays(tmp_path, protocol):
    path = tmp_path / "arrays.pkl"
    path.write_bytes(pickle.dumps({"text": "ä" * 1000, "arrays": ARRAYS}, protocol))
    content = load_restricted(path, deferred=True)
    assert content["text"] == "ä" * 1000
    for name, wanted in ARRAYS.items():
        found = content["arrays"][name]
        assert found.shape == wanted.shape
        assert found.dtype == wanted.dtype
        for again in (found, pickle.loads(pickle.dumps(found))):
            np.testing.assert_array_equal(np.asarray(again), wanted)
    if protocol >= 2:
        stored = pickle.dumps(content["arrays"]["halves"])
        assert len(stored) < 1000, "another process gets the place, not the numbers"


@pytest.mark.parametrize("protocol", [2, 4])
def test_deferred_arrays_of_another_length(tmp_path, protocol):
    path = tmp_path / "arrays.pkl"
    whole = pickle.dumps(np.zeros((3, 400), np.float32), protocol)
    path.write_bytes(whole.replace(b"M\x90\x01", b"M\x91\x01"))  # 400 -> 401 columns
    array = load_restricted(path, deferred=True)
    with pytest.raises(pickle.UnpicklingError, match=r"an array of shape \(3, 401\) with other content"):
        np.asarray(array)
