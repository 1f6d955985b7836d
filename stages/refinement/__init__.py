"""What turns a box and a first guess into a mask with edges: promptable segmenters (transformers, ONNX), GrabCut."""
