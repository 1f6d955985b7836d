"""Numbers, texts and arrays of numpy inside a pickle, as plain Python values: what `pandas` or a script leaves there.

Nothing of numpy's own unpickling is called: stand-ins take what the pickle hands to numpy's functions, check that the
bytes fill the shape exactly, and give numbers, texts and lists. Arrays of objects, of dates or of records are refused.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

_CODE = re.compile(r"[<>=|]?(b1|\?|[iu][1248]|f[248]|[US]\d{1,6})")
_MOST_DIMENSIONS = 8


class _Dtype:
    """`numpy.dtype(code, align, copy)`, completed by its state (version, byte order, …)."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not _CODE.fullmatch(code):
            raise ValueError(f"values of the numpy type {str(code)[:20]!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)


def _dtype_of(value: Any) -> np.dtype[Any]:
    if not isinstance(value, _Dtype):
        raise ValueError("values of no numpy type")
    return value.dtype


def _values(data: Any, dtype: np.dtype[Any], shape: Any, order: str) -> Any:
    shape = tuple(shape)
    if len(shape) > _MOST_DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"an array of the shape {str(shape)[:40]}")
    content = data.encode("latin-1") if isinstance(data, str) else bytes(data)  # text: from Python 2
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(content)} bytes for an array of the shape {shape}")
    if 0 in shape:
        return []
    return np.frombuffer(content, dtype).reshape(shape, order="F" if order == "F" else "C").tolist()


class _Array(list[Any]):
    """`numpy.core.multiarray._reconstruct(ndarray, (0,), b"b")`, filled by its state."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, by_columns, data = state
        values = _values(data, _dtype_of(dtype), shape, "F" if by_columns else "C")
        self[:] = values if isinstance(values, list) else [values]


def _scalar(dtype: Any, data: Any = b"") -> Any:
    return _values(data, _dtype_of(dtype), (), "C")


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> Any:
    """How protocol 5 writes arrays."""
    return _values(data, _dtype_of(dtype), shape, order)


class _NdArray:
    """The name of the class, which `_reconstruct` is given; it is never made."""

    def __new__(cls, *_: Any) -> _NdArray:
        raise ValueError("an array without content")


STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _NdArray,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "scalar", _scalar),
            ("multiarray", "_reconstruct", _Array),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}
WITH_STATE = (_Dtype, _Array)
