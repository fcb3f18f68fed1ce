"""Why this room exists: what is trained in torch runs in ONNX Runtime, and both must agree."""
