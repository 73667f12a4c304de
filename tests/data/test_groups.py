"""Which faces are of one person, and splits that keep them together."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.dots import dots
from builders.layouts import picture
from stylealign.cli import main
from stylealign.data.dataset import FaceDataset
from stylealign.data.formats import FORMATS, ReadOptions
from stylealign.data.groups import Groups, groups_of, hold_out, in_both, splits_by_group
from stylealign.errors import UserError
from stylealign.face.sample import FaceSample, Provenance
from stylealign.face.schema import LandmarkSchema


def faces_named(names: Sequence[str], splits: Sequence[str] = ()) -> list[FaceSample]:
    splits = splits or ["train"] * len(names)
    return [FaceSample(id=n, image=Path("/r") / f"{n}.png", split=s) for n, s in zip(names, splits, strict=True)]


def grouped(names: Sequence[str], how: str = "auto") -> dict[str, str]:
    return groups_of(faces_named(names), how, Path("/r"), Path("/r"), "ibug").of


PEOPLE = [f"{name}_{n:02d}" for name in ("Ann_B", "Cy_D", "Eve_F", "Gus_H", "Ida_J") for n in (0, 1, 10)]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (PEOPLE, {name.rpartition("_")[0] for name in PEOPLE}),
        ([f"{name.rpartition('_')[0]}_t{name[-2:]}" for name in PEOPLE], {n.rpartition("_")[0] for n in PEOPLE}),
        ([f"{name[0]}/{i}" for i, name in enumerate(PEOPLE)], {"A", "C", "E", "G", "I"}),
        ([f"img{i:03d}" for i in range(9)], {f"img{i:03d}" for i in range(9)}),
        ([f"images/{i:03d}" for i in range(9)], {f"images/{i:03d}" for i in range(9)}),
    ],
    ids=["person and number", "person and frame", "folders", "numbers alone", "one folder"],
)
def test_who_is_one_person_is_guessed_from_names(names: list[str], expected: set[str]) -> None:
    assert set(grouped(names).values()) == expected


@pytest.mark.parametrize("how", ["auto", "none"])
def test_faces_made_from_one_face_are_of_its_group(how: str) -> None:
    made = [
        dataclasses.replace(
            face, provenance=Provenance(content_id=face.id.rpartition("@")[0], style_id=None, translator="t", seed=0)
        )
        for face in faces_named(["a@blur", "b@blur", "lost@blur", "a@dark", "lost@dark"])
    ]  # fmt: skip
    found = groups_of([*made, *faces_named(["a", "b", "c"])], how, Path("/r"), Path("/r"), "ibug").of
    assert found == {
        "a": "a", "b": "b", "c": "c", "a@blur": "a", "b@blur": "b", "lost@blur": "lost", "a@dark": "a",
        "lost@dark": "lost",
    }  # fmt: skip


def test_groups_are_held_out_whole_and_near_the_share() -> None:
    groups = grouped(PEOPLE)
    held = hold_out(groups, 0.2, seed=0)
    assert len(held) == 3
    assert len({groups[face] for face in held}) == 1
    assert held == hold_out(dict(reversed(groups.items())), 0.2, seed=0)  # whatever order they come in
    assert len({frozenset(hold_out(groups, 0.2, seed)) for seed in range(20)}) > 2
    assert len(hold_out({"a": "1", "b": "1", "c": "2", "d": "2"}, 0.1, 0)) == 2
    splits = {face: "val" if face in list(groups)[:4] else "train" for face in groups}
    assert in_both(groups, splits) == (1, 4)  # the fourth face is of the second person
    found = groups_of(faces_named(PEOPLE), "auto", Path("/r"), Path("/r"), "ibug")
    assert found.holds("elsewhere/Cy_D_77", {"Cy_D"})  # a picture without a label, of one who is held out
    assert not found.holds("elsewhere/Xu_Z_77", {"Cy_D"})


def test_a_pattern_and_a_column_say_who_is_who(tmp_path: Path) -> None:
    assert set(grouped(PEOPLE, "^([A-Z])").values()) == {"A", "C", "E", "G", "I"}
    with pytest.raises(
        UserError, match=r"--group x\(\\d\+\): matches none of 15 names, the first 'Ann_B_00'; expected"
    ):
        grouped(PEOPLE, r"x(\d+)")
    with pytest.raises(UserError, match=r"--group \(: not a regular expression"):
        grouped(PEOPLE, "(")
    with pytest.raises(UserError, match="no column 'group'"):
        grouped(PEOPLE, "column")
    with pytest.raises(UserError, match="of one group, 'x': nothing can be held out"):
        hold_out({"a": "x", "b": "x"}, 0.5, 0)
    (tmp_path / "f.csv").write_text("image,group,x0,y0\na.png,ann,1,2\nb.png,bo,1,2\nc.png,ann,1,2\n")
    found = groups_of(faces_named(["a", "b", "c"]), "auto", Path("/r"), tmp_path / "f.csv", "csv")
    assert found.of == {"a": "ann", "b": "bo", "c": "ann"}


@settings(max_examples=30)
@given(
    st.lists(st.tuples(
        st.sampled_from(["ann#1.png", "ann#2.png", "ann.png", "a.jpg", "a.png", "b/a.png", "both.png", "both#4.png"]),
        st.sampled_from(["ann", "bob", "cy", "dee"]),
    ), min_size=2, max_size=12),
    st.integers(0, 3),
    st.integers(0, 9),
)  # fmt: skip
def test_each_face_has_the_group_of_its_row_and_none_leaks(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], bad: int, seed: int
) -> None:
    """Also of the rows behind one that cannot be read, and of files of one source; x0 tells which row a face is."""
    folder = tmp_path_factory.mktemp("people")
    for name in {name for name, _ in rows}:
        picture(folder / name)
    half = len(rows) // 2
    for file, part in (("one.csv", range(half)), ("two.csv", range(half, len(rows)))):
        lines = [f"{rows[i][0]},{rows[i][1]},{i + 1},2,20,30" for i in part]
        lines[min(bad, len(lines)) : 0] = ["ann.png,ann,1", "ann.png,ann,?,2,20,30"]
        (folder / file).write_text("\n".join(["image,group,x0,y0,x1,y1", *lines]) + "\n")
    schema = LandmarkSchema(name="two", num_points=2)
    entries = list(FORMATS["csv"].read(folder, ReadOptions(schema=schema)))
    faces = [entry for entry in entries if isinstance(entry, FaceSample)]
    assert len(faces) == len(rows)
    found = groups_of(faces, "column", folder, folder, "csv")
    of_row = {face.id: rows[round(float(face.landmarks[0, 0])) - 1][1] for face in faces}
    assert found.of == of_row
    tied = {rows[0][1]}  # the groups that pictures tie to the first
    for _ in rows:
        tied |= {of for picture, of in rows if any(picture == name and group in tied for name, group in rows)}
    if tied == {group for _, group in rows}:
        with pytest.raises(UserError, match="nothing can be held out"):
            splits_by_group(faces, found, 0.3, seed)
        return
    splits = splits_by_group(faces, found, 0.3, seed)
    split_of = {face: split for split, ids in splits.items() for face in ids}
    assert set(split_of) == set(of_row)
    assert set(split_of.values()) == {"train", "val"}
    for one in faces:
        for other in faces:
            if one.image == other.image or of_row[one.id] == of_row[other.id]:
                assert split_of[one.id] == split_of[other.id]


def test_people_of_one_picture_are_held_out_together_or_not_at_all() -> None:
    """ann and bob share one picture, bob and cy another; only dee can be on the other side."""
    faces = faces_named(["1", "2", "2#", "3", "3#", "4", "5"])
    shared = [dataclasses.replace(face, image=Path("/r") / f"{face.id[0]}.png") for face in faces]
    of = dict(zip((face.id for face in faces), ["ann", "ann", "bob", "bob", "cy", "dee", "cy"], strict=True))
    groups = Groups(of, "column 'group'", False, str)
    for seed in range(5):
        splits = splits_by_group(shared, groups, 0.1, seed)
        assert sorted(splits.values(), key=len) == [["4"], ["1", "2", "2#", "3", "3#", "5"]]
    with pytest.raises(UserError, match="all 5 faces are of groups that share pictures, such as 'ann', 'bob': nothing"):
        splits_by_group(shared[:5], groups._replace(of={face.id: of[face.id] for face in shared[:5]}), 0.1, 0)


def labels_of_people(folder: Path) -> None:
    """12 pictures of 5 points in a CSV with the column `group`: three each of four people; the last has two faces."""
    folder.mkdir()
    rows = []
    for i, face in enumerate(dots(folder.parent / "made", 12)):
        (folder / face.image.name).write_bytes(face.image.read_bytes())
        values = [f"{v:.3f}" for v in np.ravel(face.landmarks)]
        rows += [",".join([face.image.name, "ABCD"[i % 4], *values])] * (1 + (i == 11))
    head = ",".join(["image", "group", *(f"{axis}{i}" for i in range(5) for axis in "xy")])
    (folder / "labels.csv").write_text("\n".join([head, *rows]) + "\n")


@pytest.mark.parametrize("how", [[], ["--group", "none"]], ids=["by the column", "by picture"])
def test_init_holds_out_whole_groups(
    how: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    labels_of_people(tmp_path / "mine")
    seen = set()
    for seed in range(6):
        out = tmp_path / f"out{seed}"
        assert main(["init", "mine", "--out", str(out), "--val-frac", "0.3", "--seed", str(seed), *how]) == 0
        lists = [f"{name}={out / 'splits' / name}.txt" for name in ("train", "val")]
        schema = ["--schema", str(out / "schema.yaml"), "--out", str(out / "data")]
        assert main(["prepare", "--reader", "csv", "--path", "mine", "--splits", *lists, *schema]) == 0
        faces = FaceDataset.open(out / "data")
        assert len(faces) == 13
        split_of: dict[str, set[str]] = {}
        for face in faces:
            key = face.image.name if how else "ABCD"[int("".join(filter(str.isdigit, face.image.stem))) % 4]
            split_of.setdefault(key, set()).add(face.split)
        assert all(len(splits) == 1 for splits in split_of.values()), split_of
        seen.add(frozenset(key for key, splits in split_of.items() if splits == {"val"}))
    assert len(seen) > 1
    said = capsys.readouterr().err
    assert ("held out by column 'group': 4 groups of 13 faces" in said) is not bool(how)


def test_init_says_where_a_source_has_one_person_in_both_splits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels_of_people(tmp_path / "mine")
    lines = (tmp_path / "mine" / "labels.csv").read_text().splitlines()
    split = ["split", *("val" if i % 5 == 0 else "train" for i in range(len(lines) - 1))]
    text = "\n".join(f"{line},{word}" for line, word in zip(lines, split, strict=True))
    (tmp_path / "mine" / "labels.csv").write_text(text + "\n")
    assert main(["init", str(tmp_path / "mine"), "--out", str(tmp_path / "out")]) == 0
    assert "3 of 3 `val` faces are of groups that are also in `train`" in capsys.readouterr().err
    assert not list((tmp_path / "out" / "splits").iterdir())  # the source's own are kept


def test_fit_writes_nothing_where_every_face_is_of_a_test_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels_of_people(tmp_path / "mine")
    lines = (tmp_path / "mine" / "labels.csv").read_text().splitlines()
    text = "\n".join([f"{lines[0]},split", *(f"{line},test" for line in lines[1:])])
    (tmp_path / "mine" / "labels.csv").write_text(text + "\n")
    assert main(["fit", str(tmp_path / "mine"), "--minutes", "1", "--out", str(tmp_path / "out")]) == 2
    assert "mine: no labelled face in split train or val, expected some to learn from" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
