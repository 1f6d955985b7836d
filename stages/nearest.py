"""The file that is meant by a name that leads nowhere.

Lists and folders disagree about names in a few known ways (letter case, suffix, accents in one character or two,
backslashes, %20, one folder level, COCO's names of 2014 and 2017); each is tried before mere likeness of the letters.
"""

import os
import re
import shlex
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

from stages.errors import ArtifactError, did_you_mean

_MOST_ENTRIES = 200_000  # of a folder; train2014 has 82,783
_MOST_COMPARED = 3_000  # names whose letters are compared: that takes milliseconds a hundred
_MOST_FOLDERS = 200
_COCO_NAME = re.compile(r"(?:^|_)0*(\d+)$")


class Neighbours:
    """Looks for files that are nearly named so. A folder is listed once, however many names are asked for."""

    def __init__(self) -> None:
        self._entries: dict[str, list[str]] = {}
        self._keys: dict[str, dict[str, str]] = {}

    def nearest(self, root: str | Path, name: str) -> str | None:
        """The existing file or folder below `root` (or beside its last folder) that `name` may mean, relative to `root`.

        `name` itself is not among the answers, unless it is written differently.
        """
        for spelling in _spellings(name):
            if spelling != name and _exists(root, spelling):
                return os.path.normpath(spelling)
        clean = next(iter(_spellings(name, last_only=True)))
        folder, base = os.path.split(clean)
        if not base:
            return None
        return self._in_folder(root, folder, base) or self._other_level(root, clean)

    def hint(self, root: str | Path, name: str) -> str | None:
        """`nearest` in words: "there is a.jpeg"."""
        found = self.nearest(root, name)
        return None if found is None else f"there is {shown_name(found)}"

    def _in_folder(self, root: str | Path, folder: str, base: str) -> str | None:
        """By the folder's own names: first the known ways of being spelt differently, then likeness."""
        place = os.path.join(root, folder)
        if not os.path.isdir(place):
            return None
        keys = self._index(place)
        for key in _keys_of(base):
            if (found := keys.get(key)) and found != base:
                return os.path.join(folder, found)
        names = self._list(place)
        if len(names) > _MOST_COMPARED:
            return None
        near = did_you_mean(base, (n for n in names if n != base), cutoff=0.75)
        # of a numbered series the neighbour in number is another picture, not a misspelling
        if near is None or _without_digits(near) == _without_digits(base):
            return None
        return os.path.join(folder, near)

    def _other_level(self, root: str | Path, clean: str) -> str | None:
        """One folder too many or too few in the name, or a folder that is itself spelt otherwise."""
        parts = clean.split("/")
        for skip in range(1, len(parts)):
            if _exists(root, rest := "/".join(parts[skip:])):
                return rest
        above = os.path.basename(os.path.normpath(root))
        for prefix in (above, ".."):
            if _exists(root, candidate := f"{prefix}/{clean}"):
                return candidate
        folder, base = os.path.split(clean)
        place = os.path.join(root, folder)
        if os.path.isdir(place):
            below = [n for n in self._list(place)[:_MOST_FOLDERS] if os.path.isdir(os.path.join(place, n))]
            for name in below:
                if _exists(root, inside := os.path.join(folder, name, base)):
                    return inside
            inner = (self._by_key(root, os.path.join(folder, n), base) for n in below)
            # a picture of another format in a folder beside is rather its mask
            return next((c for c in inner if c and _is_jpeg(c) == _is_jpeg(base)), None)
        if folder and (real := self.nearest(root, folder)):
            inside = os.path.join(real, base)
            return inside if _exists(root, inside) else self._by_key(root, real, base) or real
        return None

    def _by_key(self, root: str | Path, folder: str, base: str) -> str | None:
        place = os.path.join(root, folder)
        if not os.path.isdir(place):
            return None
        keys = self._index(place)
        return next((os.path.join(folder, keys[k]) for k in _keys_of(base) if k in keys), None)

    def _list(self, place: str) -> list[str]:
        if place not in self._entries:
            try:
                with os.scandir(place) as entries:
                    names = [e.name for e, _ in zip(entries, range(_MOST_ENTRIES), strict=False)]
            except OSError:
                names = []
            self._entries[place] = sorted(names)
        return self._entries[place]

    def _index(self, place: str) -> dict[str, str]:
        if place not in self._keys:
            index: dict[str, str] = {}
            for name in self._list(place):
                for key in _keys_of(name):
                    index.setdefault(key, name)
            self._keys[place] = index
        return self._keys[place]


def nearest_file(path: str | Path) -> str | None:
    """The existing file or folder that a path may mean: "photos/a.jpeg" for "photos/a.jpg"."""
    text = os.fspath(path)
    for spelling in _spellings(text):
        if spelling != text and _exists(".", spelling):
            return os.path.normpath(spelling)
    text = next(iter(_spellings(text, last_only=True)))
    if os.path.isabs(text):
        # from the deepest folder that exists, so that names above it are left as they are
        folder = os.path.dirname(os.path.normpath(text))
        while not os.path.isdir(folder) and folder != os.path.dirname(folder):
            folder = os.path.dirname(folder)
        found = Neighbours().nearest(folder, os.path.relpath(text, folder))
        return None if found is None else os.path.normpath(os.path.join(folder, found))
    return Neighbours().nearest(".", text)


def file_hint(path: str | Path) -> str | None:
    """`nearest_file` in words, for an error's hint: "did you mean photos/a.jpeg?"."""
    found = nearest_file(path)
    return None if found is None else f"did you mean {shown_name(found)}?"


def missing_hint(path: str | Path) -> str:
    """The same, or where to look when no name there is near."""
    return file_hint(path) or f"see what is there: ls {shlex.quote(str(Path(path).parent))}"


def cannot_read(path: str | Path, error: OSError) -> ArtifactError:
    """The error for a file that the system does not give, with the file that may be meant."""
    missing = isinstance(error, FileNotFoundError)
    return ArtifactError(
        f"cannot read {path}: {(error.strerror or 'error').lower()}",
        hint=missing_hint(path) if missing else None,
    )


def shown_name(name: str) -> str:
    """The name, or with escapes where it would look like another: accents apart from their letters, blanks at the ends."""
    if name == unicodedata.normalize("NFC", name) and name.isprintable() and name == name.strip():
        return name
    return ascii(name)


def _spellings(name: str, last_only: bool = False) -> Iterator[str]:
    """The same name as other programs write it: without quotes and blanks, file://, ./, with slashes, accents."""
    text = name
    changed = [text]
    changes: Sequence[Callable[[str], str]] = (
        _bare,
        lambda path: path.replace("\\", "/"),
        unquote,
        lambda path: re.sub(r"^[A-Za-z]:/+", "", path),  # a drive
        lambda path: re.sub(r"^(\./)+|(?<=/)\./", "", path),
    )
    for change in changes:
        text = change(text)
        changed.append(text)
    if last_only:
        yield text
        return
    for stage in dict.fromkeys(changed):
        yield from (stage, unicodedata.normalize("NFC", stage), unicodedata.normalize("NFD", stage))


def _bare(text: str) -> str:
    text = text.strip().strip("\"'\u201c\u201d\u2018\u2019").strip()
    for prefix in ("file://localhost/", "file:///"):
        if text.lower().startswith(prefix):
            return "/" + text[len(prefix) :]
    return text[len("file://") :] if text.lower().startswith("file://") else os.path.expanduser(text)


def _keys_of(name: str) -> Iterable[str]:
    """What two names of one file share, the surest first."""
    plain = unicodedata.normalize("NFC", name).casefold().strip()
    stem, suffix = os.path.splitext(plain)
    keys = [f"name:{plain}"]
    if suffix:
        keys.append(f"stem of a {'picture' if suffix in PICTURE_SUFFIXES else 'file'}:{stem}")
    number = _COCO_NAME.search(stem)
    if number and len(stem) >= 12:  # 000000000009, COCO_train2014_000000000009
        keys.append(f"coco:{number[1]}{'' if suffix in _JPEG else suffix}")
    return keys


_JPEG = (".jpg", ".jpeg")
PICTURE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".jp2", ".ppm", ".pgm", ".avif",
    ".heic",
)  # fmt: skip


def _is_jpeg(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in _JPEG


def _without_digits(name: str) -> str:
    return re.sub(r"\d+", "0", name)


def _exists(root: str | Path, name: str) -> bool:
    try:
        return bool(name) and os.path.exists(os.path.join(root, name))
    except ValueError:  # a null byte
        return False
