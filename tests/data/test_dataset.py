"""Format 1: what is written is read, a folder that exists is whole, an open data set costs eight bytes a face."""

import dataclasses
import json
import pickle
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders.layouts import own_schema, picture, three_faces
from stylealign.data.atomic import partial_of
from stylealign.data.dataset import FaceDataset, describe_data
from stylealign.data.dataset_writer import DatasetWriter, called, write_dataset
from stylealign.data.rows import to_line, to_row
from stylealign.errors import UserError
from stylealign.face.sample import FaceSample, Provenance
from stylealign.face.schema import FIVE, get_schema

real = st.floats(-1e6, 1e6, width=32)
word = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=12)


@st.composite
def faces(draw: st.DrawFn, image: Path) -> FaceSample:
    labelled = draw(st.booleans())
    landmarks = np.array(draw(st.lists(real, min_size=10, max_size=10))).reshape(5, 2) if labelled else None
    provenance = None
    if draw(st.booleans()):
        row = st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.floats(-9, 9), st.floats(-9, 9))
        provenance = Provenance(
            content_id=draw(word), style_id=draw(st.none() | word), translator=draw(word),
            seed=draw(st.integers(0, 2**63)), mode=draw(st.sampled_from(["transfer", "interpolate", "prior"])),
            crop_from_source=draw(st.none() | st.tuples(row, row)),
        )  # fmt: skip
    return FaceSample(
        id=draw(word), image=image, landmarks=landmarks,
        split=draw(word.filter(str.isprintable)), provenance=provenance,
        box_xyxy=np.array(draw(st.lists(real, min_size=4, max_size=4))) if draw(st.booleans()) else None,
        visible=np.array(draw(st.lists(st.booleans(), min_size=5, max_size=5)))
        if labelled and draw(st.booleans()) else None,
        attributes=draw(st.dictionaries(word, st.booleans(), max_size=3)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return picture(tmp_path_factory.mktemp("pictures") / "é f.png")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
def test_what_is_written_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, image: Path, data: st.DataObject
) -> None:
    samples = data.draw(st.lists(faces(image), min_size=1, max_size=4, unique_by=lambda s: s.id))
    folder = tmp_path_factory.mktemp("data") / "set"
    dataset = write_dataset(folder, samples, schema=FIVE, name="x", image_root=image.parent)
    assert list(FaceDataset.open(folder)) == samples
    assert dataset.ids() == [s.id for s in samples]
    assert dataset.verify() == []
    assert [dataset.head(i)["labelled"] for i in range(len(dataset))] == [s.landmarks is not None for s in samples]
    for name in dataset.subset_names():
        assert dataset.select(subset=name).ids() == [s.id for s in samples if s.attributes.get(name)]
    parts = [dataset.select(split=split).ids() for split in dataset.meta["splits"]]
    assert Counter(i for part in parts for i in part) == Counter(dataset.ids())  # splitting loses no face
    assert dataset.meta["splits"] == Counter(s.split for s in samples)


@given(st.data(), st.dictionaries(st.sampled_from(["crop_from_source", "more"]), st.lists(real, max_size=3)))
def test_a_line_is_the_json_of_its_row_with_the_landmarks_at_its_end(drawn: st.DataObject, more: dict) -> None:
    sample = drawn.draw(faces(Path("a.png")))
    line, row = to_line(sample, "a.png", "d", **more), to_row(sample, "a.png", "d")
    points = row.pop("landmarks")
    assert line.decode() == json.dumps({**row, **more, "landmarks": points}, ensure_ascii=False)


def simple(folder: Path, count: int = 6, **options) -> FaceDataset:
    rng = np.random.default_rng(0)
    samples = []
    for i in range(count):
        path = picture(folder.parent / "pictures" / f"{i % 7}.png", seed=i % 7)
        landmarks = None if i % 3 == 2 else rng.uniform(0, 40, (5, 2))
        samples.append(
            FaceSample(
                id=f"f{i}",
                image=path,
                landmarks=landmarks,
                split="train" if i < count - 2 else "test",
                attributes={"even": i % 2 == 0},
            )
        )
    return write_dataset(folder, samples, **{"schema": FIVE, "name": "simple", **options})


def test_ten_thousand_faces_open_in_eight_bytes_each(tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png")
    count = 10_000
    landmarks = np.zeros((5, 2)) + np.arange(5)[:, None]
    samples = (FaceSample(id=f"face/{i:05d}", image=image, landmarks=landmarks) for i in range(count))
    dataset = write_dataset(tmp_path / "set", samples, schema=FIVE, name="many")
    dataset[count - 1]
    held = sum(v.nbytes if isinstance(v, np.ndarray) else sys.getsizeof(v) for v in dataset.__dict__.values())
    assert dataset._offsets.nbytes == 8 * count
    assert held < 8 * count + 4096
    view = dataset.take(range(0, count, 2))
    assert view._offsets is dataset._offsets
    assert view[1].id == "face/00002"


def test_views_select_and_take_and_nothing_selected_is_said(tmp_path: Path) -> None:
    dataset = simple(tmp_path / "set")
    assert dataset.select(split="train", labelled=True).ids() == ["f0", "f1", "f3"]
    assert dataset.select(subset="even", labelled=False).ids() == ["f2"]
    assert dataset.select(split="train").select(subset="even").take([1, 0]).ids() == ["f2", "f0"]
    assert dataset.select(labelled=True).landmarks_array().shape == (4, 5, 2)
    with pytest.raises(
        UserError, match=r"no face with split 'val'; it has splits train \(4\), test \(2\); subsets even"
    ):
        dataset.select(split="val")
    with pytest.raises(IndexError):
        dataset[6]


def test_a_dataset_is_indexed_as_a_list_is(tmp_path: Path) -> None:
    dataset = simple(tmp_path / "set")
    whole = dataset.ids()
    assert [dataset[i].id for i in range(-6, 6)] == [whole[i] for i in range(-6, 6)]
    for cut in (slice(-2, None), slice(None, None, -1), slice(1, 5, 2), slice(4, 2)):
        assert dataset[cut].ids() == whole[cut]
    assert dataset[2:][1:2].ids() == whole[3:4]
    assert dataset.take([-1, 0]).ids() == [whole[-1], whole[0]]
    assert dataset.head(-1)["id"] == whole[-1]
    for i in (-7, 6):
        with pytest.raises(IndexError, match=f"face {i} of a view of 6 faces"):
            dataset[i]
    for wrong in ([True, False] * 3, np.array([True, False] * 3), [1.5]):
        with pytest.raises(TypeError, match=r"expected a whole number|as an integer"):
            dataset.take(wrong)
    with pytest.raises(UserError, match=r"face 'f2' has no landmarks"):
        dataset.landmarks_array()


def test_a_face_stays_read_only_in_another_process_and_needs_text_for_a_name(tmp_path: Path) -> None:
    face = pickle.loads(pickle.dumps(simple(tmp_path / "set")[0]))
    with pytest.raises(ValueError, match="read-only"):
        face.landmarks[0] = 0
    for wrong in ({"id": 3}, {"id": "a", "split": 1}):
        with pytest.raises(ValueError, match="expected text"):
            FaceSample(image=tmp_path / "a.png", **wrong)


def test_a_dataset_goes_to_another_process(tmp_path: Path) -> None:
    dataset = simple(tmp_path / "set")
    dataset[0]
    copy = pickle.loads(pickle.dumps(dataset.select(split="test")))
    assert list(copy) == list(dataset.select(split="test"))


def test_samples_are_frozen_and_copy_what_they_are_given() -> None:
    landmarks = np.zeros((5, 2), np.float32)
    sample = FaceSample(id="a", image=Path("a.png"), landmarks=landmarks)
    landmarks[0] = 9
    assert not sample.landmarks.any()
    with pytest.raises(ValueError, match="read-only"):
        sample.landmarks[0] = 1
    with pytest.raises(ValueError, match=r"a: landmarks has shape \(5,\)"):
        FaceSample(id="a", image=Path("a.png"), landmarks=np.zeros(5))
    with pytest.raises(ValueError, match="visible has shape"):
        FaceSample(id="a", image=Path("a.png"), landmarks=np.zeros((5, 2)), visible=np.ones(4))
    with pytest.raises(ValueError, match="box has shape"):
        FaceSample(id="a", image=Path("a.png"), box_xyxy=np.ones(3))


def test_a_markup_of_ones_own_is_kept_in_the_dataset(tmp_path: Path) -> None:
    schema = get_schema(own_schema(tmp_path))
    sample = FaceSample(id="a", image=picture(tmp_path / "a.png"), landmarks=np.zeros((3, 2)))
    write_dataset(tmp_path / "set", [sample], schema=schema, name="x")
    assert FaceDataset.open(tmp_path / "set").schema == schema


@pytest.mark.parametrize(
    ("folder", "name"),
    [("runs/300w/data", "300w"), ("runs/faces", "faces"), ("data", "data"), ("../data", "data"), ("a/data/", "a")],
)
def test_a_folder_called_data_is_known_by_the_one_it_lies_in(folder: str, name: str, tmp_path: Path) -> None:
    """Else every row and column of a table over data sets laid out as in the documents would say `data`."""
    assert called(folder) == called(Path(folder)) == name
    sample = FaceSample(id="a", image=picture(tmp_path / "a.png"))
    assert write_dataset(tmp_path / folder, [sample], schema=FIVE).name == called(tmp_path / folder)


@pytest.mark.parametrize("images", ["copy", "own"])
def test_a_dataset_with_its_own_images_can_be_moved(images, tmp_path: Path) -> None:
    source = picture(tmp_path / "a.png")
    with DatasetWriter(tmp_path / "set", schema=FIVE, name="x", images=images) as writer:
        path = source if images == "copy" else writer.add_image("sub/a.png", np.zeros((4, 4, 3), np.uint8))
        writer.add(FaceSample(id="a", image=path))
    source.unlink()
    (tmp_path / "set").rename(tmp_path / "moved")
    dataset = FaceDataset.open(tmp_path / "moved")
    assert dataset.verify() == []
    assert dataset[0].image.is_relative_to(tmp_path / "moved")


# ------------------------------------------------------------------------------------------------- half-written, broken


class Stop(Exception):
    pass


@pytest.mark.parametrize("stop", [Stop, KeyboardInterrupt, UserError])
def test_an_interruption_leaves_no_folder(stop: type[BaseException], tmp_path: Path) -> None:
    def samples():
        yield FaceSample(id="a", image=picture(tmp_path / "a.png"))
        assert partial_of(tmp_path / "set").exists()
        raise stop("now")

    with pytest.raises(stop):
        write_dataset(tmp_path / "set", samples(), schema=FIVE, name="x")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "would be empty"),
        ([{"id": "a"}, {"id": "a"}], "two faces have the id 'a'"),
        ([{"id": "a", "landmarks": np.zeros((4, 2))}], "face 'a': 4 landmarks, expected 5 of five"),
        ([{"id": "a", "split": ""}], "its split is '', expected a word"),
        ([{"id": "a", "split": "a\nb"}], "expected a word"),
        ([{"id": "a", "image": Path("/nowhere/b.png")}], "b.png"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(samples: list, message: str, tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png")
    with pytest.raises(UserError, match=message):
        write_dataset(tmp_path / "set", [FaceSample(**{"image": image, **s}) for s in samples], schema=FIVE, name="x")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_half_written_folder_is_named_and_written_over(tmp_path: Path) -> None:
    partial_of(tmp_path / "set").mkdir()
    with pytest.raises(UserError, match=r"only a half-written set.partial is there"):
        FaceDataset.open(tmp_path / "set")
    assert len(simple(tmp_path / "set")) == 6
    assert not partial_of(tmp_path / "set").exists()
    with pytest.raises(UserError, match="already there; choose another --out"):
        simple(tmp_path / "set")


def test_folders_that_are_no_dataset_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a dataset folder .*`stylealign prepare`"):
        FaceDataset.open(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2, expected 1"),
        ({"count": 7}, "6 faces, expected 7"),
        ({"schema": {"name": "x"}}, "schema: missing key 'num_points'"),
        ({"schema": "wflw"}, "schema"),
        ({"schema": None}, "schema"),
    ],
)
def test_a_changed_dataset_yaml_is_refused(change: dict, message: str, tmp_path: Path) -> None:
    simple(tmp_path / "set")
    path = tmp_path / "set" / "dataset.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **change}))
    with pytest.raises(UserError, match=message):
        FaceDataset.open(tmp_path / "set")


@pytest.mark.parametrize("missing", ["schema", "count", "image_root", "content_hash", "splits"])
def test_a_dataset_yaml_without_a_key_is_refused(missing: str, tmp_path: Path) -> None:
    simple(tmp_path / "set")
    path = tmp_path / "set" / "dataset.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in yaml.safe_load(path.read_text()).items() if k != missing}))
    with pytest.raises(UserError, match=missing):
        FaceDataset.open(tmp_path / "set")


def test_a_truncated_or_missing_index_is_refused(tmp_path: Path) -> None:
    simple(tmp_path / "set")
    index = tmp_path / "set" / "index.jsonl"
    lines = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(UserError, match=r"index.jsonl: 5 faces, expected 6"):
        FaceDataset.open(tmp_path / "set")
    index.unlink()
    with pytest.raises(UserError, match=r"index.jsonl: missing"):
        FaceDataset.open(tmp_path / "set")


@pytest.mark.parametrize("line", ["{half", "[]", '{"id": "a", "landmarks": null}', ""])
def test_a_line_that_is_no_face_is_named(line: str, tmp_path: Path) -> None:
    simple(tmp_path / "set")
    index = tmp_path / "set" / "index.jsonl"
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join([lines[0], f"{line}\n", *lines[2:]]))
    dataset = FaceDataset.open(tmp_path / "set")
    for read in (lambda: dataset[1], lambda: dataset.head(1)):
        with pytest.raises(UserError, match=r"index.jsonl:2: "):
            read()


def test_landmarks_that_are_none_are_named(tmp_path: Path) -> None:
    simple(tmp_path / "set")
    index = tmp_path / "set" / "index.jsonl"
    lines = [json.loads(line) for line in index.read_text().splitlines()]
    lines[1]["landmarks"] = [[1, 2], [3]]
    index.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match=r"index.jsonl:2: not a face of format 1"):
        FaceDataset.open(tmp_path / "set")[1]


def test_an_id_cannot_climb_out_of_the_folder(tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png")
    with pytest.raises(UserError, match="cannot be a file name"):
        write_dataset(
            tmp_path / "x" / "set", [FaceSample(id="../../b", image=image)], schema=FIVE, name="x", images="copy"
        )
    assert not (tmp_path / "b.png").exists()


def test_verify_finds_an_edited_index_a_missing_and_a_changed_image(tmp_path: Path) -> None:
    dataset = simple(tmp_path / "set")
    picture(tmp_path / "pictures" / "1.png", seed=99)
    (tmp_path / "pictures" / "2.png").unlink()
    index = tmp_path / "set" / "index.jsonl"
    index.write_text(index.read_text().replace('"even": true', '"even": false', 1))
    problems = FaceDataset.open(dataset.folder).verify()
    assert len(problems) == 3
    assert "content hash" in problems[0]
    assert "1.png: image of face 'f1' has changed" in problems[1]
    assert "2.png: image of face 'f2' is missing" in problems[2]


def test_no_result_is_said_to_be_of_a_data_set_that_was_edited(tmp_path: Path) -> None:
    dataset = simple(tmp_path / "set")
    assert describe_data(dataset, split="train")["content_hash"] == dataset.content_hash
    index = tmp_path / "set" / "index.jsonl"
    index.write_text(index.read_text().replace("f1", "g1"))
    with pytest.raises(UserError, match=r"index.jsonl: content hash .*edited since.*prepare --reader dataset --path"):
        describe_data(FaceDataset.open(tmp_path / "set"))


def test_the_content_hash_does_not_depend_on_name_or_place_and_does_on_a_landmark(tmp_path: Path) -> None:
    a = simple(tmp_path / "x" / "set", image_root=tmp_path / "x" / "pictures")
    b = simple(tmp_path / "y" / "other", image_root=tmp_path / "y" / "pictures", name="other")
    assert a.content_hash == b.content_hash
    moved = [
        s
        if i
        else FaceSample(id=s.id, image=s.image, landmarks=s.landmarks + 0.001, split=s.split, attributes=s.attributes)
        for i, s in enumerate(b)
    ]
    c = write_dataset(tmp_path / "y" / "moved", moved, schema=FIVE, name="x", image_root=tmp_path / "y" / "pictures")
    assert c.content_hash != b.content_hash


def test_the_content_hash_covers_the_mark_up_and_the_pictures(tmp_path: Path) -> None:
    a = simple(tmp_path / "set", image_root=tmp_path / "pictures")
    without_twins = dataclasses.replace(FIVE, name="mine", flip_pairs=())
    b = write_dataset(tmp_path / "b", list(a), schema=without_twins, name="set", image_root=tmp_path / "pictures")
    assert (b.folder / "index.jsonl").read_bytes() == (a.folder / "index.jsonl").read_bytes()
    assert b.content_hash != a.content_hash
    for path in {sample.image for sample in a}:
        path.write_bytes(path.read_bytes() + b"\0")
    c = write_dataset(tmp_path / "c", list(a), schema=FIVE, name="set", image_root=tmp_path / "pictures")
    assert c.content_hash != a.content_hash


GOLDEN = (
    '{"id": "é#1", "image": "a.png", "split": "val", "attributes": {"pose": true}, '
    '"box_xyxy": [0.1, 2.0, 30.5, 40.0], "visible": "10111", '
    '"provenance": {"content_id": "c", "style_id": null, "translator": "t", "seed": 3, "mode": "prior", '
    '"crop_from_source": [[1.0, 0.0, 2.5], [0.0, 1.0, -3.0]]}, "digest": "DIGEST", '
    '"landmarks": [[0.1, 0.2], [1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.25]]}\n'
)


def test_the_line_of_a_face_is_as_documented_and_stays_readable(tmp_path: Path) -> None:
    """Format 1 is a promise: if this test has to change, it is format 2."""
    sample = FaceSample(
        id="é#1", image=picture(tmp_path / "a.png"), landmarks=[[0.1, 0.2], [1, 2], [3, 4], [5, 6], [7, 8.25]],
        box_xyxy=[0.1, 2, 30.5, 40],
        visible=[1, 0, 1, 1, 1], attributes={"pose": True}, split="val",
        provenance=Provenance(
            content_id="c", style_id=None, translator="t", seed=3, mode="prior",
            crop_from_source=((1.0, 0.0, 2.5), (0.0, 1.0, -3.0)),
        ),
    )  # fmt: skip
    write_dataset(tmp_path / "set", [sample], schema=FIVE, name="x", image_root=tmp_path)
    line = (tmp_path / "set" / "index.jsonl").read_text(encoding="utf-8")
    assert line == GOLDEN.replace("DIGEST", json.loads(line)["digest"])


@pytest.mark.parametrize("ends", ['"landmarks": null}', '"landmarks": null }', '"landmarks":null}', '"digest": "x"}'])
def test_a_face_without_landmarks_is_unlabelled_however_its_line_is_written(ends: str, tmp_path: Path) -> None:
    """Lines that other programs have written: a face taken for a labelled one ended in an assertion in `export`."""
    dataset = three_faces(tmp_path / "faces", FIVE)
    index = dataset.folder / "index.jsonl"
    lines = index.read_text(encoding="utf-8").splitlines()
    assert lines[3].endswith('"landmarks": null}')
    lines[3] = lines[3].replace(', "landmarks": null}', f", {ends}")
    index.write_text("\n".join(lines) + "\n", encoding="utf-8")
    again = FaceDataset.open(dataset.folder)
    assert [again.head(i)["labelled"] for i in range(4)] == [True, True, True, False]
    assert [again[i].landmarks is not None for i in range(4)] == [True, True, True, False]
