"""The `seqres` command: flags -> Config -> stages.<stage>.run -> report. Nothing here computes."""

import os

# OpenCV takes its limit from here when it is imported: a picture file of a few bytes may claim a billion pixels
# LARGEST_PICTURE of stages/artifacts/schema.py
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 28))
