"""Facts of a face, in NumPy alone: its mark-up, its landmarks, boxes, affines, curves and pose. Knows no files and no tensors."""
