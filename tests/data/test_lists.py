"""Lists of faces: every id that a reader gives names its face, and that one alone."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.layouts import csv_text, picture, points
from stylealign.data.formats import FORMATS, ReadOptions
from stylealign.data.lists import FaceLists
from stylealign.face.sample import FaceSample
from stylealign.face.schema import FIVE

NAMES = ["x1.jpg.png", "x2.jpg.png", "x2.png.png", "a.jpg", "a.png", "b#1.png", "b.1.jpg", "sub/c.JPG.png", "sub/c.png"]

SPLITS = ("train", "val", "")
"""Empty: in no list"""


def read_in(folder: Path, reader: str, names: list[str]) -> list[FaceSample]:
    for i, name in enumerate(dict.fromkeys(names)):
        picture(folder / name, seed=i)
    if reader == "csv":
        (folder / "faces.csv").write_text(csv_text([(name, points(5, i)) for i, name in enumerate(names)], 5))
    entries = list(FORMATS[reader].read(folder, ReadOptions(schema=FIVE)))
    faces = [entry for entry in entries if isinstance(entry, FaceSample)]
    assert len(faces) == len(entries)
    return faces


@pytest.mark.parametrize("reader", ["csv", "folder"])
def test_a_list_of_ids_names_each_face_and_no_other(reader: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    @settings(max_examples=30)
    @given(
        st.lists(st.sampled_from(NAMES), min_size=1, max_size=8),
        st.fixed_dictionaries(
            {"a#": st.sampled_from(SPLITS[:2])}  # of `a` too, if a list names that and not this
            | dict.fromkeys(("x1", "x2", "a.", "b#", "b.", "su"), st.sampled_from(SPLITS))
        ),
    )
    def holds(names: list[str], split_of: dict[str, str]) -> None:
        folder = tmp_path_factory.mktemp("source")
        faces = read_in(folder, reader, names)
        wanted = {face.id: split_of[f"{face.id}."[:2]] for face in faces}
        for split in ("train", "val"):
            ids = [face for face, its in wanted.items() if its == split]
            (folder / f"{split}.txt").write_text("".join(f"{face}\n" for face in ids))
        lists = FaceLists(folder, ("train=train.txt", "val=val.txt"), ())
        found = {face.id: lists.assign(face, True) for face in faces}
        assert {face: its.split if its else "" for face, its in found.items()} == wanted
        assert not list(lists.unmatched())

    holds()


def test_a_list_of_pictures_names_faces_of_other_ids(tmp_path: Path) -> None:
    """As those of a data set that was drawn, generated or merged."""
    images = [picture(tmp_path / "pictures" / "a" / f"{i}.png", seed=i) for i in range(3)]
    faces = [FaceSample(id=f"drawn {i}", image=images[i // 2], landmarks=points(5, i)) for i in range(5)]
    (tmp_path / "few.txt").write_text("a/1.png\ndrawn 4\n")
    lists = FaceLists(tmp_path, (), ("few=few.txt",), tmp_path / "pictures")
    found = [lists.assign(face, False) for face in faces]
    assert ["few" in face.attributes for face in found if face] == [False, False, True, True, True]
    assert not list(lists.unmatched())


def test_a_list_of_pictures_names_two_that_differ_in_their_suffix(tmp_path: Path) -> None:
    faces = read_in(tmp_path, "folder", ["a.jpg", "a.png", "b.jpg"])
    assert [face.id for face in faces] == ["a", "a.png", "b"]
    (tmp_path / "val.txt").write_text("a.png\n")
    (tmp_path / "train.txt").write_text("a.jpg\nb.jpg\n")
    lists = FaceLists(tmp_path, ("train=train.txt", "val=val.txt"), ())
    assert [found and found.split for found in (lists.assign(face, True) for face in faces)] == [
        "train",
        "val",
        "train",
    ]
    assert not list(lists.unmatched())


def test_a_bad_face_whose_id_ends_as_a_picture_s_name_is_in_its_list_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("x1.jpg\nx2.jpg\n")
    lists = FaceLists(tmp_path, ("val=val.txt",), ())
    lists.mark("x1.jpg#3")
    assert [entry.face for entry in lists.unmatched()] == ["x2"]
