"""Points that are none of a mark-up's are told by how they lie; true ones never are, whoever shows them and how."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from builders.layouts import picture
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.face.mirror import flip_pairs, mirror_twins
from stylealign.face.sample import FaceSample
from stylealign.face.schema import CONVERSIONS, SCHEMAS, LandmarkSchema, convert
from stylealign.toyfaces import landmarks, random_structure
from stylealign.toyfaces.numbering import FEW_POINTS, LIMIT, MOST_FACES, drawn_as, misfit, misfits, numbered_otherwise

every = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda schema: schema.name)


def drawn(num: int, yaw: tuple[float, float] | None = None, seed: int = 0) -> np.ndarray:
    """(N, 98, 2) of drawn faces; `yaw`: turned by so many degrees."""
    found = []
    for i in range(num):
        rng = np.random.default_rng((seed, i))
        structure = random_structure(rng)
        if yaw is not None:
            structure = dataclasses.replace(structure, yaw=float(rng.uniform(*yaw)))
        found.append(landmarks(structure, 256))
    return np.stack(found).astype(np.float64)


def of(shapes: np.ndarray, there: np.ndarray | None = None) -> list[FaceSample]:
    """Faces of these landmarks; those that are not `there` are missing."""
    given = [{}] * len(shapes) if there is None else [{"visible": t, "point_trust": t} for t in there]
    return [
        FaceSample(id=str(i), image=Path("x.png"), landmarks=shape, **more)
        for i, (shape, more) in enumerate(zip(shapes, given, strict=True))
    ]


@every
def test_the_drawn_head_has_the_points_of_every_mark_up(schema: LandmarkSchema) -> None:
    """By what the mark-up's own table says: the guessed mirror twins are its own, and known conversions agree."""
    faces = drawn(40)
    shapes = drawn_as(schema, faces)
    assert shapes.shape == (40, schema.num_points, 2)
    if schema.name != "lapa106":  # four of its nose are two points of the drawn head's
        pairs = set(flip_pairs(mirror_twins(shapes)[0]))
        assert pairs == {(min(pair), max(pair)) for pair in schema.flip_pairs}
    for source, target in CONVERSIONS:
        if source == schema.name:
            away = convert(shapes, source, target) - drawn_as(SCHEMAS[target], faces)
            assert np.abs(away).max() < 12  # px of 256: AFLW's mouth corners and eye centres are as good as that


@every
@pytest.mark.parametrize("yaw", [None, (-90.0, -60.0), (60.0, 90.0), (-90.0, 90.0)])
def test_true_faces_are_never_called_others(schema: LandmarkSchema, yaw: tuple[float, float] | None) -> None:
    each = misfits(drawn_as(schema, drawn(200, yaw)), np.ones((200, schema.num_points), bool), schema)
    assert each.max() < LIMIT  # so no choice of four is
    assert np.median(each) < LIMIT / 2


@every
def test_size_place_and_turn_change_nothing(schema: LandmarkSchema) -> None:
    shapes, there = drawn_as(schema, drawn(5)), np.ones((5, schema.num_points), bool)
    c, s = np.cos(2.0), np.sin(2.0)  # a picture on its side
    before = misfits(shapes, there, schema)
    np.testing.assert_allclose(misfits(7 * shapes - 300, there, schema), before, atol=1e-9)
    turned = misfits(shapes @ np.array([[c, s], [-s, c]]), there, schema)
    if schema.num_points < FEW_POINTS:
        assert (turned > LIMIT).all()
    else:
        np.testing.assert_allclose(turned, before, atol=1e-9)


@every
def test_missing_points_do_not_count(schema: LandmarkSchema) -> None:
    """Against the same faces without a numbering error; the numbers of what is missing mean nothing."""
    rng = np.random.default_rng(1)
    shapes = drawn_as(schema, drawn(30))
    there = rng.random(shapes.shape[:2]) < 0.8
    whole = misfit(of(shapes), schema)
    spoilt = np.where(there[..., None], shapes, 0)
    found = misfit(of(spoilt, there), schema)
    assert found is not None
    assert whole is not None
    assert found < LIMIT
    assert found == pytest.approx(whole, abs=0.03)
    assert misfit(of(spoilt, there & (rng.random(there.shape) < 0.1)), schema) is None  # too little of each


@every
def test_shuffled_points_are_always_told(schema: LandmarkSchema) -> None:
    shapes = drawn_as(schema, drawn(20))
    if schema.num_points < FEW_POINTS:
        orders = [list(order) for order in itertools.permutations(range(schema.num_points))][1:]
    else:
        orders = [np.random.default_rng(i).permutation(schema.num_points).tolist() for i in range(60)]
        orders.append(schema.flip_permutation.tolist())  # left and right exchanged
        orders.append(list(range(schema.num_points))[::-1])
    for order in orders:
        found = misfit(of(shapes[:, order]), schema)
        assert found is not None
        assert found > LIMIT + 0.03, order


@pytest.mark.parametrize(
    "points",
    [
        lambda n: list(range(n)),
        lambda n: np.linspace(0, 95, n).round().astype(int).tolist(),
        lambda n: np.sort(np.random.default_rng(5).permutation(98)[:n]).tolist(),
    ],
)
@pytest.mark.parametrize("name", ["cofw29", "aflw19", "ibug68", "synthetics70"])
def test_other_points_of_the_same_number_are_told(name: str, points: Callable[[int], list[int]]) -> None:
    schema = SCHEMAS[name]
    found = misfit(of(drawn(20)[:, points(schema.num_points)]), schema)
    assert found is not None
    assert found > LIMIT + 0.1


def test_few_faces_and_own_mark_ups_get_no_verdict() -> None:
    schema = SCHEMAS["cofw29"]
    shapes = drawn(4)[:, :29]
    assert misfit(of(shapes[:3]), schema) is None
    assert misfit(of(shapes), schema) is not None
    assert misfit(of(shapes), dataclasses.replace(schema, name="mine")) is None
    assert misfit(of(shapes), dataclasses.replace(schema, parts={})) is None


def test_a_large_data_set_is_looked_at_in_a_bounded_number_of_faces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = picture(tmp_path / "a.png")
    shapes = np.tile(drawn(10)[:, :29], (40, 1, 1))
    faces = [FaceSample(id=str(i), image=image, landmarks=shape) for i, shape in enumerate(shapes)]
    dataset = write_dataset(tmp_path / "set", [*faces, FaceSample(id="x", image=image)], schema="cofw29", name="x")
    read: list[int] = []
    whole = FaceDataset.__getitem__
    monkeypatch.setattr(FaceDataset, "__getitem__", lambda self, i: (read.append(i), whole(self, i))[1])
    said = numbered_otherwise(dataset)
    assert said is not None
    assert "do not lie as those of cofw29 do (misfit 0." in said
    assert "stylealign init" in said
    assert "--schema FILE.yaml" in said
    assert len(read) == MOST_FACES
