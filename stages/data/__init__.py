"""Data: readers of public formats, the generated RefShapes, and the view that the later stages read."""
