"""The central fact table: which landmark is which. Facts only, 0-based, checked at construction.

No other file says `if num_points == 98`. Left and right of flip pairs do not matter; `inter_ocular` anchors are the
outer eye corners. Sources: docs/paper_map.md 4.2 and 5 (WFLW's mirror table and 15 curves), the data sets'
own mark-up figures for the rest.
"""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from stylealign.errors import UserError, counted

MAX_POINTS = 100_000
"""Landmarks of a mark-up at most; the densest meshes of faces have half of that."""


def _span(first: int, last: int) -> tuple[int, ...]:
    """Indices first..last inclusive, in either direction."""
    step = 1 if last >= first else -1
    return tuple(range(first, last + step, step))


def _mirror(*pairs: tuple[tuple[int, ...], tuple[int, ...]]) -> tuple[tuple[int, int], ...]:
    """Zip pairs of index runs into flip pairs."""
    return tuple((a, b) for left, right in pairs for a, b in zip(left, right, strict=True))


Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class LandmarkSchema:
    """A landmark mark-up: how many points, which mirror which, which form curves, which normalise errors."""

    name: str
    num_points: int
    flip_pairs: tuple[tuple[int, int], ...] = ()
    """Mirror twins; every other point maps to itself. Empty: the mirror is not known and faces are never flipped."""
    boundaries: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Ordered point indices of each facial curve."""
    anchors: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    """Two groups of points whose means' distance normalises errors: `inter_ocular`, `inter_pupil`."""
    parts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Facial parts for tables: contour, brows, nose, eyes, mouth."""
    point_names: tuple[str, ...] = ()
    """What a labelling tool calls each landmark, in their order; empty: nobody named them."""

    def __post_init__(self) -> None:
        def check(indices: tuple[int, ...], what: str) -> None:
            for i in indices:
                if not (isinstance(i, int) and 0 <= i < self.num_points):
                    raise UserError(f"schema {self.name}: {what} names point {i}, expected 0 to {self.num_points - 1}")

        self._as_tuples()
        if not (isinstance(self.num_points, int) and 1 <= self.num_points <= MAX_POINTS):
            raise UserError(f"schema {self.name}: num_points is {self.num_points!r}, expected 1 to {MAX_POINTS:,}")
        seen: set[int] = set()
        for pair in self.flip_pairs:
            if len(pair) != 2 or pair[0] == pair[1]:
                raise UserError(f"schema {self.name}: flip pair {pair} is not two different points")
            check(tuple(pair), f"flip pair {tuple(pair)}")
            if seen & set(pair):
                raise UserError(f"schema {self.name}: point {min(seen & set(pair))} is in two flip pairs")
            seen |= set(pair)
        for name, curve in self.boundaries.items():
            check(curve, f"boundary '{name}'")
            if len(curve) < 2:
                raise UserError(f"schema {self.name}: boundary '{name}' has {len(curve)} point, expected at least 2")
        for name, groups in self.anchors.items():
            if len(groups) != 2 or not all(groups):
                raise UserError(f"schema {self.name}: anchor '{name}' needs two groups of points")
            check(groups[0] + groups[1], f"anchor '{name}'")
        for name, part in self.parts.items():
            check(part, f"part '{name}'")
        if self.point_names and not (
            len(self.point_names) == self.num_points == len(set(self.point_names))
            and all(isinstance(name, str) and name.strip() for name in self.point_names)
        ):
            raise UserError(
                f"schema {self.name}: point_names holds {counted(len(set(self.point_names)), 'different name')}, "
                f"expected {counted(self.num_points, 'text')}, one a point"
            )
        if self.flip_pairs:
            flip = self.flip_permutation
            undirected = {min(c, c[::-1]) for c in self.boundaries.values()}
            for name, curve in self.boundaries.items():
                mirrored = tuple(int(flip[i]) for i in curve)
                if min(mirrored, mirrored[::-1]) not in undirected:
                    raise UserError(
                        f"schema {self.name}: the mirror image of boundary '{name}' is no boundary: {mirrored}"
                    )

    def _as_tuples(self) -> None:
        """Lists and arrays are taken as well: what says the same is then equal, and can be a key."""

        def whole(index: Any) -> Any:  # what is none is refused by its name afterwards
            return operator.index(index) if hasattr(index, "__index__") and not isinstance(index, bool) else index

        def points(indices: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(map(whole, indices))

        freeze = object.__setattr__
        try:
            freeze(self, "num_points", whole(self.num_points))
            freeze(self, "flip_pairs", tuple(points(pair) for pair in self.flip_pairs))
            for name in ("boundaries", "parts"):
                freeze(self, name, {str(k): points(v) for k, v in getattr(self, name).items()})
            freeze(self, "anchors", {str(k): tuple(points(side) for side in v) for k, v in self.anchors.items()})
            if isinstance(self.point_names, str):
                raise TypeError
            freeze(self, "point_names", tuple(self.point_names))
        except (TypeError, AttributeError):
            raise UserError(
                f"schema {self.name}: flip_pairs must be pairs of points, boundaries and parts lists of points, "
                "anchors two lists of points, point_names a list of texts"
            ) from None

    @cached_property
    def flip_permutation(self) -> np.ndarray:
        """(P,) int: landmark i of a mirrored face is `flipped[flip_permutation[i]]`; twice changes nothing."""
        permutation = np.arange(self.num_points)
        for a, b in self.flip_pairs:
            permutation[a], permutation[b] = b, a
        permutation.setflags(write=False)
        return permutation

    @cached_property
    def boundary_flip_permutation(self) -> np.ndarray:
        """(K,) int: boundary i of a mirrored face is boundary `boundary_flip_permutation[i]` of the original."""
        curves = [min(c, c[::-1]) for c in self.boundaries.values()]
        mirrored = [tuple(int(self.flip_permutation[i]) for i in c) for c in curves]
        return np.array([curves.index(min(m, m[::-1])) for m in mirrored], dtype=np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in a schema YAML file."""
        return {
            "name": self.name,
            "num_points": self.num_points,
            "flip_pairs": [list(p) for p in self.flip_pairs],
            "boundaries": {k: list(v) for k, v in self.boundaries.items()},
            "anchors": {k: [list(g) for g in v] for k, v in self.anchors.items()},
            "parts": {k: list(v) for k, v in self.parts.items()},
            **({"point_names": list(self.point_names)} if self.point_names else {}),
        }


WFLW98 = LandmarkSchema(
    name="wflw98",
    num_points=98,
    flip_pairs=_mirror(
        (_span(0, 15), _span(32, 17)),
        (_span(33, 37), _span(46, 42)), (_span(38, 41), _span(50, 47)),
        (_span(55, 56), _span(59, 58)),
        (_span(60, 64), _span(72, 68)), (_span(65, 67), (75, 74, 73)),
        (_span(76, 78), _span(82, 80)), (_span(88, 89), _span(92, 91)), ((95,), (93,)), (_span(87, 86), _span(83, 84)),
        ((96,), (97,)),
    ),
    boundaries={
        "contour": _span(0, 32),
        "left_brow_top": _span(33, 37), "right_brow_top": _span(42, 46),
        "nose_bridge": _span(51, 54), "nose_bottom": _span(55, 59),
        "left_eye_top": _span(60, 64), "left_eye_bottom": (60, 67, 66, 65, 64),
        "right_eye_top": _span(68, 72), "right_eye_bottom": (68, 75, 74, 73, 72),
        "outer_upper_lip": _span(76, 82), "inner_upper_lip": _span(88, 92),
        "inner_lower_lip": (88, 95, 94, 93, 92), "outer_lower_lip": (76, 87, 86, 85, 84, 83, 82),
        "left_brow_bottom": (33, 41, 40, 39, 38), "right_brow_bottom": (50, 49, 48, 47, 46),
    },
    anchors={"inter_ocular": ((60,), (72,)), "inter_pupil": ((96,), (97,))},
    parts={
        "contour": _span(0, 32), "brows": _span(33, 50), "nose": _span(51, 59),
        "eyes": (*_span(60, 75), 96, 97), "mouth": _span(76, 95),
    },
)  # fmt: skip

IBUG68 = LandmarkSchema(
    name="ibug68",
    num_points=68,
    flip_pairs=_mirror(
        (_span(0, 7), _span(16, 9)),
        (_span(17, 21), _span(26, 22)),
        (_span(31, 32), _span(35, 34)),
        (_span(36, 39), _span(45, 42)), (_span(40, 41), (47, 46)),
        (_span(48, 50), _span(54, 52)), (_span(58, 59), (56, 55)), (_span(60, 61), _span(64, 63)), ((67,), (65,)),
    ),
    boundaries={
        "contour": _span(0, 16), "left_brow": _span(17, 21), "right_brow": _span(22, 26),
        "nose_bridge": _span(27, 30), "nose_bottom": _span(31, 35),
        "left_eye_top": _span(36, 39), "left_eye_bottom": (36, 41, 40, 39),
        "right_eye_top": _span(42, 45), "right_eye_bottom": (42, 47, 46, 45),
        "outer_upper_lip": _span(48, 54), "inner_upper_lip": _span(60, 64),
        "inner_lower_lip": (60, 67, 66, 65, 64), "outer_lower_lip": (48, 59, 58, 57, 56, 55, 54),
    },
    anchors={"inter_ocular": ((36,), (45,)), "inter_pupil": (_span(36, 41), _span(42, 47))},
    parts={
        "contour": _span(0, 16), "brows": _span(17, 26), "nose": _span(27, 35), "eyes": _span(36, 47),
        "mouth": _span(48, 67),
    },
)  # fmt: skip

COFW29 = LandmarkSchema(
    name="cofw29",
    num_points=29,
    flip_pairs=((0, 1), (2, 3), (4, 6), (5, 7), (8, 9), (10, 11), (12, 14), (13, 15), (16, 17), (18, 19), (22, 23)),
    boundaries={
        "left_brow_top": (0, 4, 2), "left_brow_bottom": (0, 5, 2),
        "right_brow_top": (1, 6, 3), "right_brow_bottom": (1, 7, 3),
        "left_eye_top": (8, 12, 10), "left_eye_bottom": (8, 13, 10),
        "right_eye_top": (9, 14, 11), "right_eye_bottom": (9, 15, 11),
        "nose_bottom": (18, 21, 19),
        "outer_upper_lip": (22, 24, 23), "inner_upper_lip": (22, 25, 23),
        "inner_lower_lip": (22, 26, 23), "outer_lower_lip": (22, 27, 23),
    },
    anchors={"inter_ocular": ((8,), (9,)), "inter_pupil": ((16,), (17,))},
    parts={"contour": (28,), "brows": _span(0, 7), "nose": _span(18, 21), "eyes": _span(8, 17), "mouth": _span(22, 27)},
)  # fmt: skip

AFLW19 = LandmarkSchema(
    name="aflw19",
    num_points=19,
    flip_pairs=((0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9), (12, 14), (15, 17)),
    boundaries={
        "left_brow": (0, 1, 2), "right_brow": (3, 4, 5), "left_eye": (6, 7, 8), "right_eye": (9, 10, 11),
        "nose_bottom": (12, 13, 14), "mouth": (15, 16, 17),
    },
    anchors={"inter_ocular": ((6,), (11,)), "inter_pupil": ((7,), (10,))},
    parts={"contour": (18,), "brows": _span(0, 5), "nose": _span(12, 14), "eyes": _span(6, 11), "mouth": _span(15, 17)},
)  # fmt: skip

# LaPa's own figure and the swaps of mmpose's table of it, datasets/lapa.
LAPA106 = LandmarkSchema(
    name="lapa106",
    num_points=106,
    flip_pairs=_mirror(
        (_span(0, 15), _span(32, 17)),
        (_span(33, 37), _span(46, 42)), (_span(38, 41), _span(50, 47)),
        (_span(55, 59), _span(65, 61)),
        (_span(66, 70), _span(79, 75)), (_span(71, 73), _span(82, 80)), ((74,), (83,)),
        (_span(84, 86), _span(90, 88)), (_span(91, 92), _span(95, 94)),
        (_span(96, 97), _span(100, 99)), ((101,), (103,)), ((104,), (105,)),
    ),
    boundaries={
        "contour": _span(0, 32),
        "left_brow_top": _span(33, 37), "right_brow_top": _span(42, 46),
        "left_brow_bottom": (33, 41, 40, 39, 38), "right_brow_bottom": (50, 49, 48, 47, 46),
        "nose_bridge": _span(51, 54), "nose_bottom": _span(55, 65),
        "left_eye_top": _span(66, 70), "left_eye_bottom": (66, 73, 72, 71, 70),
        "right_eye_top": _span(75, 79), "right_eye_bottom": (75, 82, 81, 80, 79),
        "outer_upper_lip": _span(84, 90), "outer_lower_lip": (84, 95, 94, 93, 92, 91, 90),
        "inner_upper_lip": _span(96, 100), "inner_lower_lip": (96, 103, 102, 101, 100),
    },
    anchors={"inter_ocular": ((66,), (79,)), "inter_pupil": ((104,), (105,))},
    parts={
        "contour": _span(0, 32), "brows": _span(33, 50), "nose": _span(51, 65),
        "eyes": (*_span(66, 83), 104, 105), "mouth": _span(84, 103),
    },
)  # fmt: skip

SYNTHETICS70 = LandmarkSchema(
    name="synthetics70",
    num_points=70,
    flip_pairs=(*IBUG68.flip_pairs, (68, 69)),
    boundaries=IBUG68.boundaries,
    anchors={"inter_ocular": ((36,), (45,)), "inter_pupil": ((68,), (69,))},
    parts={**IBUG68.parts, "eyes": (*_span(36, 47), 68, 69)},
)

FIVE = LandmarkSchema(
    name="five",
    num_points=5,
    flip_pairs=((0, 1), (3, 4)),
    boundaries={"mouth": (3, 4)},
    anchors={"inter_pupil": ((0,), (1,))},
    parts={"nose": (2,), "eyes": (0, 1), "mouth": (3, 4)},
)

SCHEMAS = {s.name: s for s in (WFLW98, IBUG68, COFW29, AFLW19, FIVE, LAPA106, SYNTHETICS70)}

# Where iBUG's left half puts points on WFLW's curves, as means; what is named twice weighs twice. Read from the labels
# of faces seen from the front, by the share of a curve that lies before a point and by the eye distance: 1,115 of
# 300-W's training faces, 102 of WFLW's. With the nearest number of WFLW's instead, inner lips lie 6 % of the eye
# distance off, and the contour's ends 5 %.
_LEFT_68_FROM_98: Mapping[int, tuple[int, ...]] = {
    # The contour begins half a step lower, and ends at the same chin.
    0: (0, 1), 1: (2, 3), 2: (4, 4, 5), 3: (6, 6, 6, 7), 4: (8, 8, 8, 9), 5: (10, 10, 10, 10, 11), 6: (12,), 7: (14,),
    8: (16,),
    **{17 + i: (33 + i,) for i in range(5)}, **{27 + i: (51 + i,) for i in range(7)},
    31: (55, 55, 55, 55, 55, 56),  # wings of the nose, closer together
    36: (60,), 37: (61, 61, 62), 38: (62, 63), 40: (66, 65), 41: (67, 67, 67, 66),  # two points of a lid, not three
    39: (64, 64, 64, 64, 63, 65),  # the inner corner without the caruncle
    48: (76,), 49: (77,), 50: (77, *5 * (78,)), 51: (79,), 57: (85,), 58: (86, 86, 86, 85), 59: (87, 87, 87, 86),
    # Inner lips: nearer the middle.
    60: (*10 * (88,), 89, 95), 61: (89, 89, 89, 90, 90), 62: (90,), 66: (94,), 67: (95, 95, 95, 94, 94),
}  # fmt: skip


def _with_right_half(left: Mapping[int, tuple[int, ...]], source: LandmarkSchema, target: LandmarkSchema) -> Groups:
    """The groups of every target landmark, from those of one half and the two mirror tables."""
    there, here = source.flip_permutation, target.flip_permutation
    right = {int(here[i]): tuple(int(there[k]) for k in group) for i, group in left.items()}
    every = {**right, **left}
    return tuple(every[i] for i in range(target.num_points))


# Target landmark -> the source landmarks whose mean it is; with what is only approximate.
CONVERSIONS: dict[tuple[str, str], tuple[Groups, str]] = {
    ("wflw98", "ibug68"): (
        _with_right_half(_LEFT_68_FROM_98, WFLW98, IBUG68),
        "approximate: where the two put points on the same curves was read from their labels; WFLW's brows are "
        "outlined (the upper edge is taken) and shorter",
    ),
    ("ibug68", "five"): (
        (_span(36, 41), _span(42, 47), (30,), (48,), (54,)),
        "approximate: eye centres are means of the eyelids",
    ),
    ("wflw98", "five"): (
        ((96,), (97,), (54,), (76,), (82,)),
        "exact: pupils, nose tip and mouth corners are all annotated",
    ),
    ("synthetics70", "ibug68"): (
        tuple((i,) for i in range(68)),
        "approximate: points of a mesh, which stay on the head where iBUG's contour follows the outline",
    ),
    ("synthetics70", "five"): (((68,), (69,), (30,), (48,), (54,)), "exact"),
    ("cofw29", "five"): (((16,), (17,), (20,), (22,), (23,)), "exact"),
    ("aflw19", "five"): (((7,), (10,), (13,), (15,), (17,)), "exact"),
}


def convert(landmarks: np.ndarray, source: str, target: str) -> np.ndarray:
    """Re-express (..., P, 2) landmarks of one schema in another; what is approximate stands in `CONVERSIONS`.

    Raises UserError where no conversion is known: points cannot be invented.
    """
    if source == target:
        return np.array(landmarks)
    if (source, target) not in CONVERSIONS:
        known = ", ".join(f"{a} -> {b}" for a, b in CONVERSIONS)
        raise UserError(f"no conversion of landmarks from {source} to {target}; known: {known}")
    groups, _ = CONVERSIONS[source, target]
    landmarks = np.asarray(landmarks)
    want = SCHEMAS[source].num_points
    if landmarks.shape[-2] != want:
        raise UserError(f"convert: found {counted(landmarks.shape[-2], 'landmark')}, expected {want} of {source}")
    return np.stack([landmarks[..., list(group), :].mean(axis=-2) for group in groups], axis=-2)


def schema_from_dict(values: Any, where: str) -> LandmarkSchema:
    """Build a schema from plain values (a schema YAML file's content). Only name and num_points are required."""
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: expected a mapping with name and num_points")
    known = {"name", "num_points", "flip_pairs", "boundaries", "anchors", "parts", "point_names"}
    for key in values:
        if key not in known:
            raise UserError(f"{where}: unknown key '{key}'; known keys: {', '.join(sorted(known))}")
    for key in ("name", "num_points"):
        if key not in values:
            raise UserError(f"{where}: missing key '{key}'")
    if not isinstance(values["num_points"], int) or isinstance(values["num_points"], bool):
        raise UserError(f"{where}.num_points: found {values['num_points']!r}, expected a whole number")
    names = values.get("point_names") or ()
    try:
        return LandmarkSchema(
            name=str(values["name"]),
            num_points=values["num_points"],
            flip_pairs=values.get("flip_pairs") or (),
            boundaries=values.get("boundaries") or {},
            anchors=values.get("anchors") or {},
            parts=values.get("parts") or {},
            # a number that names a point is its text
            point_names=tuple(map(str, names)) if isinstance(names, list | tuple) else names,
        )
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def get_schema(name_or_path: str | Path) -> LandmarkSchema:
    """A built-in schema by name, or one's own from a YAML file."""
    if str(name_or_path) in SCHEMAS:
        return SCHEMAS[str(name_or_path)]
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"unknown schema '{name_or_path}': expected one of {', '.join(SCHEMAS)} or a .yaml file of your own"
        )
    from stylealign.config import read_yaml

    return schema_from_dict(read_yaml(path), str(path))
