"""Data sets on disk: pictures, published layouts, our own format, predictions. Knows no tensors."""
