"""Do two sets of labels mean the same places by a mark-up's points? Their typical faces compared, without any picture.

Two labelled sets may have one mark-up by name and put its points elsewhere: brows that end nearer the nose, lips marked
on another line, a contour that begins higher. A detector that learns from both learns to tell their pictures apart, and
answers a blurred photograph in the way of the blurred set; one that is measured on the other pays the difference as an
error. Faces seen from the front have nearly the same shape in large sets, so that a difference of their means is one of
labelling. Mark-ups without mirror pairs are not told: which faces are seen from the front is not known.
"""

import numpy as np

from stylealign.face import geometry
from stylealign.face.schema import LandmarkSchema

LEAST_FACES = 60
"""Faces seen from the front that a typical one is made of, at least: of so many, those of one way of labelling are as a
rule at most 2.6 % of the face's size apart in their worst landmark (300-W, portraits), those of two 3.9 to 5.7."""
FRONTAL = 0.25
"""Share of a face's size by which its landmarks may lie beside those of its mirror image, root mean square."""
LIMIT = 0.03
"""Share of the face's size above which a landmark of two typical faces lies elsewhere."""


def typical_face(landmarks: np.ndarray, schema: LandmarkSchema) -> np.ndarray | None:
    """The (P, 2) typical shape, in face sizes and symmetric, of the faces (N, P, 2) px that are seen from the front.

    Faces that lack a landmark are passed over. None: fewer than LEAST_FACES are left, or the mark-up knows no mirror.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    points = points[np.isfinite(points).all(axis=(1, 2))]
    if not schema.flip_pairs or len(points) < LEAST_FACES:
        return None
    mirrored = points[:, schema.flip_permutation] * (-1, 1)
    here, there = (_as_numbers(shapes) for shapes in (points, mirrored))
    fitted = there * (there.conj() * here).sum(axis=1, keepdims=True)  # both of unit length
    frontal = np.linalg.norm(here - fitted, axis=1) <= FRONTAL
    if frontal.sum() < LEAST_FACES:
        return None
    shape = np.median(geometry.align(np.concatenate([points[frontal], mirrored[frontal]])), axis=0)
    return shape / geometry.face_size(shape)


def _as_numbers(shapes: np.ndarray) -> np.ndarray:
    """(N, P) complex: each shape centred, of unit length."""
    numbers = shapes[..., 0] + 1j * shapes[..., 1]
    numbers = numbers - numbers.mean(axis=1, keepdims=True)
    return numbers / np.linalg.norm(numbers, axis=1, keepdims=True).clip(1e-12)


def shifts(shape: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(P, 2) by how much each landmark of a typical face lies beside that of another, in face sizes of the other.

    The two are laid on each other by the half of their landmarks that agree best, so that those that do not take no
    part.
    """
    chosen = np.arange(len(shape))
    for _ in range(20):
        laid = geometry.apply(geometry.similarity_fit(shape[chosen], other[chosen]), shape)
        chosen = np.argsort(np.linalg.norm(laid - other, axis=1), kind="stable")[: max(3, len(shape) // 2)]
    return (laid - other) / geometry.face_size(other)
