"""A face's labels in another mark-up: landmarks, what is hidden and how far each is believed. Knows no format."""

import dataclasses

import numpy as np

from stylealign.data.formats.missing import without
from stylealign.face.sample import FaceSample
from stylealign.face.schema import CONVERSIONS, LandmarkSchema, convert


def converted(sample: FaceSample, schema: LandmarkSchema, target: LandmarkSchema) -> FaceSample | str:
    """The face with its landmarks in another mark-up; what is wrong where none of those is there."""
    if sample.landmarks is None or schema == target:
        return sample
    groups, _ = CONVERSIONS[schema.name, target.name]
    landmarks = convert(sample.landmarks, schema.name, target.name)
    visible, point_trust = sample.visible, sample.point_trust
    if visible is not None:
        visible = np.array([bool(visible[list(group)].all()) for group in groups])
    if point_trust is not None:  # a mean is trusted as its least trusted part
        point_trust = np.array([point_trust[list(group)].min() for group in groups])
    missing = np.array([bool(sample.missing_points[list(group)].any()) for group in groups])
    if missing.all():
        return f"it lacks all that the landmarks of {target.name} are made of, expected a face"
    if missing.any():
        landmarks = without(landmarks, missing, visible)["landmarks"]
    return dataclasses.replace(sample, landmarks=landmarks, visible=visible, point_trust=point_trust)
