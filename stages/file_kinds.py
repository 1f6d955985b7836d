"""What a file is that is not what it was taken for: a web page, a Git LFS pointer, annotations of a labelling tool."""

import os
from pathlib import Path

from stages.errors import ArtifactError
from stages.untrusted import require_regular

HEAD_BYTES = 4096  # that are looked at

_PICTURE_HINT = "export it as PNG or JPEG"
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself: run git lfs pull in its folder"),
    (0, b"8BPS", f"a Photoshop document (PSD): {_PICTURE_HINT}"),
    (0, b"%PDF", f"a PDF document: {_PICTURE_HINT}"),
    (0, b"%!PS", f"a PostScript document: {_PICTURE_HINT}"),
    (0, b"FUJIFILMCCD-RAW", f"a camera's raw picture (RAF): {_PICTURE_HINT}"),
    (0, b"IIU\0", f"a camera's raw picture (RW2): {_PICTURE_HINT}"),
    (8, b"CR\x02", f"a camera's raw picture (CR2): {_PICTURE_HINT}"),
    (0, b"\x1aE\xdf\xa3", "a video (Matroska, WebM): take single frames as PNG or JPEG"),
    (8, b"AVI ", "a video (AVI): take single frames as PNG or JPEG"),
    (0, b"FLV\x01", "a video (FLV): take single frames as PNG or JPEG"),
    (0, b"\xff\x0a", f"a JPEG XL picture, which is not read: {_PICTURE_HINT}"),
    (0, b"\0\0\0\x0cJXL ", f"a JPEG XL picture, which is not read: {_PICTURE_HINT}"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"PK\x03\x04", "a zip archive: unpack it"),
    (0, b"\x1f\x8b", "a gzip archive: unpack it"),
    (0, b"Rar!", "a RAR archive: unpack it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"PAR1", "a Parquet table: save it as CSV"),
    (0, b"\xd0\xcf\x11\xe0", "an old Office document (XLS, DOC): save its table as CSV"),
    (0, b"\x93NUMPY", "an array of numpy (NPY)"),
    (128, b"DICM", f"a DICOM file: {_PICTURE_HINT}"),
)
_OFFICE = (b"[Content_Types].xml", b"_rels/", b"docProps/", b"opendocument")
_RAW_SUFFIXES = (".dng", ".nef", ".cr2", ".cr3", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw", ".raw")
_BRANDS = {
    b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC", b"heis": "HEIC", b"hevc": "HEIC", b"hevx": "HEIC",
    b"mif1": "HEIF", b"msf1": "HEIF", b"avif": "AVIF", b"avis": "AVIF", b"crx ": "camera's raw (CR3)",
}  # fmt: skip


def what_it_is(head: bytes, name: str = "") -> str | None:
    """What a file is by its first bytes (`HEAD_BYTES`) and what to do after a colon, in words; None when it cannot be told.

    Only what people mistake for pictures, weights or lists: web pages, Git LFS pointers, archives, annotations of
    labelling tools, and picture formats that are not read.
    """
    if not head:
        return "an empty file"
    if head[:4] == b"PK\x03\x04" and any(mark in head[:200] for mark in _OFFICE):
        return "an office document (XLSX, ODS, DOCX): save its table as CSV"
    for at, magic, words in _MAGIC:
        if head[at : at + len(magic)] == magic:
            return words
    if head[4:8] == b"ftyp":
        kind = _BRANDS.get(head[8:12])
        if kind is None:
            return "a video (MP4, MOV): take single frames as PNG or JPEG"
        return f"{'an' if kind == 'AVIF' else 'a'} {kind} picture, which is not read: {_PICTURE_HINT}"
    suffix = os.path.splitext(name)[1].lower()
    if suffix in _RAW_SUFFIXES and head[:4] in (b"II*\0", b"MM\0*", b"IIRO"):
        return f"a camera's raw picture ({suffix[1:].upper()}): {_PICTURE_HINT}"
    return _what_text_it_is(head)


def _what_text_it_is(head: bytes) -> str | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    low = text[:512].lower()
    if low.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or (
        low.startswith(b"<!--") and b"<html" in low
    ):
        return "a web page, not the file itself: the download asked for a login or a confirmation, fetch it again"
    if low.startswith(b"<"):
        if b"<svg" in low:
            return f"an SVG drawing: {_PICTURE_HINT}"
        if b"<annotations" in low:
            return "annotations of CVAT (XML), not a picture: export them as COCO or as mask pictures"
        if b"<annotation" in low:
            return "annotations of Pascal VOC (XML), not a picture: export them as COCO or as mask pictures"
        if b"<error>" in low or b"accessdenied" in low:
            return "an error message of a download server (XML), not the file itself"
        return "an XML file" if low.startswith(b"<?xml") else None
    if text[:1] in (b"{", b"["):
        return _what_json_it_is(text)
    return None


def _what_json_it_is(text: bytes) -> str:
    has = {key for key in _JSON_KEYS if f'"{key}"'.encode() in text}
    as_masks = "not a picture: export mask pictures, or give its polygons"
    if {"shapes", "imagePath"} <= has or {"shapes", "imageData"} <= has or {"shapes", "flags"} <= has:
        return f"an annotation of labelme (JSON), {as_masks}"
    if "FeatureCollection" in has or {"Feature", "geometry"} <= has:
        return f"a GeoJSON file, {as_masks}"
    if "_via_img_metadata" in has or {"regions", "shape_attributes"} <= has:
        return f"annotations of VIA (JSON), {as_masks}"
    if "annotations" in has or {"images", "categories"} <= has:
        return (
            "a COCO annotation file (JSON), not a picture: read it with prepare-data --source mdetr or refer"
        )
    return "a JSON file"


_JSON_KEYS = (
    "shapes", "imagePath", "imageData", "flags", "FeatureCollection", "Feature", "geometry", "_via_img_metadata",
    "regions", "shape_attributes", "annotations", "images", "categories",
)  # fmt: skip


def what_file_is(path: str | Path) -> str | None:
    """`what_it_is` of a file on disk; None also when it cannot be read."""
    try:
        require_regular(path)
        with open(path, "rb") as stream:
            return what_it_is(stream.read(HEAD_BYTES), os.fspath(path))
    except (OSError, ArtifactError):
        return None


def refuse_other_kinds(path: str | Path, *, but: str = "", hint: str | None = None) -> None:
    """ArtifactError for a file that is plainly something else than what is read from it.

    Args:
        but: what it may well be, a part of the words for it ("JSON", "zip archive"). hint: where the words have none.
    """
    what = what_file_is(path)
    if what is None or (but and but in what):
        return
    words, _, action = what.partition(": ")
    raise ArtifactError(f"{path} is {words}", hint=action or hint or "is it the file that was meant?")
