"""RefShapes, part 4: shapes and ground that wear parts of photographs.

A model that has only seen painted shapes follows painted edges; one that has seen the same shapes cut out of photographs
and laid on others has met the edges and textures of photographs, without any of their masks. Outlines, boxes, sentences
and ids are those of the painted data set; colours stay visible, as sentences name them.
"""

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from stages.data.images import decode_rgb, header_size
from stages.data.refshapes.scenes import Scene
from stages.errors import ArtifactError, UsageError

MOST_PICTURES = 200  # of a folder, spread evenly over its sorted names
LONGER_SIDE = 320  # pixels that a picture is kept at
_SUFFIXES = (".jpg", ".jpeg", ".png")


def texture_files(folder: Path) -> tuple[Path, ...]:
    """The pictures that are used: JPEG and PNG files below `folder`.

    Raises:
        UsageError: no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise UsageError(
            f"--textures is no folder: {folder}", hint="give a folder of photographs (JPEG, PNG)"
        )
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
    if not files:
        raise UsageError(f"no JPEG or PNG picture in {folder}", hint="give a folder of photographs")
    return tuple(files[i] for i in np.unique(np.linspace(0, len(files) - 1, MOST_PICTURES).astype(int)))


@lru_cache(maxsize=1)
def load_textures(files: tuple[Path, ...]) -> list[np.ndarray]:
    """Pictures (H, W, 3) uint8 RGB, longer side at most LONGER_SIDE; ArtifactError for one that cannot be read."""
    return [_load(path) for path in files]


def _load(path: Path) -> np.ndarray:
    with path.open("rb") as stream:
        size_hw = header_size(stream)
        if size_hw is None or min(size_hw) < 32:
            raise ArtifactError(
                f"{path} is no picture that can be a texture",
                facts=[f"height and width: {size_hw}" if size_hw else "it has no JPEG or PNG header"],
                hint="take it out of the folder",
            )
        stream.seek(0)
        picture = decode_rgb(stream.read(), str(path), size_hw)
    share = LONGER_SIDE / max(size_hw)
    if share >= 1:
        return picture
    return cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)


def dress(scene: Scene, textures: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """The scene's picture (H, W, 3) uint8 with a photograph as its ground and part of another on each shape."""
    size, painted = scene.size, scene.image.astype(np.float32)
    canvas = _patch(textures, size, rng)
    for item in scene.objects:
        cloth = _patch(textures, size, rng)
        if rng.random() < 0.5:  # many things are plainer than a part of a photograph
            cloth = cv2.GaussianBlur(cloth, (0, 0), rng.uniform(2.0, 12.0))
        cloth = cloth * np.float32(rng.uniform(0.7, 1.3)) + np.float32(rng.uniform(-30.0, 30.0))
        colour = np.float32(rng.uniform(0.2, 0.6))
        alpha = cv2.GaussianBlur(item.mask.astype(np.float32), (0, 0), 0.7)[..., None]
        canvas += alpha * (cloth * (1 - colour) + painted * colour - canvas)
    canvas += rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(rng.uniform(1.0, 6.0))
    return np.clip(canvas, 0.0, 255.0).astype(np.uint8)


def _patch(textures: list[np.ndarray], size: int, rng: np.random.Generator) -> np.ndarray:
    """A square part of a picture, perhaps mirrored, (size, size, 3) float32."""
    picture = textures[rng.integers(len(textures))]
    height, width = picture.shape[:2]
    side = int(rng.uniform(0.3, 0.95) * min(height, width))
    y, x = rng.integers(height - side + 1), rng.integers(width - side + 1)
    part = cv2.resize(picture[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA)
    return (part[:, ::-1] if rng.random() < 0.5 else part).astype(np.float32)
