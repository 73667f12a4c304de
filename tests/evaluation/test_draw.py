"""Pictures: things are where they should be, arguments are left alone, files are written. Looking is done by people."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stylealign.evaluation.draw import (
    PREDICTED_RGB,
    TRUTH_RGB,
    ced_plot,
    contact_sheet,
    draw_landmarks,
    lines_plot,
    mean_face_plot,
    style_sheet,
)
from stylealign.face.schema import FIVE, WFLW98

GREY = np.full((64, 48, 3), 90, np.uint8)
SHAPE = np.array([[12.0, 20], [36, 20], [24, 34], [16, 46], [32, 46]])


def flat(value: int, size: int = 8) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


def centre(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """The (x, y) mean of a dot, weighted by how far each pixel has gone from grey to the dot's colour."""
    way = (image.astype(float) - 90) @ (np.array(colour) - 90.0)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(way * x).sum(), (way * y).sum()]) / way.sum()


@pytest.mark.parametrize("place", [(20.0, 30.0), (20.5, 30.25), (13.3, 41.8)])
def test_a_landmark_is_drawn_where_it_is_to_a_fraction_of_a_pixel(place: tuple[float, float]) -> None:
    image = draw_landmarks(GREY, np.array([place]))
    np.testing.assert_allclose(centre(image, PREDICTED_RGB), place, atol=0.15)


def test_drawing_leaves_the_picture_it_was_given_alone() -> None:
    image = GREY.copy()
    image.setflags(write=False)
    landmarks = SHAPE.copy()
    drawn = draw_landmarks(image, landmarks, FIVE, truth=SHAPE + 3)
    assert drawn.shape == image.shape
    assert (image == 90).all()
    assert (landmarks == SHAPE).all()
    assert (drawn[49, 19] == TRUTH_RGB).all()  # the true mouth corner
    assert (drawn[46, 16] == 255).all()  # the predicted one


def test_degenerate_and_distant_landmarks_are_drawn_without_complaint() -> None:
    for landmarks in (np.full((98, 2), 20.0), np.full((98, 2), -1e9), np.random.default_rng(0).normal(0, 1e7, (98, 2))):
        assert draw_landmarks(GREY, landmarks, WFLW98).shape == GREY.shape


def test_a_contact_sheet_lays_images_out_row_by_row() -> None:
    sheet = contact_sheet([flat(10), flat(20), flat(30)], columns=2, gap=1)
    assert sheet.shape == (2 * 9 + 1, 2 * 9 + 1, 3)
    assert [int(sheet[1 + dy, 1 + dx, 0]) for dy, dx in ((0, 0), (0, 9), (9, 0), (9, 9))] == [10, 20, 30, 255]
    assert (sheet[0] == 255).all()
    small = contact_sheet([flat(10), flat(20, 4)], columns=5, gap=0)  # smaller images are centred, columns not wasted
    assert small.shape == (8, 16, 3)
    assert (small[2:6, 10:14] == 20).all()
    assert (small[:2, 8:] == 255).all()


def test_labels_get_lines_of_their_own() -> None:
    plain = contact_sheet([flat(10, 64)] * 2, 2)
    labelled = contact_sheet([flat(10, 64)] * 2, 2, ["one", "two\na very long name that cannot fit"])
    assert labelled.shape == (plain.shape[0] + 2 * 16, plain.shape[1], 3)
    assert labelled[68:-4].min() < 100  # something is written
    with pytest.raises(ValueError, match="2 images"):
        contact_sheet([flat(1)] * 2, 2, ["one"])


def test_a_style_sheet_has_structures_in_rows_and_styles_in_columns() -> None:
    contents, styles = [flat(10), flat(20)], [flat(50), flat(60), flat(70)]
    grid = [[flat(100 * i + 10 * j + 110) for j in range(3)] for i in range(2)]
    gap = 2
    sheet = style_sheet(contents, styles, grid, gap=gap)
    first = gap  # the header's tiles, then two more gaps, then the others
    later = [gap + 8 + 3 * gap + k * (8 + gap) for k in range(3)]
    assert [int(sheet[first, x, 0]) for x in later] == [50, 60, 70]
    assert [int(sheet[y, first, 0]) for y in later[:2]] == [10, 20]
    assert [[int(sheet[y, x, 0]) for x in later] for y in later[:2]] == [[110, 120, 130], [210, 220, 230]]
    assert (sheet[first, first] == 255).all()
    with pytest.raises(ValueError, match="3 styles"):
        style_sheet(contents, styles, [grid[0][:2], grid[1]])


def test_plots_are_written_as_png_and_are_the_same_every_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ced_plot({"a": rng.uniform(0, 0.1, 50), "b": np.array([0.5])}, tmp_path / "ced.png", title="faces")
    mean_face_plot(FIVE, SHAPE, {"a": np.arange(5.0), "b": np.array([1, 2, np.nan, 3, 4])}, tmp_path / "face.png")
    nowhere = np.where(np.arange(5)[:, None] == 1, np.nan, SHAPE)
    mean_face_plot(FIVE, nowhere, np.array([0, np.nan, 2, 3, 4]), tmp_path / "nowhere.png")
    lines_plot({"total": (np.arange(5), np.arange(5) + 1.0), "kl": (np.arange(5), np.zeros(5))}, tmp_path / "lines.png")
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert np.asarray(image.convert("L")).std() > 5
    again = [io.BytesIO(), io.BytesIO()]
    for buffer in again:
        mean_face_plot(FIVE, SHAPE, np.arange(5.0), buffer)
    assert again[0].getvalue() == again[1].getvalue()


@pytest.mark.filterwarnings("error")  # of a longer name the figure's own layout gives up
@pytest.mark.parametrize("name", ["x" * 70_000, "$\\frac{1$", "a$b$c_d"])
def test_names_of_any_length_and_with_dollars_can_be_drawn(name: str, tmp_path: Path) -> None:
    steps, errors = np.arange(3), np.array([0.01, 0.02])
    lines_plot({name: (steps, steps + 1.0)}, tmp_path / "lines.png")
    ced_plot({name: errors}, tmp_path / "ced.png", title=name)
    mean_face_plot(FIVE, SHAPE, {name: np.arange(5.0)}, tmp_path / "mean.png")
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            assert np.asarray(image.convert("L")).std() > 5
