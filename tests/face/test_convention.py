"""Two ways of labelling under one mark-up: told by typical faces, from labels alone."""

from pathlib import Path

import numpy as np
import pytest

from builders.many_faces import LIPS, many_as_dataset, many_faces, with_lips_marked_elsewhere
from stylealign.cli import main
from stylealign.data.convention import say_of_other_ways, shifts_between, typical_of
from stylealign.data.dataset import FaceDataset
from stylealign.errors import UserError
from stylealign.face.convention import LEAST_FACES, LIMIT, shifts, typical_face
from stylealign.face.schema import IBUG68, LandmarkSchema


def test_the_typical_face_is_symmetric_upright_and_forgets_place_size_and_number() -> None:
    shape = typical_face(many_faces(150), IBUG68)
    assert shape is not None
    mirrored = shape[IBUG68.flip_permutation] * (-1, 1)
    assert np.abs(shape - mirrored).max() < 1e-6
    other = typical_face(many_faces(150, seed=1), IBUG68)
    assert other is not None
    assert np.linalg.norm(shifts(shape, other), axis=1).max() < 0.01
    assert shape[8, 1] > shape[27, 1]  # the chin is below the nose's bridge


@pytest.mark.parametrize("share", [0.02, 0.05])
def test_what_is_marked_elsewhere_is_found_and_nothing_else(share: float) -> None:
    shape = typical_face(with_lips_marked_elsewhere(many_faces(150), share), IBUG68)
    other = typical_face(many_faces(150, seed=1), IBUG68)
    assert shape is not None
    assert other is not None
    far = np.linalg.norm(shifts(shape, other), axis=1)
    assert np.abs(far[LIPS] - share).max() < 0.01
    assert np.delete(far, LIPS).max() < 0.01
    right = shifts(shape, other)[[61, 63], 0]
    assert right[0] > 0 > right[1]  # towards the middle


def test_too_few_turned_away_or_without_mirror_cannot_be_told() -> None:
    assert typical_face(many_faces(LEAST_FACES - 1), IBUG68) is None
    aside = many_faces(2 * LEAST_FACES, widest=0.0)
    aside = np.concatenate(
        [aside[:, :, :1] + 0.6 * aside[:, :, 1:] * (np.arange(68)[:, None] > 40), aside[:, :, 1:]], 2
    )
    assert typical_face(aside, IBUG68) is None
    assert typical_face(many_faces(150), LandmarkSchema(name="own", num_points=68)) is None
    gaps = many_faces(LEAST_FACES + 10)
    gaps[:20, 3] = np.nan
    assert typical_face(gaps, IBUG68) is None


def test_check_against_says_which_landmarks_lie_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = many_as_dataset(tmp_path / "one", with_lips_marked_elsewhere(many_faces(90), 2 * LIMIT))
    many_as_dataset(tmp_path / "two", many_faces(90, seed=1))
    assert main(["check", str(one.folder), "--against", str(tmp_path / "two")]) == 0
    told = capsys.readouterr()
    assert "Labelled in one way?" in told.out
    assert f"warning: {one.folder}: landmarks lie elsewhere than those of {tmp_path / 'two'}: " in told.err
    assert main(["check", str(one.folder), "--against", str(one.folder)]) == 0
    assert "warning" not in capsys.readouterr().err
    assert main(["check", str(tmp_path), "--against", str(one.folder)]) == 2
    assert "--against is for dataset folders" in capsys.readouterr().err
    moved = shifts_between(one, FaceDataset.open(tmp_path / "two"))
    assert moved is not None
    assert sorted(np.flatnonzero(np.linalg.norm(moved, axis=1) > LIMIT)) == LIPS


def test_sets_that_are_learnt_together_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = many_as_dataset(tmp_path / "first", many_faces(80))
    alike = many_as_dataset(tmp_path / "alike", many_faces(80, seed=2))
    other = many_as_dataset(tmp_path / "other", with_lips_marked_elsewhere(many_faces(80, seed=1), 2 * LIMIT))
    made = many_as_dataset(tmp_path / "made", with_lips_marked_elsewhere(many_faces(80, seed=1), 2 * LIMIT), made=True)
    say_of_other_ways({str(faces.folder): faces for faces in (first, alike, made)})
    assert capsys.readouterr().err == ""
    assert typical_of(made) is None
    say_of_other_ways({"one": first, str(other.folder): other})
    said = capsys.readouterr().err
    assert f"warning: {other.folder}: its landmarks lie elsewhere than those of one, in faces" in said
    assert "by up to 6." in said
    five = many_as_dataset(tmp_path / "five", np.zeros((2, 5, 2)), LandmarkSchema(name="own5", num_points=5))
    with pytest.raises(UserError, match=r"is of own5, .* of ibug68: expected one mark-up"):
        shifts_between(five, first)


def test_prepare_says_so_of_what_it_merges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many_as_dataset(tmp_path / "one", many_faces(70))
    many_as_dataset(tmp_path / "two", with_lips_marked_elsewhere(many_faces(70, seed=1), 2 * LIMIT))
    sources = ", ".join(f"{{reader: dataset, path: {tmp_path / name}, name: {name}}}" for name in ("one", "two"))
    (tmp_path / "merge.yaml").write_text(f"sources: [{sources}]\nout: {tmp_path / 'both'}\n")
    assert main(["prepare", str(tmp_path / "merge.yaml")]) == 0
    said = capsys.readouterr().err
    assert f"warning: {tmp_path / 'two'}: its landmarks lie elsewhere than those of {tmp_path / 'one'}" in said
