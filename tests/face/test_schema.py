"""Mark-ups: mirror tables, boundaries, anchors, conversions, one's own in YAML, and the mistakes that are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from builders.layouts import OWN_SCHEMA, own_schema
from builders.places import ROOT
from stylealign.errors import UserError
from stylealign.face.schema import CONVERSIONS, SCHEMAS, LandmarkSchema, convert, get_schema, schema_from_dict

every_schema = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda s: s.name)


@every_schema
def test_mirroring_twice_changes_nothing(schema: LandmarkSchema) -> None:
    assert sorted(schema.flip_permutation) == list(range(schema.num_points))
    assert np.array_equal(schema.flip_permutation[schema.flip_permutation], np.arange(schema.num_points))
    twice = schema.boundary_flip_permutation[schema.boundary_flip_permutation]
    assert np.array_equal(twice, np.arange(len(schema.boundaries)))


@every_schema
def test_the_mirror_image_of_every_boundary_is_a_boundary(schema: LandmarkSchema) -> None:
    curves = list(schema.boundaries.values())
    for curve, partner in zip(curves, schema.boundary_flip_permutation, strict=True):
        assert {int(schema.flip_permutation[i]) for i in curve} == set(curves[partner])


@every_schema
def test_anchors_are_mirror_twins_and_parts_share_no_point(schema: LandmarkSchema) -> None:
    for a, b in schema.anchors.values():
        assert {int(schema.flip_permutation[i]) for i in a} == set(b)
    everything = [i for part in schema.parts.values() for i in part]
    assert len(everything) == len(set(everything))


@every_schema
def test_parts_are_closed_under_mirroring_and_cover_every_point(schema: LandmarkSchema) -> None:
    for part in schema.parts.values():
        assert {int(schema.flip_permutation[i]) for i in part} == set(part)
    assert {i for part in schema.parts.values() for i in part} == set(range(schema.num_points))


@every_schema
def test_a_schema_goes_through_yaml_unchanged(schema: LandmarkSchema, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(schema.to_dict()))
    assert get_schema(path) == schema
    assert get_schema(schema.name) is schema


def test_wflw_has_the_fifteen_curves_and_the_mirror_pairs_of_its_authors() -> None:
    wflw = get_schema("wflw98")
    assert len(wflw.boundaries) == 15
    flip = wflw.flip_permutation
    for a, b in (
        (0, 32),
        (15, 17),
        (33, 46),
        (38, 50),
        (41, 47),
        (60, 72),
        (65, 75),
        (66, 74),
        (76, 82),
        (95, 93),
        (87, 83),
        (96, 97),
    ):
        assert (flip[a], flip[b]) == (b, a)
    assert [i for i in range(98) if flip[i] == i] == [16, 51, 52, 53, 54, 57, 79, 85, 90, 94]
    assert wflw.anchors["inter_ocular"] == ((60,), (72,))


def test_ibug_has_its_mirror_pairs_and_eye_corners() -> None:
    ibug = get_schema("ibug68")
    assert [i for i in range(68) if ibug.flip_permutation[i] == i] == [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]
    assert ibug.flip_permutation[[36, 37, 41, 48, 60, 67]].tolist() == [45, 44, 46, 54, 64, 65]
    assert ibug.anchors["inter_ocular"] == ((36,), (45,))


BASE = {"name": "s", "num_points": 68}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"flip_pairs": [[0, 2321]]}, "names point 2321, expected 0 to 67"),
        ({"flip_pairs": [[0, 1], [1, 2]]}, "point 1 is in two flip pairs"),
        ({"flip_pairs": [[3, 3]]}, "is not two different points"),
        ({"flip_pairs": [[0, 1, 2]]}, "flip pair (0, 1, 2) is not two different points"),
        ({"flip_pairs": [[0, -1]]}, "names point -1"),
        (
            {"flip_pairs": [[0, 1]], "boundaries": {"right_eye": [0, 2, 0], "left_eye": [1, 2]}},
            "mirror image of boundary 'right_eye' is no boundary",
        ),
        ({"boundaries": {"a": [3]}}, "has 1 point, expected at least 2"),
        ({"boundaries": {"a": [3, 68]}}, "boundary 'a' names point 68"),
        ({"boundaries": {"a": 3}}, "boundaries and parts lists of points"),
        ({"boundaries": ["a"]}, "boundaries and parts lists of points"),
        ({"anchors": {"eyes": [[0], []]}}, "needs two groups"),
        ({"anchors": {"eyes": [[0]]}}, "needs two groups"),
        ({"anchors": {"eyes": 3}}, "anchors two lists"),
        ({"flip_pairs": [3]}, "flip_pairs must be pairs"),
        ({"point_names": "abc"}, "point_names a list of texts"),
        ({"anchors": {"eyes": [[0], [99]]}}, "anchor 'eyes' names point 99"),
        ({"parts": {"nose": [1.5]}}, "part 'nose' names point 1.5"),
        ({"num_points": 0}, "num_points is 0"),
        ({"num_points": "68"}, "num_points: found '68'"),
        ({"points": 3}, "unknown key 'points'"),
    ],
)
def test_bad_schemas_are_refused(values: dict, message: str) -> None:
    with pytest.raises(UserError) as error:
        schema_from_dict({**BASE, **values}, "my.yaml")
    assert message in str(error.value)
    assert str(error.value).startswith("my.yaml")


@pytest.mark.parametrize("missing", ["name", "num_points"])
def test_a_schema_needs_a_name_and_a_count(missing: str) -> None:
    with pytest.raises(UserError, match=f"missing key '{missing}'"):
        schema_from_dict({k: v for k, v in BASE.items() if k != missing}, "my.yaml")


def test_a_markup_of_ones_own_is_a_small_file(tmp_path: Path) -> None:
    schema = get_schema(own_schema(tmp_path))
    assert schema == schema_from_dict(yaml.safe_load(OWN_SCHEMA), "x")
    assert schema.flip_permutation.tolist() == [1, 0, 2]


def test_a_markup_without_a_mirror_table_maps_points_to_themselves() -> None:
    assert schema_from_dict({"name": "s", "num_points": 3}, "x").flip_permutation.tolist() == [0, 1, 2]


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"unknown schema 'wflw': expected one of wflw98, .* or a .yaml file"):
        get_schema("wflw")


@pytest.mark.parametrize(("source", "target"), CONVERSIONS)
def test_conversions_name_existing_points_and_commute_with_mirroring(source: str, target: str) -> None:
    src, dst = SCHEMAS[source], SCHEMAS[target]
    face = np.random.default_rng(0).normal(size=(2, src.num_points, 2))
    given = face.copy()
    out = convert(face, source, target)
    assert out.shape == (2, dst.num_points, 2)
    assert np.array_equal(face, given)
    np.testing.assert_allclose(convert(face[:, src.flip_permutation], source, target), out[:, dst.flip_permutation])


# Shares of a curve's length before each of iBUG's points: medians of the labels of 1,115 faces of 300-W's training
# images that are seen from the front, and those of WFLW's points on the same curve (102 faces of its test images).
SHARES = {
    "inner_upper_lip": ((60, 61, 62, 63, 64), (0, 0.349, 0.496, 0.663, 1), range(88, 93), (0, 0.257, 0.512, 0.755, 1)),
    "outer_lower_lip": (
        (48, 59, 58, 57, 56, 55, 54), (0, 0.216, 0.385, 0.498, 0.625, 0.791, 1),
        (76, 87, 86, 85, 84, 83, 82), (0, 0.170, 0.341, 0.513, 0.675, 0.837, 1),
    ),
    "left_eye_top": ((36, 37, 38, 39), (0, 0.322, 0.655, 1), range(60, 65), (0, 0.233, 0.465, 0.732, 1)),
    "right_eye_top": ((42, 43, 44, 45), (0, 0.362, 0.688, 1), range(68, 73), (0, 0.287, 0.575, 0.786, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", SHARES)
def test_wflw_s_labels_are_put_where_300_w_s_lie_on_the_same_curve(name: str) -> None:
    ours, wanted, theirs, shares = SHARES[name]
    face = np.zeros((98, 2))
    face[list(theirs), 0] = shares  # the curve drawn straight
    if name == "inner_upper_lip":  # its lower half, whose points the corners' means need
        face[[95, 94, 93], 0] = 0.257, 0.512, 0.755
    if name.endswith("eye_top"):
        low = (67, 66, 65) if name.startswith("left") else (75, 74, 73)
        face[list(low), 0] = shares[1:4]
    found = convert(face, "wflw98", "ibug68")[list(ours), 0]
    found = (found - found[0]) / (found[-1] - found[0])
    assert np.abs(found - wanted).max() < 0.035
    nearest = [0, *(shares[int(np.abs(np.array(shares) - share).argmin())] for share in wanted[1:-1]), 1]
    assert np.abs(np.array(nearest) - wanted).max() > 0.04  # what the nearest number would give


def test_ibug_s_contour_begins_lower_than_wflw_s_and_ends_at_the_same_chin() -> None:
    face = np.zeros((98, 2))
    face[:33, 1] = 16 - np.abs(np.arange(33) - 16)  # steps down from the ears
    found = convert(face, "wflw98", "ibug68")[:17, 1]
    assert found[0] == found[16] == 0.5
    assert found[8] == 16
    assert np.ptp(np.diff(found[:9])) < 0.3  # evenly spaced, as before


def test_points_cannot_be_invented() -> None:
    with pytest.raises(UserError, match="no conversion of landmarks from five to wflw98"):
        convert(np.zeros((5, 2)), "five", "wflw98")
    with pytest.raises(UserError, match="found 3 landmarks, expected 98"):
        convert(np.zeros((3, 2)), "wflw98", "five")


def test_converting_to_itself_copies() -> None:
    face = np.zeros((5, 2))
    out = convert(face, "five", "five")
    out[0] = 1
    assert not face.any()


DOCS = ROOT / "docs" / "schemas.md"


@every_schema
def test_the_table_in_the_docs_is_what_the_schema_is(schema: LandmarkSchema) -> None:
    anchors = ", ".join(
        f"{name} ({'; '.join(' '.join(map(str, g)) for g in groups)})" for name, groups in schema.anchors.items()
    )
    pairs = len(schema.flip_pairs)
    alone, curves = schema.num_points - 2 * pairs, len(schema.boundaries)
    row = f"| {schema.name} | {schema.num_points} | {pairs} | {alone} | {curves} | {anchors} |"
    assert row in DOCS.read_text(encoding="utf-8")


def test_the_docs_list_every_conversion_and_their_example_is_a_schema(tmp_path: Path) -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert all(f"| {source} | {target} |" in text for source, target in CONVERSIONS)
    (tmp_path / "three.yaml").write_text(text.split("```yaml\n")[1].split("```")[0])
    assert get_schema(tmp_path / "three.yaml").flip_pairs == ((0, 1),)


def test_a_markup_of_lists_and_arrays_is_the_same_as_one_of_tuples() -> None:
    told = LandmarkSchema(
        name="m",
        num_points=3,
        flip_pairs=((0, 1),),
        boundaries={"eyes": (0, 1)},
        anchors={"inter_ocular": ((0,), (1,))},
    )
    loose: dict[str, Any] = {
        "flip_pairs": np.array([[0, 1]]), "boundaries": {"eyes": [0, np.int64(1)]},
        "anchors": {"inter_ocular": [[0], np.array([1])]},
    }  # fmt: skip
    assert LandmarkSchema(name="m", num_points=np.int64(3), **loose) == told  # type: ignore[arg-type]
    for wrong in ({"num_points": 3.0}, {"num_points": "3"}, {"num_points": 3, "flip_pairs": [0, 1]}):
        with pytest.raises(UserError, match="schema m: "):
            LandmarkSchema(name="m", **wrong)
