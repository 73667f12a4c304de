"""Faces as tensors: crops, batches, augmentation and structure maps. Knows no network."""
