"""Drawn faces with exact landmarks: any structure (who, doing what, seen from where) in any style (light, skin, hair,
background, camera).

What a perfect translator would make is here a call, `draw_face(structure_i, style_j)`. Data sets of them are made by
jobs/draw_faces.py. Knows no torch.
"""

from stylealign.toyfaces.causes import CAUSES, LEVELS, raise_cause
from stylealign.toyfaces.faces import FaceOptions, attributes, draw_swap_sheet, face_of, split_of
from stylealign.toyfaces.paint import draw_face
from stylealign.toyfaces.person import Structure, mirror_structure, random_structure
from stylealign.toyfaces.shape import head_points, landmarks
from stylealign.toyfaces.style import Style, random_style

__all__ = [
    "CAUSES",
    "LEVELS",
    "FaceOptions",
    "Structure",
    "Style",
    "attributes",
    "draw_face",
    "draw_swap_sheet",
    "face_of",
    "head_points",
    "landmarks",
    "mirror_structure",
    "raise_cause",
    "random_structure",
    "random_style",
    "split_of",
]
