"""The job `export`: a detector as an ONNX file, proven against the network it was made from."""
