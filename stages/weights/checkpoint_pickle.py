"""A look at the pickles in a checkpoint before torch runs their opcodes.

`torch.load(weights_only=True)` runs no code of the file, but a few bytes can have it take gigabytes (a `bytearray` of a
number, an entry of the archive that unpacks to zeros) or nest tuples so deeply that hashing one overflows the stack.
"""

import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import IO, Any

_DEEPEST = 200
_MOST_PLACES = 1 << 24  # of the memo
_LEGACY_PICKLES = 5  # magic number, protocol, byte order, the object, names of the storages that follow
_LARGEST_PICKLE = 256 << 20  # bytes
_REFUSED = {f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("bytearray", "bytes")}
# the first object takes in the others
_INTO_FIRST = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}


def refused_names(path: Path, *, is_zip: bool) -> list[str]:
    """Names that the file's pickles ask for and that take memory without end.

    Raises:
        pickle.UnpicklingError: objects nested too deeply, or no pickle.
        zipfile.BadZipFile: entries that are packed, which torch never writes, or larger than the file.
    """
    found: set[str] = set()
    if not is_zip:
        with path.open("rb") as stream:
            for _ in range(_LEGACY_PICKLES):
                if found := look_through(stream):
                    break
        return sorted(found)
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        packed = next((i.filename for i in infos if i.compress_type != zipfile.ZIP_STORED), None)
        if packed is not None or sum(i.file_size for i in infos) > path.stat().st_size:
            raise zipfile.BadZipFile(f"{packed or 'an entry'} is packed")
        for info in infos:
            if info.filename.endswith(".pkl"):
                if info.file_size > _LARGEST_PICKLE:
                    raise pickle.UnpicklingError(f"a pickle of {info.file_size} bytes")
                with archive.open(info) as stream:
                    found |= look_through(stream)
    return sorted(found)


def look_through(stream: IO[bytes]) -> set[str]:
    """Names in `_REFUSED` that one pickle asks for. Follows how deeply the object at each place of the stack is nested.

    Raises:
        pickle.UnpicklingError: objects nested too deeply, a place in the memo without end, or no pickle.
    """
    found: set[str] = set()
    stack: list[int] = []
    marks: list[int] = []
    memo: dict[int, int] = {}
    try:
        argument: Any
        for opcode, argument, _ in pickletools.genops(stream):
            name = opcode.name
            if name == "GLOBAL":
                found |= _REFUSED & {argument.replace(" ", ".")}
            if name == "MARK":
                marks.append(len(stack))
            elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
                if argument is not None and argument > _MOST_PLACES:  # unpicklers make room for all below
                    raise pickle.UnpicklingError(f"place {argument} of its memory")
                memo[len(memo) if argument is None else argument] = stack[-1]
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name == "DUP":
                stack.append(stack[-1])
            else:
                _apply(opcode, stack, marks)
    except (IndexError, KeyError, ValueError, OverflowError) as error:
        raise pickle.UnpicklingError(f"no pickle: {str(error)[:100]}") from error
    return found


def _apply(opcode: pickletools.OpcodeInfo, stack: list[int], marks: list[int]) -> None:
    """Take from the stack what the opcode takes, and put there what it makes, one level above the deepest of these."""
    before = opcode.stack_before
    taken: list[int] = []
    n_fixed = len(before)
    if pickletools.stackslice in before:
        start = marks.pop()
        taken, n_fixed = stack[start:], before.index(pickletools.markobject)
        del stack[start:]
    if n_fixed:
        first = stack[-n_fixed:]
        if len(first) < n_fixed:
            raise IndexError("an opcode without what it works on")
        del stack[-n_fixed:]
        taken = first + taken
    if not opcode.stack_after:
        return
    if opcode.name in _INTO_FIRST:
        depth = max(taken[0], 1 + max(taken[1:], default=0))
    else:
        depth = 1 + max(taken, default=0)
    if depth > _DEEPEST:
        raise pickle.UnpicklingError(f"objects nested more than {_DEEPEST} deep")
    stack.append(depth)
