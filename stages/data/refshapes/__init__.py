"""RefShapes: generated pictures with expressions, boxes and masks, written in REFER layout (DESIGN.md)."""
