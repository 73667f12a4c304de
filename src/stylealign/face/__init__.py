"""Facts of a face, in NumPy alone: mark-up, landmarks, boxes, affines, curves and pose. Knows no files, no tensors."""
