"""What may come out of a pickle: a few bytes can nest tuples so deeply that Python's own hashing overflows its stack, or
share parts so that whoever walks through the result never ends."""

import pickle
from typing import Any

from stages.untrusted import DEEPEST

_DEEPEST_TUPLE = 200
_MOST_BITS = 1024  # of a whole number
_CONTAINERS = (list, tuple, set, frozenset, dict)


def most_values(n_bytes: int) -> int:
    """How many values a pickle of so many bytes may hold; real ones share texts, but hardly any lists."""
    return 4 * n_bytes + 10_000


def depth_of_tuple(value: Any, depths: dict[int, int]) -> None:
    """Note how deeply a new tuple is nested; `depths` knows those of the tuples inside.

    Raises:
        pickle.UnpicklingError: more than 200 deep.
    """
    inside = [depths.get(id(part), 1) for part in value if isinstance(part, tuple)]
    if not inside:
        depths.pop(id(value), None)  # of one that is gone
        return
    depths[id(value)] = depth = 1 + max(inside)
    if depth > _DEEPEST_TUPLE:
        raise pickle.UnpicklingError(f"tuples nested more than {_DEEPEST_TUPLE} deep")


def check_values(value: Any, most: int) -> int:
    """How many values somebody meets who walks through what came out of a pickle.

    Raises:
        pickle.UnpicklingError: more than 64 levels, more than `most` values (parts may be shared again and again), a
            number of more than 1024 bits.
    """
    level: list[Any] = [[value]]
    seen = 0
    for _ in range(DEEPEST + 1):
        below: list[Any] = []
        for one in level:
            seen += len(one)
            if seen > most:
                raise pickle.UnpicklingError("the same parts are in it again and again")
            for part in (*one.keys(), *one.values()) if isinstance(one, dict) else one:
                if type(part) is str:  # as most are
                    continue
                if isinstance(part, _CONTAINERS):
                    below.append(part)
                elif isinstance(part, int) and part.bit_length() > _MOST_BITS:
                    raise pickle.UnpicklingError(f"a number of {part.bit_length()} bits")
        if not below:
            return seen
        level = below
    raise pickle.UnpicklingError(f"more than {DEEPEST} levels")
