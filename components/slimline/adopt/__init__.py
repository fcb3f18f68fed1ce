"""Models that somebody else trained: an ONNX file comes in here, checked, and goes the same way."""
