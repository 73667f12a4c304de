"""Own points that are as many as a built-in mark-up's: `prepare`, `check` and `fit` say what they take them for."""

from pathlib import Path

import numpy as np
import pytest

from builders.layouts import csv_text, picture
from stylealign.cli import main
from stylealign.data.dataset import FaceDataset
from stylealign.face.sample import FaceSample
from stylealign.face.schema import SCHEMAS, LandmarkSchema
from stylealign.jobs import prepare
from stylealign.jobs.fit import looking
from stylealign.jobs.fit.config import Fit
from stylealign.jobs.init import MarkedUp
from stylealign.jobs.prepare import Prepare, Source
from stylealign.toyfaces import landmarks, random_structure
from stylealign.toyfaces.numbering import drawn_as

OWN29 = [*range(0, 33, 4), *range(33, 97, 3)][:29]
"""Of the drawn face's 98: contour, brows, nose, some of eyes and mouth, in WFLW's order."""


def drawn(num: int = 12) -> np.ndarray:
    """(N, 98, 2) px of pictures of 64 px."""
    return np.stack([landmarks(random_structure(np.random.default_rng(i)), 64) for i in range(num)])


def source_of(folder: Path, shapes: np.ndarray) -> Path:
    """A CSV of faces, each in a picture of its own."""
    for i in range(len(shapes)):
        picture(folder / "images" / f"{i}.png", 64, 64, seed=i)
    (folder / "faces.csv").write_text(csv_text([(f"{i}.png", s) for i, s in enumerate(shapes)], shapes.shape[1]))
    return folder


def said_by(words: list[str], capsys: pytest.CaptureFixture) -> str:
    assert main(words) == 0, capsys.readouterr().err
    return capsys.readouterr().err


@pytest.mark.parametrize("name", SCHEMAS)
def test_true_points_are_taken_by_their_number_and_that_is_said(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    schema = SCHEMAS[name]
    source, out = source_of(tmp_path / "in", drawn_as(schema, drawn())), tmp_path / "out"
    said = said_by(["prepare", "--reader", "csv", "--path", str(source), "--out", str(out)], capsys)
    assert f"{source}: {schema.num_points} landmarks a face and no --schema: taken for {name}; --schema names" in said
    assert "warning" not in said
    assert said_by(["check", str(out)], capsys) == f"{out}: nothing wrong found\n"
    named = ["prepare", "--reader", "csv", "--path", str(source), "--schema", name, "--out", str(tmp_path / "named")]
    assert "no --schema" not in said_by(named, capsys)


def test_own_points_are_warned_of_whoever_said_what_they_are(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source, out = source_of(tmp_path / "in", drawn()[:, OWN29]), tmp_path / "out"
    words = ["prepare", "--reader", "csv", "--path", str(source), "--out", str(out)]
    for more in ([], ["--schema", "cofw29"]):
        said = said_by([*words[:-1], f"{out}{len(more)}", *more], capsys)
        assert f"warning: {source}: the landmarks do not lie as those of cofw29 do" in said
        assert "`stylealign init SOURCE`" in said
    said = said_by(["check", f"{out}0"], capsys)
    assert f"warning: {out}0: the landmarks do not lie as those of cofw29 do" in said
    assert "nothing else wrong found" in said
    # What the warning says to do ends it, and the pairs are then those of the points.
    made = tmp_path / "mine"
    said_by(["init", str(source), "--out", str(made)], capsys)
    own = ["prepare", "--reader", "csv", "--path", str(source), "--schema", str(made / "schema.yaml")]
    said = said_by([*own, "--out", str(tmp_path / "right")], capsys)
    assert "warning" not in said
    assert "no --schema" not in said


def test_of_several_sources_the_one_that_does_not_fit_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    cofw = SCHEMAS["cofw29"]
    right = source_of(tmp_path / "a", drawn_as(cofw, drawn(20)))
    wrong = source_of(tmp_path / "b", drawn(5)[:, OWN29])
    prepare.main(
        Prepare(sources=(Source(reader="csv", path=right), Source(reader="csv", path=wrong)), out=tmp_path / "out")
    )
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"warning: {wrong}: the landmarks do not lie")
    assert len(FaceDataset.open(tmp_path / "out")) == 25


def looked(folder: Path, shapes: np.ndarray, capsys: pytest.CaptureFixture, **more: object) -> tuple[str, str]:
    """Name of the mark-up that `fit` takes, and what it says."""
    found = looking._marked_up(Fit(path=source_of(folder, shapes), **more), "csv")  # type: ignore[arg-type]
    return found.schema.name, capsys.readouterr().err


def test_fit_takes_a_large_mark_up_by_pairs_and_places(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    name, said = looked(tmp_path / "wflw", drawn(30), capsys)
    assert name == "wflw98"
    assert "the mirror pairs are those of wflw98, and the landmarks lie as its do" in said
    # The same pairs, other points: eyes and brows exchanged whole, as COFW's table allows.
    cofw = SCHEMAS["cofw29"]
    order = np.arange(29)
    order[:8], order[8:16] = np.arange(8, 16), np.arange(8)
    order[[22, 23, 28]], order[[0, 1, 20]] = order[[0, 1, 20]], order[[22, 23, 28]]
    name, said = looked(tmp_path / "own", drawn_as(cofw, drawn(30))[:, order], capsys)
    assert name == "own"
    assert "the mirror pairs are those of cofw29, but the landmarks lie elsewhere: it is not taken" in said
    # Three faces tell nothing of the places, whatever pairs they have.
    faces = [FaceSample(id=str(i), image=Path("x"), landmarks=face) for i, face in enumerate(drawn_as(cofw, drawn(4)))]
    own = LandmarkSchema(name="own", num_points=29, flip_pairs=cofw.flip_pairs)
    assert looking._known(MarkedUp(own, faces, [], 0.0)).schema == cofw
    assert looking._known(MarkedUp(own, faces[:3], [], 0.0)).schema == own
    assert "too few faces tell where the landmarks lie" in capsys.readouterr().err


@pytest.mark.parametrize(
    "points", [(33, 46, 54, 76, 82), (35, 44, 54, 76, 82), (60, 72, 54, 76, 82), (96, 97, 54, 76, 82)]
)
def test_fit_takes_no_small_mark_up_by_pairs(
    points: tuple[int, ...], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Outer brows, middles of brows, eye corners and pupils: all mirror alike, and five points tell no more."""
    name, said = looked(tmp_path / "own", drawn(30)[:, list(points)], capsys)
    assert name == "own"
    assert "the mirror pairs are those of five too, but 5 landmarks are too few to tell" in said
    assert "--schema five" in said
    name, said = looked(tmp_path / "named", drawn(30)[:, list(points)], capsys, schema="five")
    assert name == "five"
    assert "too few" not in said
    assert looked(tmp_path / "eyes", drawn(30)[:, list(points)], capsys, eyes=(0, 1))[0] == "eyes"
