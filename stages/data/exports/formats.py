"""Which function writes which `--to`, each as (labels, tolerance of polygons in px, out, pictures copied?) -> files.

File name -> content; a format that is a single file has the name "".
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from stages.data.exports.coco import instances_file, results_file
from stages.data.exports.items import Labels
from stages.data.exports.plain import csv_file, png_files, yolo_files
from stages.data.exports.tools import label_studio_file, labelme_files

WRITERS: dict[str, Callable[[Labels, float, Path, bool], Mapping[str, bytes]]] = {
    "coco": lambda found, tolerance, out, copied: {"": instances_file(found, tolerance)},
    "coco-results": lambda found, tolerance, out, copied: {"": results_file(found)},
    "labelstudio": lambda found, tolerance, out, copied: {"": label_studio_file(found)},
    "labelme": lambda found, tolerance, out, copied: labelme_files(
        found, out, tolerance, "images" if copied else None
    ),
    "yolo": lambda found, tolerance, out, copied: yolo_files(found, tolerance),
    "png": lambda found, tolerance, out, copied: png_files(found),
    "csv": lambda found, tolerance, out, copied: {"": csv_file(found)},
}
