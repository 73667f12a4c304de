"""Faces stay on their own pictures, whatever letters the pictures' names have."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from builders.layouts import picture, points
from builders.tools import label_studio, one, read, regions
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.formats import FORMATS, WriteOptions, having
from stylealign.face.sample import FaceSample
from stylealign.face.schema import FIVE

names_drawn = st.lists(
    st.tuples(st.text("ab1 _&#+%20;?=.~()é", max_size=6), st.sampled_from(["png", "jpg"])).map("a{0[0]}.{0[1]}".format),
    min_size=1, max_size=4, unique=True,
)  # fmt: skip
HARD = ["a.png", "a&b.png", "c+d.png", "c d.png", "e#1.png", "e.png", "f%20g.png", "f g.png", "100%.png", "f%2520g.png"]


def faces_of(folder: Path, names: list[str]) -> list[FaceSample]:
    """A face a picture, each picture of other content; ids are names without suffix where that tells them apart."""
    stems = [Path(name).stem for name in names]
    return [
        FaceSample(
            id=name if stems.count(stem) > 1 else stem, image=picture(folder / name, seed=i), landmarks=points(5, i)
        )
        for i, (name, stem) in enumerate(zip(names, stems, strict=True))
    ]


def refuse_another_picture(before: list[FaceSample], after: list[FaceSample]) -> None:
    """Assert that each face is read once, on a picture of the same content as it was written on."""
    pairs = {
        face.image.read_bytes(): was.landmarks
        for face in after
        for was in before
        if np.abs(face.landmarks - was.landmarks).max() <= 0.01
    }
    assert len(after) == len(before)
    assert pairs.keys() == {was.image.read_bytes() for was in before}
    for was in before:
        assert pairs[was.image.read_bytes()] is was.landmarks, was.image.name


@pytest.mark.parametrize("name", [name for name in having("write") if FORMATS[name].num_points is None])
def test_a_face_written_comes_back_on_its_picture(name: str, tmp_path: Path) -> None:
    round_ = iter(range(1000))

    @settings(max_examples=25)
    @given(names_drawn)
    @example(HARD)
    @example(["a b.jpg", "a_b.png", "a_b_1.jpg", "a b_1.png"])
    def holds(names: list[str]) -> None:
        folder = tmp_path / f"{next(round_)}"
        before = faces_of(folder / "in", names)
        data = write_dataset(folder / "data", before, schema=FIVE, name="x", image_root=folder / "in", how={})
        (folder / "out").mkdir()
        write = FORMATS[name].write
        assert write is not None
        write(data, folder / "out", WriteOptions())
        refuse_another_picture(before, [one([entry]) for entry in read(name, folder / "out", FIVE)])

    holds()


def test_predictions_for_label_studio_lead_to_their_pictures(tmp_path: Path) -> None:
    """Blanks stay in these names: an address without quotes mixes `c d.png` up with `c+d.png`."""
    before = faces_of(tmp_path / "photos", HARD)
    predicted = FORMATS["label-studio"].predicted
    assert predicted is not None
    predicted.write(tmp_path, before, FIVE)
    tasks = tmp_path / "label_studio" / "tasks.json"
    tasks.write_text(tasks.read_text().replace('"predictions"', '"annotations"'))
    again = read("label-studio", tmp_path, FIVE, images=tmp_path / "photos")
    refuse_another_picture(before, [one([entry]) for entry in again])


@pytest.mark.parametrize("head", ["/data/local-files/?d=", "/data/local-files/?x=1&d=faces/", "faces/", "s3://bucket/"])
@pytest.mark.parametrize("name", HARD)
def test_an_address_that_nobody_quoted_is_the_path_or_refused(name: str, head: str, tmp_path: Path) -> None:
    """A file with `&`, `#` or `%` as they are, such as we wrote: never the picture that the name begins with."""
    label_studio(tmp_path, regions(), f"{head}{name}")
    picture(tmp_path / "e.png")
    if not (tmp_path / name).exists():
        assert "no such image" in str(read("label-studio", tmp_path)[0])
        picture(tmp_path / name)
    assert one(read("label-studio", tmp_path)).image == tmp_path / name


def test_a_query_behind_a_picture_is_none_of_its_name(tmp_path: Path) -> None:
    for address in ("/data/local-files/?d=a.png&x=1", "/data/upload/1/a.png?x=1", "https://x.org/a%2Epng?y=b.png#c"):
        label_studio(tmp_path, regions(), address)
        assert one(read("label-studio", tmp_path)).image == tmp_path / "a.png", address
