"""prepare and export-dataset: splits, subsets, merging, converting, bad faces, layouts written back and read again."""

import dataclasses
import itertools
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from builders.layouts import (
    csv_text,
    numbers,
    own_schema,
    picture,
    points,
    pts,
    refuse_lost_faces,
    three_faces,
    wflw,
    wflw_line,
)
from builders.places import DATA, ROOT
from stylealign import cli
from stylealign.config import from_dict, load_config, save_config
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.formats import FORMATS, having
from stylealign.data.paths import following_links
from stylealign.errors import UserError
from stylealign.face.sample import FaceSample
from stylealign.face.schema import FIVE, IBUG68, WFLW98, convert, get_schema
from stylealign.jobs import check, export_dataset, prepare
from stylealign.jobs.check import Check
from stylealign.jobs.export_dataset import ExportDataset
from stylealign.jobs.prepare import Prepare, Source


def made(config: Prepare) -> FaceDataset:
    prepare.main(config)
    return FaceDataset.open(config.out)


def five_faces(root: Path, names: tuple[str, ...] = ("a", "b", "c", "d")) -> Path:
    """A CSV source of the mark-up `five`."""
    for i, name in enumerate(names):
        picture(root / "images" / f"{name}.png", seed=i)
    (root / "faces.csv").write_text(csv_text([(f"{name}.png", points(5, i)) for i, name in enumerate(names)], 5))
    return root


def nothing_left(folder: Path, but: tuple[str, ...]) -> None:
    assert sorted(p.name for p in folder.iterdir()) == sorted(but)


# -------------------------------------------------------------------------------------------------- one file of several


@pytest.mark.parametrize("name", ["coco", "wflw", "csv", "list", "cvat", "imglab"])
def test_one_file_of_a_source_is_read_as_the_source_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its faces and pictures, whichever folder above the file they lie in, and wherever it is named from."""
    monkeypatch.chdir(tmp_path)
    schema = WFLW98 if name == "wflw" else FIVE
    three_faces(tmp_path / "faces", schema)
    export_dataset.main(ExportDataset(data=Path("faces"), format=name, out=Path("my test photos")))
    whole = made(Prepare(reader=name, path=Path("my test photos"), schema=schema.name, out=Path("whole")))
    assert {face.split for face in whole} == {"train", "test"}
    left = {face.landmarks.tobytes(): face for face in whole}
    files = [path for path in Path("my test photos").rglob("*") if path.suffix in (".json", ".xml", ".csv", ".txt")]
    for number, file in enumerate(path for path in files if "label" not in path.name):
        found = made(Prepare(reader=name, path=file, schema=schema.name, out=Path(f"one{number}")))
        monkeypatch.chdir(file.parent)
        beside = made(Prepare(reader=name, path=Path(file.name), schema=schema.name, out=tmp_path / f"two{number}"))
        monkeypatch.chdir(tmp_path)
        assert [face.id for face in found] == [face.id for face in beside]
        for face, other in zip(found, beside, strict=True):
            was = left.pop(face.landmarks.tobytes())
            assert other.landmarks.tobytes() == was.landmarks.tobytes()
            assert face.image.read_bytes() == other.image.read_bytes() == was.image.read_bytes()
            if name != "cvat":  # whose folder tells the split
                assert face.split == other.split == was.split
            if name in ("coco", "wflw"):  # others count further faces of a picture through all files
                assert face.id == was.id
    assert not left


def test_init_takes_one_coco_file_below_annotations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids and splits are those of the file: the folder above it is no folder of a split, though it speaks of a test."""
    monkeypatch.chdir(tmp_path)
    five_faces(tmp_path / "source", tuple("abcdefgh"))
    made(Prepare(reader="csv", path=tmp_path / "source", out=tmp_path / "data"))
    export_dataset.main(ExportDataset(data=tmp_path / "data", format="coco", out=tmp_path / "test photos"))
    file = tmp_path / "test photos" / "annotations" / "train.json"
    file.write_text(file.read_text().replace('"face_id"', '"foreign_id"'))
    assert cli.main(["init", str(file), "--out", "mine"]) == 0
    splits = tuple(f"{name}={tmp_path / 'mine' / 'splits' / f'{name}.txt'}" for name in ("train", "val"))
    again = made(Prepare(reader="coco", path=file, schema="mine/schema.yaml", splits=splits, out=tmp_path / "again"))
    assert sorted(face.id for face in again) == [f"images/{name}" for name in "abcdefgh"]
    assert {face.split for face in again} == {"train", "val"}


# ------------------------------------------------------------------------------------------------------------ bad faces


def test_the_first_bad_face_ends_the_work_and_leaves_nothing_behind(tmp_path: Path) -> None:
    source = five_faces(tmp_path / "source")
    with open(source / "faces.csv", "a") as file:
        file.write("a.png,1,2\n")
    with pytest.raises(UserError, match=r"faces\.csv:6: 3 fields, expected 11 .*--skip-bad"):
        prepare.main(Prepare(reader="csv", path=source, out=tmp_path / "out"))
    nothing_left(tmp_path, ("source",))


def test_skip_bad_leaves_faces_out_and_lists_them(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = five_faces(tmp_path / "source")
    with open(source / "faces.csv", "a") as file:
        file.write("a.png,1,2\ngone.png" + ",1" * 10 + "\n")
    (source / "images" / "b.png").write_bytes((source / "images" / "b.png").read_bytes()[:-100])
    dataset = made(Prepare(reader="csv", path=source, out=tmp_path / "out", skip_bad=True))
    assert dataset.ids() == ["a", "c", "d"]
    listed = (tmp_path / "out" / "skipped.txt").read_text().splitlines()
    assert [line.split(": ")[0].rsplit(":", 1)[1] for line in listed] == ["3", "6", "7"]
    assert dataset.meta["how"]["num_skipped"] == 3
    assert dataset.meta["how"]["skipped"] == listed
    assert "3 bad entries" in capsys.readouterr().err


def test_a_source_of_only_bad_faces_is_refused(tmp_path: Path) -> None:
    source = five_faces(tmp_path / "source", ("a",))
    (source / "images" / "a.png").unlink()
    with pytest.raises(UserError, match="would be empty"):
        prepare.main(Prepare(reader="csv", path=source, out=tmp_path / "out", skip_bad=True))
    nothing_left(tmp_path, ("source",))


def test_a_finished_folder_is_never_written_over_and_a_half_written_one_is(tmp_path: Path) -> None:
    source = five_faces(tmp_path / "source")
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "index.jsonl").write_text("half")
    config = Prepare(reader="csv", path=source, out=tmp_path / "out")
    assert len(made(config)) == 4
    with pytest.raises(UserError, match="already there; choose another --out"):
        prepare.main(config)


# --------------------------------------------------------------------------------------------------- splits and subsets


def test_split_and_subset_lists_name_images_or_ids(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = five_faces(tmp_path / "source")
    (source / "lists").mkdir()
    (source / "lists" / "train.txt").write_text("a.png\r\nc.png\r\n")
    (source / "lists" / "test.txt").write_text("b\n")
    (source / "lists" / "few.txt").write_text("c.png\n")
    lists = ("train=lists/train.txt", "test=lists/test.txt")
    dataset = made(
        Prepare(reader="csv", path=source, out=tmp_path / "out", splits=lists, subsets=("train_0001=lists/few.txt",))
    )
    assert {s.id: s.split for s in dataset} == {"a": "train", "b": "test", "c": "train"}
    assert dataset.select(subset="train_0001").ids() == ["c"]
    assert "1 face in no split list, left out" in capsys.readouterr().err
    assert dataset.meta["how"]["in_no_split_list"] == {"source": 1}


@pytest.mark.parametrize("missing", ["z.png", "images/a.png"])
def test_a_list_that_names_no_face_is_refused_with_its_line(missing: str, tmp_path: Path) -> None:
    source = five_faces(tmp_path / "source")
    (tmp_path / "mine.txt").write_text(f"a.png\n\n{missing}\n")
    for field in ("splits", "subsets"):
        with pytest.raises(UserError, match=r"mine.txt:3: names .* but the source has no face"):
            prepare.main(
                Prepare(reader="csv", path=source, out=tmp_path / "out", **{field: (f"x={tmp_path / 'mine.txt'}",)})
            )


def test_an_image_in_two_splits_is_refused(tmp_path: Path) -> None:
    source = five_faces(tmp_path / "source")
    (source / "a.txt").write_text("a.png\n")
    (source / "b.txt").write_text("b.png\na.png\n")
    with pytest.raises(UserError, match=r"b.txt:2: 'a' is in split test and in split train"):
        prepare.main(Prepare(reader="csv", path=source, out=tmp_path / "out", splits=("train=a.txt", "test=b.txt")))


def test_a_list_names_every_face_of_an_image_or_one_by_its_id(tmp_path: Path) -> None:
    picture(tmp_path / "wflw" / "WFLW_images" / "e" / "1.png")
    source = wflw(tmp_path / "wflw", [wflw_line(points(98, i), "e/1.png") for i in range(2)])
    (source / "image.txt").write_text("e/1.png\n")
    (source / "face.txt").write_text("e/1#test2\n")
    dataset = made(
        Prepare(reader="wflw", path=source, out=tmp_path / "out", subsets=("both=image.txt", "second=face.txt"))
    )
    assert [[name for name in ("both", "second") if s.attributes.get(name)] for s in dataset] == [
        ["both"],
        ["both", "second"],
    ]


# ----------------------------------------------------------------------------------------------- merging and converting


def _two_sources(tmp_path: Path) -> tuple[Source, Source]:
    picture(tmp_path / "w" / "WFLW_images" / "f.png")
    wflw(tmp_path / "w", [wflw_line(points(98, i), "f.png", (i, 0, 0, 0, 0, 0)) for i in range(2)])
    for i in range(3):
        pts(tmp_path / "p" / f"f{i}.pts", points(68, i))
    return Source(reader="wflw", path=tmp_path / "w"), Source(
        reader="ibug", path=tmp_path / "p", name="mine", split="val"
    )


def test_merging_converts_prefixes_and_loses_no_face(tmp_path: Path) -> None:
    sources = _two_sources(tmp_path)
    dataset = made(Prepare(sources=sources, convert="ibug68", out=tmp_path / "out"))
    assert dataset.ids() == ["w/f#test1", "w/f#test2", "mine/f0", "mine/f1", "mine/f2"]
    assert dataset.meta["splits"] == {"test": 2, "val": 3}
    assert dataset.schema == IBUG68
    np.testing.assert_allclose(dataset[1].landmarks, convert(points(98, 1), "wflw98", "ibug68"), atol=1e-4)
    assert dataset[1].attributes["pose"]
    assert dataset.verify() == []


def test_merging_different_markups_needs_convert_and_a_known_conversion(tmp_path: Path) -> None:
    sources = _two_sources(tmp_path)
    with pytest.raises(UserError, match=r"its landmarks are ibug68, expected wflw98 .*--convert"):
        prepare.main(Prepare(sources=sources, out=tmp_path / "out"))
    with pytest.raises(UserError, match="no conversion of landmarks from ibug68 to wflw98"):
        prepare.main(Prepare(sources=sources, convert="wflw98", out=tmp_path / "out"))


def test_datasets_merge_and_resplit_without_loss(tmp_path: Path) -> None:
    whole = made(Prepare(reader="csv", path=five_faces(tmp_path / "source"), out=tmp_path / "whole"))
    halves = []
    for name, ids in (("one", "a\nb\n"), ("two", "c\nd\n")):
        (tmp_path / f"{name}.txt").write_text(ids)
        halves.append(
            made(
                Prepare(
                    reader="dataset", path=whole.folder, out=tmp_path / name, splits=(f"{name}={tmp_path / name}.txt",)
                )
            )
        )
    merged = made(
        Prepare(sources=tuple(Source(reader="dataset", path=h.folder) for h in halves), out=tmp_path / "merged")
    )
    assert merged.ids() == ["one/a", "one/b", "two/c", "two/d"]
    for before, after in zip(whole, merged, strict=True):
        assert dataclasses.replace(after, id=before.id, split=before.split) == before


def test_visible_points_are_converted_with_the_landmarks(tmp_path: Path) -> None:
    visible = np.ones(68, bool)
    visible[[36, 54]] = False  # of the left eye's six points one, and a mouth corner
    image = picture(tmp_path / "f.png")
    write_dataset(
        tmp_path / "a",
        [FaceSample(id="f", image=image, landmarks=points(68), visible=visible)],
        schema=IBUG68,
        name="a",
    )
    dataset = made(Prepare(reader="dataset", path=tmp_path / "a", convert="five", out=tmp_path / "out"))
    assert dataset[0].visible.tolist() == [False, True, True, True, False]


def test_a_folder_of_pictures_takes_the_markup_of_the_others_or_asks(tmp_path: Path) -> None:
    source, donors = five_faces(tmp_path / "source"), tmp_path / "donors"
    picture(donors / "x.png")
    with pytest.raises(UserError, match="say with --schema"):
        prepare.main(Prepare(reader="folder", path=donors, out=tmp_path / "out"))
    config = Prepare(
        sources=(Source(reader="folder", path=donors, box_frac=0.5), Source(reader="csv", path=source)),
        out=tmp_path / "out",
    )
    dataset = made(config)
    assert dataset.schema.name == "five"
    assert dataset.meta["splits"] == {"unlabelled": 1, "train": 4}
    assert dataset[0].box_xyxy.tolist() == [19.5, 9.5, 39.5, 29.5]  # half of 40, round the middle of 60 x 40


def test_copies_stand_alone_and_a_picture_with_two_faces_is_copied_once(tmp_path: Path) -> None:
    image = picture(tmp_path / "wflw" / "WFLW_images" / "e" / "1.png")
    source = wflw(tmp_path / "wflw", [wflw_line(points(98, i), "e/1.png") for i in range(2)])
    made(Prepare(reader="wflw", path=source, out=tmp_path / "out", copy=True))
    (tmp_path / "out").rename(tmp_path / "moved")
    content = image.read_bytes()
    image.unlink()
    dataset = FaceDataset.open(tmp_path / "moved")
    assert dataset.verify() == []
    assert dataset[0].image == dataset[1].image
    assert dataset[0].image.read_bytes() == content


def test_the_content_hash_is_of_the_content(tmp_path: Path) -> None:
    source = five_faces(tmp_path / "source")
    a, b = (made(Prepare(reader="csv", path=source, out=tmp_path / name)) for name in "ab")
    assert a.content_hash == b.content_hash
    picture(source / "images" / "a.png", seed=99)
    assert made(Prepare(reader="csv", path=source, out=tmp_path / "c")).content_hash != a.content_hash
    assert any("has changed" in problem for problem in a.verify())


# --------------------------------------------------------------------------------------------------------------- config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "either one source"),
        ({"reader": "csv"}, "missing --path: expected what is read and its format"),
        ({"reader": "csv", "path": "a", "sources": [{"reader": "csv", "path": "b"}]}, "either one source"),
        ({"sources": [{"reader": "csv", "path": "b"}], "split": "val"}, "split: belongs to each of the sources"),
        ({"sources": [{"reader": "csv", "path": "x/b"}, {"reader": "csv", "path": "y/b"}]}, "expected different names"),
        ({"reader": "csv", "path": "a", "splits": ["train.txt"]}, "expected name=list.txt"),
        ({"reader": "csv", "path": "a", "splits": ["a=b"], "split": "c"}, "not both"),
        ({"reader": "csv", "path": "a", "frame": 384}, "reader list"),
        ({"reader": "ibug", "path": "a", "images": "b"}, "name pictures in a list"),
        ({"reader": "csv", "path": "a", "box_frac": 1.5}, "at most 1"),
        ({"reader": "cvs", "path": "a"}, "expected one of 'wflw'.*did you mean 'csv'"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(values: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_dict(Prepare, {"out": "o", **values})


def test_a_recipe_of_several_sources_goes_through_yaml(tmp_path: Path) -> None:
    config = Prepare(sources=_two_sources(tmp_path), convert="ibug68", out=tmp_path / "out")
    save_config(config, tmp_path / "recipe.yaml")
    assert load_config(Prepare, tmp_path / "recipe.yaml") == config


def test_every_reader_can_be_named_in_a_config() -> None:
    for name in FORMATS:
        Source(reader=name, path=Path("x"))
        from_dict(Source, {"reader": name, "path": "x"})


# --------------------------------------------------------------------------------------------------------------- export


@pytest.mark.parametrize("images", ["copy", "link"])
@pytest.mark.parametrize("format", having("write"))
def test_every_layout_written_is_read_back_with_the_same_faces(
    format, images, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    dataset = three_faces(tmp_path / "dataset", WFLW98)
    export_dataset.main(ExportDataset(data=dataset.folder, format=format, out=tmp_path / "out", images=images))
    assert "1 others left out" in capsys.readouterr().err
    back = Prepare(reader=format, path=tmp_path / "out", schema="wflw98", out=tmp_path / "back")
    if images == "link":
        with pytest.raises(UserError, match=r"a link that leads out of .*--follow-links"):
            made(back)
    with following_links(images == "link"):
        refuse_lost_faces(format, dataset, list(made(back)))


def test_exported_lists_hold_no_blank_in_a_name_and_wflw_lines_have_207_fields(tmp_path: Path) -> None:
    dataset = three_faces(tmp_path / "dataset", WFLW98)
    export_dataset.main(ExportDataset(data=dataset.folder, format="wflw", out=tmp_path / "out", split="test"))
    folder = tmp_path / "out" / "WFLW_annotations" / "list_98pt_rect_attr_train_test"
    assert [p.name for p in folder.iterdir()] == ["list_98pt_rect_attr_test.txt"]
    for line in (folder / "list_98pt_rect_attr_test.txt").read_text().splitlines():
        fields = line.split()
        assert len(fields) == 207
        assert all(f.isdigit() for f in fields[196:206])


def test_the_originals_frame_is_written_as_it_is_read(tmp_path: Path) -> None:
    dataset = three_faces(tmp_path / "dataset", WFLW98)
    export_dataset.main(ExportDataset(data=dataset.folder, format="list", out=tmp_path / "out", frame=384))
    back = made(Prepare(reader="list", path=tmp_path / "out", frame=384, out=tmp_path / "back"))
    want = {tuple(s.landmarks[0].round(2)) for s in dataset.select(labelled=True)}
    assert {tuple(s.landmarks[0].round(2)) for s in back} == want


def test_a_layout_of_98_points_refuses_other_markups_and_leaves_nothing(tmp_path: Path) -> None:
    made(Prepare(reader="csv", path=five_faces(tmp_path / "source"), out=tmp_path / "five"))
    with pytest.raises(UserError, match="5 landmarks of five, expected the 98"):
        export_dataset.main(ExportDataset(data=tmp_path / "five", format="wflw", out=tmp_path / "out"))
    nothing_left(tmp_path, ("source", "five"))


def test_a_markup_of_ones_own_survives_prepare_and_export(tmp_path: Path) -> None:
    schema = own_schema(tmp_path)
    picture(tmp_path / "s" / "f.png")
    (tmp_path / "s" / "x.txt").write_text(f"{numbers(points(3))} f.png\n")
    dataset = made(Prepare(reader="list", path=tmp_path / "s", schema=str(schema), out=tmp_path / "out"))
    schema.unlink()  # the data set holds its mark-up
    assert FaceDataset.open(dataset.folder).schema.flip_pairs == ((0, 1),)
    for format in ("coco", "csv", "ibug", "list"):
        export_dataset.main(ExportDataset(data=tmp_path / "out", format=format, out=tmp_path / format))


# ------------------------------------------------------------------------------------------------------------ real data


def _real(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"needs {name}/ in the folder that STYLEALIGN_DATA names")
    return DATA / name


@pytest.mark.slow
def test_real_wflw_has_206_faces_and_its_subsets(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    dataset = made(Prepare(reader="wflw", path=_real("wflw"), out=tmp_path / "out"))
    assert dataset.meta["splits"] == {"test": 206}
    counts = Counter(name for s in dataset for name, on in s.attributes.items() if on)
    assert counts == {"pose": 34, "expression": 34, "illumination": 86, "make_up": 27, "occlusion": 56, "blur": 77}
    assert len({s.image for s in dataset}) == 175
    assert "warning" not in capsys.readouterr().err  # its points lie as they should
    assert dataset.verify() == []


@pytest.mark.slow
def test_real_300w_has_its_splits_and_nested_budgets(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    budgets = ("train_0050", "train_0157", "train_0315", "train_0630")
    dataset = made(
        Prepare(
            reader="ibug", path=_real("300w"), out=tmp_path / "out",
            subsets=tuple(f"{b}=splits/{b}.txt" for b in budgets),
            splits=("train=splits/train.txt", "val=splits/val.txt", "test=splits/test_common.txt"),
        )
    )  # fmt: skip
    assert dataset.meta["splits"] == {"train": 1812, "val": 200, "test": 554}
    assert "warning" not in capsys.readouterr().err
    chosen = [set(dataset.select(subset=b).ids()) for b in budgets]
    assert [len(c) for c in chosen] == [50, 157, 315, 630]
    assert all(small < large for small, large in itertools.pairwise(chosen))
    assert all(s.split == "train" for s in dataset.select(subset="train_0630"))


@pytest.mark.slow
def test_real_youtube_faces_have_their_splits_and_unlabelled_frames(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    dataset = made(Prepare(reader="csv", path=_real("ytfaces"), out=tmp_path / "out", check_images=False))
    assert dataset.meta["splits"] == {"train": 2600, "val": 410, "test": 579, "unlabelled": 946}
    assert dataset.meta["labelled"] == 3589
    said = capsys.readouterr().err
    assert "68 landmarks a face and no --schema: taken for ibug68" in said
    assert "warning" not in said


def test_the_recipe_in_the_docs_is_one(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    (tmp_path / "r.yaml").write_text(text.split("```yaml\n")[1].split("```")[0])
    assert [s.reader for s in load_config(Prepare, tmp_path / "r.yaml").sources] == ["wflw", "ibug", "folder"]
    assert all(f"| `{name}` |" in text for name in FORMATS)


# ------------------------------------------------------------------------------- missing landmarks, what is passed over


def _lacking(root: Path, num_points: int, schema: str, *lacks: int) -> Path:
    """A data set of format 1 with a face that lacks landmarks."""
    there = ~np.isin(np.arange(num_points), lacks)
    sample = FaceSample(
        id="a", image=picture(root / "pictures" / "a.png"), landmarks=points(num_points), visible=there,
        point_trust=np.where(there, 0.5, 0).astype(np.float32),
    )  # fmt: skip
    write_dataset(root / "d", [sample], schema=get_schema(schema), name="d", image_root=root / "pictures")
    return root / "d"


@pytest.mark.parametrize("lacks", [60, 96])
def test_a_landmark_that_is_missing_is_missing_in_another_markup(lacks: int, tmp_path: Path) -> None:
    source = _lacking(tmp_path, 98, "wflw98", lacks)
    (face,) = made(Prepare(reader="dataset", path=source, convert="five", out=tmp_path / "out"))
    assert face.missing_points.tolist() == [lacks == 96, False, False, False, False]
    assert face.point_trust is not None
    assert face.point_trust.tolist() == [0 if lacks == 96 else 0.5, 0.5, 0.5, 0.5, 0.5]
    if lacks == 96:
        assert face.landmarks is not None
        assert np.allclose(face.landmarks[0], face.landmarks[1:].mean(axis=0), atol=1e-3)


def test_a_mean_of_a_missing_landmark_is_missing(tmp_path: Path) -> None:
    (face,) = made(Prepare(reader="dataset", path=_lacking(tmp_path, 68, "ibug68", 37), convert="five",
                           out=tmp_path / "out"))  # fmt: skip
    assert face.missing_points.tolist() == [True, False, False, False, False]


def test_a_face_that_lacks_all_landmarks_of_another_markup_is_a_bad_entry(tmp_path: Path) -> None:
    source = _lacking(tmp_path, 98, "wflw98", 96, 97, 54, 76, 82)
    config = Prepare(reader="dataset", path=source, convert="five", out=tmp_path / "out")
    with pytest.raises(UserError, match=r"d: face 'a': it lacks all that the landmarks of five are made of"):
        prepare.main(config)
    whole = FaceSample(id="b", image=tmp_path / "pictures" / "a.png", landmarks=points(98))
    faces = [*FaceDataset.open(source), whole]
    write_dataset(tmp_path / "two", faces, schema=WFLW98, image_root=tmp_path / "pictures")
    dataset = made(dataclasses.replace(config, path=tmp_path / "two", skip_bad=True))
    assert dataset.ids() == ["b"]
    assert "face 'a'" in (dataset.folder / "skipped.txt").read_text()


def test_missing_landmarks_are_kept_where_the_user_says_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    landmarks = points(5)
    landmarks[3] = 0
    picture(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "x.csv").write_text(csv_text([("a.png", landmarks)], 5))
    source = {"reader": "csv", "path": tmp_path / "in"}
    with pytest.raises(UserError, match=r"x\.csv:2: landmark 3 is \(0, 0\), which stands for a missing one"):
        prepare.main(Prepare(**source, out=tmp_path / "out"))
    dataset = made(Prepare(**source, missing="keep", out=tmp_path / "out"))
    assert dataset[0].missing_points.tolist() == [False, False, False, True, False]
    assert dataset.verify() == []
    assert "in: faces lack landmarks" in capsys.readouterr().err
    assert dataset.meta["how"]["notes"] == ["in: faces lack landmarks, which have point_trust 0 there: a"]


def test_trust_that_no_layout_can_say_is_said_to_be_lost(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    image, there = picture(tmp_path / "a.png"), np.array([1, 1, 0, 1, 1], dtype=np.float32)
    more = ({}, {"trust": 1.0}, {"trust": 0.5}, {"point_trust": there}, {"point_trust": there, "visible": there > 0})
    faces = [FaceSample(id=f"{i}", image=image, landmarks=points(5, i), **own) for i, own in enumerate(more)]
    write_dataset(tmp_path / "data", faces, schema=FIVE, image_root=tmp_path)
    export_dataset.main(ExportDataset(data=tmp_path / "data", format="coco", out=tmp_path / "out"))
    said = "2 faces have trust below 1, which no published layout can say: all of their landmarks are written as labels"
    assert said in capsys.readouterr().err
    found = json.loads((tmp_path / "out" / "annotations" / "train.json").read_text())["annotations"]
    assert [face["num_keypoints"] for face in found] == [5, 5, 5, 5, 4]  # the last one lacks a landmark


def test_a_picture_that_is_learnt_from_and_held_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for folder, seeds in (("a", (0, 1, 2)), ("b", (2, 3, 4))):  # 2.png of the one is 0.png of the other
        for name, seed in enumerate(seeds):
            picture(tmp_path / folder / f"{name}.png", seed=seed)
        rows = [(f"{name}.png", points(5, seed)) for name, seed in enumerate(seeds)]
        (tmp_path / folder / "x.csv").write_text(csv_text(rows, 5))
    sources = (Source(reader="csv", path=tmp_path / "a"), Source(reader="csv", path=tmp_path / "b", split="test"))
    made(Prepare(sources=sources, out=tmp_path / "out"))
    said = "1 picture stands in train and in test too, such as a/2.png: errors there are of what was learnt"
    assert f"warning: {tmp_path / 'out'}: {said}" in capsys.readouterr().err
    check.main(Check(path=tmp_path / "out"))
    assert f"warning: {tmp_path / 'out'}: {said}" in capsys.readouterr().err
    made(Prepare(reader="csv", path=tmp_path / "a", out=tmp_path / "alone"))
    assert "warning" not in capsys.readouterr().err


def test_a_face_that_stands_twice_is_said_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    five_faces(tmp_path / "in", ("a", "b"))
    text = (tmp_path / "in" / "faces.csv").read_text()
    (tmp_path / "in" / "test.csv").write_text("\n".join(text.splitlines()[:2]) + "\n")
    dataset = made(Prepare(reader="csv", path=tmp_path / "in", out=tmp_path / "out"))
    assert len(dataset) == 3
    assert "in: faces stand twice (same picture and landmarks): a#2 as a" in capsys.readouterr().err


def test_good_faces_leave_no_notes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = five_faces(tmp_path / "in", ("a", "b", "c"))  # too few to say whether these points are those of `five`
    dataset = made(Prepare(reader="csv", path=source, schema="five", out=tmp_path / "out"))
    assert "notes" not in dataset.meta["how"]
    assert capsys.readouterr().err == f"wrote {tmp_path / 'out'}\n"


def test_names_that_are_no_utf8_are_left_out_by_name(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    good = picture(tmp_path / "in" / "ok.png")
    odd = os.fsencode(tmp_path / "in") + b"/caf\xe9.png"
    try:
        shutil.copyfile(good, odd)
    except OSError:
        pytest.skip("a file system of UTF-8 names only")
    source = {"reader": "folder", "path": tmp_path / "in", "schema": "five"}
    with pytest.raises(UserError, match="its name is no UTF-8"):
        prepare.main(Prepare(**source, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    dataset = made(Prepare(**source, skip_bad=True, out=tmp_path / "out"))
    assert dataset.ids() == ["ok"]
    assert "caf\\udce9.png: its name is no UTF-8" in (tmp_path / "out" / "skipped.txt").read_text(encoding="utf-8")
    with pytest.raises(UserError, match=r"^path: .*no UTF-8"):
        prepare.main(Prepare(reader="folder", path=Path(os.fsdecode(odd)), schema="five", out=tmp_path / "other"))
