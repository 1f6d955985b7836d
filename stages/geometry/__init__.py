"""Pure functions on boxes, contours, tokens and run-length masks: numpy, cv2 and pycocotools, never torch.

One frame everywhere: x right, y down, pixels, origin at the outer corner of the top-left pixel, so pixel
(column i, row j) covers [i, i+1) x [j, j+1) and its centre is (i + 0.5, j + 0.5). Boxes are xyxy, sizes are
(height, width) and called `size_hw`, points are (..., 2) and called `points_xy`. Masks are boolean, True =
foreground. A run-length mask is a dict {"size": [height, width], "counts": bytes} in COCO's compressed
form.
"""
