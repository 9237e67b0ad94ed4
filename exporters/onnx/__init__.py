"""Networks as ONNX files: every node a function of the domain `stas_neuro`, steps a Scan over time."""
