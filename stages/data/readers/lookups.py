"""What annotation files are looked up in: entries by their id, and pictures by their name.

The same id twice is never settled by which came last: an entry that is repeated as it is counts once and is told; of
two that differ, neither is taken, and what asks for them is invalid, with both places.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.data.images import Unreadable, find_image_root, look_at, path_below
from stages.data.picture_files import PictureHead
from stages.data.readers.records import Findings, Invalid, Picture, checked_box, checked_size, id_of
from stages.errors import ArtifactError

Entry = Mapping[str, Any]


class ById:
    """The entries of a list that have a usable id."""

    def __init__(
        self, entries: Sequence[Any], what: str, findings: Findings, *, key: str = "id", where: str
    ) -> None:
        """`what`: one entry in words ("annotation"), `where`: the list ("annotations")."""
        self.what = what
        self._entries = entries
        self._unclear: dict[int, str] = {}
        self.second: dict[int, str] = {}  # places of entries that differ from an earlier one -> both places
        self.repeated: set[int] = set()  # places of entries that were there before, alike
        ids, places = array("q"), array("q")
        for place, entry in enumerate(entries):
            identity = id_of(entry.get(key)) if isinstance(entry, dict | Mapping) else None
            if identity is not None:
                ids.append(identity)
                places.append(place)
        order = np.argsort(ids, kind="stable")
        # Sorted, for bisection: a dict would take five times the memory
        self._ids, self._places = (
            array("q", np.array(column, np.int64)[order].tobytes()) for column in (ids, places)
        )
        for place in sorted(self._places[k] for k in range(1, len(ids)) if self._ids[k] == self._ids[k - 1]):
            self._there_twice(place, where, key, findings)

    def _there_twice(self, place: int, where: str, key: str, findings: Findings) -> None:
        entry = self._entries[place]
        identity = id_of(entry.get(key))
        assert identity is not None
        first = self._place(identity)
        assert first is not None
        both = f"{where}[{first}] and {where}[{place}]"
        if self._entries[first] == entry:
            self.repeated.add(place)
            findings.note(f"{self.what}s that are there twice, alike: taken once", f"{identity}: {both}")
        else:
            self.second[place] = both
            self._unclear.setdefault(identity, f"{self.what} {identity} is there twice, and differs: {both}")

    def _place(self, identity: int) -> int | None:
        """Of the first entry with this id."""
        at = bisect_left(self._ids, identity)
        return self._places[at] if at < len(self._ids) and self._ids[at] == identity else None

    def __contains__(self, identity: int) -> bool:
        return self._place(identity) is not None

    def __getitem__(self, identity: int) -> Entry:
        """KeyError for an id that is not there; Invalid where two entries with this id differ."""
        self.check(identity)
        if (place := self._place(identity)) is None:
            raise KeyError(identity)
        found: Entry = self._entries[place]
        return found

    def check(self, identity: int | None) -> None:
        if identity in self._unclear:
            raise Invalid(self._unclear[identity])

    def items(self) -> Iterator[tuple[int, Entry]]:
        """The first entry of each id, in their order."""
        firsts = sorted((place, i) for i in set(self._ids) if (place := self._place(i)) is not None)
        return ((identity, self._entries[place]) for place, identity in firsts)

    @property
    def unclear(self) -> list[str]:
        return list(self._unclear.values())


class SeenIds:
    """A set of ids, most of which are neighbours: a bit each."""

    def __init__(self) -> None:
        self._blocks: dict[int, int] = {}

    def __contains__(self, identity: int) -> bool:
        return bool(self._blocks.get(identity >> 8, 0) >> (identity & 255) & 1)

    def add(self, identity: int) -> None:
        self._blocks[identity >> 8] = self._blocks.get(identity >> 8, 0) | 1 << (identity & 255)


class PictureFiles:
    """Pictures by name, for what the annotations do not say: opened only where it is needed."""

    def __init__(self, near: Sequence[Path] = (), chosen: Path | None = None) -> None:
        self._near, self._chosen = near, chosen
        self._root: Path | None = None

    def head(self, name: str) -> PictureHead:
        """Invalid when there is no such picture, or none that can be read."""
        try:
            if self._root is None or not path_below(self._root, name).exists():
                self._root = find_image_root(self._near, [name], self._chosen)
            return look_at(path_below(self._root, name))
        except OSError as error:
            raise Invalid(f"{name}: {(error.strerror or 'error').lower()}") from None
        except Unreadable as error:
            raise Invalid(f"{name} cannot be decoded: {error}") from None

    def size(self, name: str, width: Any, height: Any, where: str) -> tuple[int, int]:
        """(height, width) as annotated, or from the file where the annotations say none."""
        if not all(value is None or value != value for value in (width, height)):
            return checked_size(width, height, where)
        try:
            size = self.head(name).size_hw
        except (Invalid, ArtifactError) as error:
            raise Invalid(f"{where} has no width and height, and they cannot be read: {error}") from None
        assert size is not None
        return size

    def box(self, values: Any, picture: Picture, findings: Findings) -> tuple[float, float, float, float]:
        """`checked_box`; where that fails, the picture's EXIF orientation may be why."""
        try:
            return checked_box(values, picture.size_hw, findings)
        except Invalid:
            try:
                orientation = self.head(picture.file_name).orientation
            except (Invalid, ArtifactError):
                orientation = 1
            return checked_box(values, picture.size_hw, findings, orientation=orientation)


class Pictures:
    """Images that are described again with each referent; two descriptions must agree."""

    def __init__(self, files: PictureFiles, findings: Findings) -> None:
        self._files, self._findings = files, findings
        self._known: dict[tuple[int, str], Picture] = {}
        self._name_of: dict[int, str] = {}
        self._told: set[tuple[int, str]] = set()

    def get(self, image_id: int, file_name: str, width: Any, height: Any) -> Picture:
        picture = self._known.get((image_id, file_name))
        unsaid = width is None and height is None
        if picture is None or not (unsaid or (width, height) == (picture.width, picture.height)):
            h, w = self._files.size(file_name, width, height, f"image {image_id}")
            picture = self._known.setdefault((image_id, file_name), Picture(image_id, file_name, h, w))
            if picture.size_hw != (h, w):
                raise Invalid(
                    f"image {image_id} is {w}x{h} here and {picture.width}x{picture.height} elsewhere"
                )
        first = self._name_of.setdefault(image_id, file_name)
        if first != file_name and (image_id, file_name) not in self._told:
            self._told.add((image_id, file_name))
            self._findings.note(
                "image ids that mean two pictures, which are kept apart by name",
                f"{image_id}: {first} and {file_name}",
            )
        return picture

    def box(self, values: Any, picture: Picture) -> tuple[float, float, float, float]:
        return self._files.box(values, picture, self._findings)
