"""Faces without labels: pseudo-labels with a trust, trust in inherited labels, rounds of self-training, pre-training."""
