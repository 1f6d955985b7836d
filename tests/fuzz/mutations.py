"""Ways to damage a file: its bytes, the values of a JSON text, the tree of an HDF5 file, the opcodes of a pickle."""

from __future__ import annotations

import contextlib
import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

from stages.untrusted import plain

BIG = 10**18
LARGEST_TEXT = 1 << 20  # characters of a JSON text that is damaged
_NUMBERS = (b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\x7f", b"\x80", (1 << 40).to_bytes(8, "little"))


def damaged_bytes(data: bytes, rng: Random) -> bytes:
    """A few bits turned, blocks zeroed, copied, cut out or replaced by numbers that are too large."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not out:
            break
        at = rng.randrange(len(out))
        n = min(rng.choice((1, 4, 8, 64, 512)), len(out) - at)
        kind = rng.randrange(7)
        if kind <= 1:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            out[at : at + n] = bytes(n)
        elif kind == 3:
            number = rng.choice(_NUMBERS)
            out[at : at + len(number)] = number
        elif kind == 4:
            del out[at : at + n]
        elif kind == 5:
            source = rng.randrange(len(out))
            out[at : at + n] = out[source : source + n]
        else:
            out = out[:at]
    return bytes(out)


def _deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


ODD: tuple[Callable[[Random], Any], ...] = (
    lambda r: None,
    lambda r: r.choice((True, False)),
    lambda r: r.choice((-1, 0, 1, 2, 255, 2**31, -(2**63), 2**63, 2**64, BIG, 10**400)),
    lambda r: r.choice((0.5, -0.0, 1e308, -1e308, 1e-320, float("nan"), float("inf"), float("-inf"))),
    lambda r: r.choice(("", " ", "0", "-1", "nan", "x" * 5000, "1" * 5000, "\0", "\ud800", "é\u0301", "=1+1", "9" * 19)),
    lambda r: r.choice(("../../etc/passwd", "/dev/zero", "/etc/passwd", "a\\b.jpg", "a/" * 3000, "..", ".", "C:\\a.jpg")),
    lambda r: r.choice(([], {}, [[]], [{}], {"": None}, [None] * 5, {"id": {}}, [1, 2, 3, 4, 5])),
    lambda r: _deep(r.choice((5, 70, 400))),
    lambda r: [[r.choice((0, 1e5, -1e9, 1e300)) for _ in range(400)]],
    lambda r: {"size": r.choice(([10**6, 10**6], [24, 32], [-1, 5], ["a"], None)), "counts": r.choice(("", "0" * 99, "~~~", [10**12], [768], None, [-1, 769]))},
)  # fmt: skip


def places(value: Any, limit: int = 4000) -> list[tuple[Any, Any]]:
    """(container, key) of every value inside."""
    found: list[tuple[Any, Any]] = []
    todo = [value]
    while todo and len(found) < limit:
        one = todo.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in keys:
            found.append((one, key))
            todo.append(one[key])
    return found


def odd_value(value: Any, rng: Random) -> Any:
    """The JSON value with one to three of its parts replaced, removed, repeated, renamed or moved."""
    out = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        known = places(out)
        if not known or rng.random() < 0.02:
            return rng.choice(ODD)(rng)
        box, key = rng.choice(known)
        kind = rng.randrange(10)
        if kind == 0:
            del box[key]
        elif kind == 1 and isinstance(box, list):
            box.extend([box[key]] * rng.choice((1, 3, 100)))
        elif kind == 2 and isinstance(box, dict):
            box[rng.choice((*box, "id", "image_id", "segmentation", "x" * 300))] = box.pop(key)
        elif kind == 3:
            other, place = rng.choice(known)
            try:
                box[key] = copy.deepcopy(other[place])
            except (KeyError, IndexError, RecursionError):
                continue
        elif kind == 4 and isinstance(box[key], int | float) and not isinstance(box[key], bool):
            number = box[key]
            larger, broken = (-1, 0.5) if abs(number) > 1e300 else (number * 1000, number + 0.5)
            box[key] = rng.choice((-number, larger, broken, plain(number), [number], {"id": number}))
        elif kind == 5:
            box[key] = {"value": box[key]}
        elif kind == 6:
            box[key] = [box[key]]
        else:
            box[key] = rng.choice(ODD)(rng)
    return out


def json_text(value: Any, rng: Random) -> bytes:
    """A JSON text of an odd value, sometimes with damaged bytes, another encoding, or nested without end."""
    kind = rng.randrange(20)
    if kind == 0:
        return (b"[" if rng.random() < 0.5 else b'{"a":') * rng.choice((100, 100_000))
    odd = odd_value(value, rng)
    text = json.dumps(odd, ensure_ascii=rng.random() < 0.5)
    if len(text) > LARGEST_TEXT:  # time in proportion to the size is no finding
        text = json.dumps(value)[: rng.randrange(2000)]
    data = text.encode("utf-8", "surrogatepass")
    if kind == 1:
        return text.encode("utf-16", "surrogatepass")
    if kind == 2:
        return data.replace(b"1", b"1" * 6000, 1)
    if kind <= 5:
        return damaged_bytes(data, rng)
    return data


# ---------------------------------------------------------------- HDF5


def odd_tree(path: Path, rng: Random) -> None:
    """Change the tree of an artifact in place: datasets, attributes, links, types, sizes, JSON texts."""
    with h5py.File(path, "r+", locking=False) as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        for _ in range(rng.choice((1, 1, 2, 3))):
            if not names:
                break
            name = rng.choice(names)
            if _is_own(file, name):
                with contextlib.suppress(OSError):  # behind a link of an earlier change lies no file of ours
                    rng.choice(_TREE)(file, name, rng)


def _is_own(file: h5py.File, name: str) -> bool:
    """Not what an earlier change has moved elsewhere."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        return False
    item = file[name]
    return isinstance(item, h5py.Dataset) and not (item.external or item.is_virtual)


def _replace(file: h5py.File, name: str, value: Any, **layout: Any) -> None:
    del file[name]
    file.create_dataset(name, data=value, **layout)


_LARGE = 1 << 20  # values of a column that an earlier change has made so


def _values(file: h5py.File, name: str, rng: Random) -> None:
    """Some numbers of a column, or its text."""
    dataset = file[name]
    if dataset.size > _LARGE:
        return
    if dataset.dtype.kind in "iufb" and dataset.size:
        values = dataset[()]
        flat = np.atleast_1d(values).reshape(-1)
        number = rng.choice((-1, -2, 0, 1, 7, 10**6, 2**31 - 1, -(2**31), 2**62, float("nan"), float("inf")))
        with np.errstate(all="ignore"):
            flat[rng.randrange(len(flat))] = np.array(number, np.float64).astype(dataset.dtype)
        dataset[...] = flat.reshape(values.shape)
    elif dataset.shape == ():
        _json(file, name, rng)
    else:
        texts = [
            rng.choice(("", "x" * 9999, "../../x", "/etc/passwd", "\ud800".encode("utf-8", "surrogatepass")))
            for _ in range(dataset.shape[0])
        ]
        _replace(file, name, np.array(texts, dtype=object), dtype=h5py.string_dtype())


def _json(file: h5py.File, name: str, rng: Random) -> None:
    jsons = [
        n
        for n in ("provenance", "summary", "counts", "architecture", "vocabulary", "history", "preprocessing")
        if n in file
    ]
    name = rng.choice(jsons or [name]) if file[name].shape != () or rng.random() < 0.5 else name
    if not _is_own(file, name) or file[name].size > _LARGE:
        return
    try:
        value = json.loads(file[name][()])
    except (TypeError, ValueError, RecursionError):  # an earlier change may have nested it
        value = {}
    text = json_text(value, rng)[:200_000]
    _replace(file, name, np.array(text, dtype=h5py.string_dtype("utf-8", max(1, len(text)))))


def _shape(file: h5py.File, name: str, rng: Random) -> None:
    old = file[name]
    kind = np.float32 if old.dtype.kind == "O" else old.dtype
    shape = rng.choice(
        ((), (0,), (1,), (old.size,), (2, 3), (old.size + 1, *old.shape[1:]), (1, 1, 1), (1000,))
    )
    _replace(
        file,
        name,
        np.zeros(shape, kind if kind.kind in "iufb" else np.int64)
        if hasattr(kind, "kind")
        else np.zeros(shape, kind),
    )


def _type(file: h5py.File, name: str, rng: Random) -> None:
    size = max(1, file[name].size)
    kind = rng.choice(
        (np.int8, np.uint64, np.float16, np.float64, np.bool_, np.complex64, "S5", [("a", "i4")])
    )
    _replace(file, name, np.zeros(min(size, 1000), kind))


def _huge(file: h5py.File, name: str, rng: Random) -> None:
    """Sizes that nothing stands behind: chunks, shapes, a compressed desert."""
    del file[name]
    kind = rng.randrange(4)
    if kind == 0:
        file.create_dataset(
            name, shape=(4,), maxshape=(None,), chunks=(1 << 28,), dtype="i8", compression="gzip"
        )
        return
    if kind == 1:
        file.create_dataset(name, shape=(1 << 40,), chunks=(1 << 16,), dtype="i8")
    elif kind == 2:
        dataset = file.create_dataset(
            name, shape=(300 << 20,), chunks=(1 << 20,), dtype="u1", compression="gzip"
        )
        for start in range(0, 4 << 20, 1 << 20):
            dataset[start : start + (1 << 20)] = 0
    else:
        file.create_dataset(name, shape=(1 << 34,), dtype="f4")


def _link(file: h5py.File, name: str, rng: Random) -> None:
    kind = rng.randrange(5)
    if kind == 4:
        layout = h5py.VirtualLayout(shape=(3,), dtype="i8")
        layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(3,))
        del file[name]
        file.create_virtual_dataset(name, layout)
        return
    if kind == 3:
        del file[name]
        file.create_dataset(name, shape=(8,), dtype="u1", external=[("/etc/passwd", 0, 8)])
        return
    if name.rpartition("/")[0]:
        del file[name]
    else:
        name += "_more"
    file[name] = (
        h5py.SoftLink("/")
        if kind == 0
        else h5py.ExternalLink("/etc/passwd", "/x")
        if kind == 1
        else file["/"]
    )


def _remove(file: h5py.File, name: str, rng: Random) -> None:
    del file[name]


def _attribute(file: h5py.File, name: str, rng: Random) -> None:
    owner = file if rng.random() < 0.8 or "notes" not in file else file["notes"]
    known = list(owner.attrs)
    key = (
        rng.choice(known)
        if known and rng.random() < 0.8
        else rng.choice(("n_points", "n_chosen", "image_root", "seed"))
    )
    if rng.random() < 0.2 and key in owner.attrs:
        del owner.attrs[key]
        return
    value = rng.choice(
        (-1, 0, 10**18, 1.5, float("nan"), True, np.bytes_("train"), "train", np.bytes_("x" * 3000), np.zeros(3), np.zeros(0),
         np.array([b"a", b"b"]), h5py.Empty("f4"), np.bytes_("../.."), np.bytes_("/"), np.bytes_("dataset"), np.bytes_(b"\xff\xfe"))
    )  # fmt: skip
    owner.attrs[key] = value


_TREE = (
    _values,
    _values,
    _values,
    _json,
    _json,
    _json,
    _shape,
    _type,
    _huge,
    _link,
    _remove,
    _attribute,
    _attribute,
)


# ---------------------------------------------------------------- pickles

_BOMBS: tuple[bytes, ...] = (
    b"\x80\x05\x96" + (1 << 33).to_bytes(8, "little") + b".",
    b"\x80\x02]r\xff\xff\xff\x7f.",
    b"\x80\x02]p2000000000\n.",
    b"\x80\x02)" + b"\x85" * 300_000 + b".",
    b"\x80\x04\x8f(" + b")" + b"\x85" * 300_000 + b"\x90.",
    b"\x80\x02}" + b")" + b"\x85" * 300_000 + b"K\x01s.",
    b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b".",
    b"\x80\x02\x8b" + (1 << 20).to_bytes(4, "little") + b"\x7f" * (1 << 20) + b".",
    b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    b"\x80\x02cbuiltins\nset\n](K\x01K\x02e\x85R.",
    b"cos\nsystem\n(S'true'\ntR.",
    b"\x80\x02cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'f8'\nK\x00K\x01tRS'abc'\ntR.",
    b"I" + b"9" * 10_000 + b"\n.",
    b"L" + b"9" * 10_000 + b"L\n.",
)  # fmt: skip


def _shared(levels: int) -> Any:
    value: Any = ["x"]
    for _ in range(levels):
        value = [value, value]
    return value


def odd_pickle(value: Any, rng: Random) -> bytes:
    """A pickle of an odd value, with parts that share, damaged opcodes, or a bomb of its own."""
    kind = rng.randrange(10)
    if kind == 0:
        return rng.choice(_BOMBS)
    out = odd_value(value, rng)
    if kind <= 2 and (known := places(out)):
        box, key = rng.choice(known)
        box[key] = rng.choice(
            (_shared(rng.choice((3, 8, 40))), {1, 2}, b"bytes", (1, (2, (3,))), 1 << 40_000, np.float32(3), np.arange(6), -(10**5000))
        )  # fmt: skip
    try:
        data = pickle.dumps(out, rng.choice((0, 1, 2, 3, 4, 5)))
    except (RecursionError, ValueError, UnicodeError):
        return rng.choice(_BOMBS)
    if kind in (3, 4, 5):
        data = damaged_bytes(data, rng)
    if kind == 6:
        at = rng.randrange(len(data))
        data = data[:at] + rng.choice(_BOMBS)[2:200] + data[at:]
    return data
