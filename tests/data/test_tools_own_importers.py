"""What we write for labelling tools, read by the tools' own packages, where they are installed."""

import json
from pathlib import Path

import numpy as np
import pytest

from builders.layouts import picture, points
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.formats import FORMATS, ReadOptions, WriteOptions
from stylealign.face.sample import FaceSample
from stylealign.face.schema import FIVE

pytestmark = pytest.mark.slow
NAMES = [f"five_{i}" for i in range(5)]


@pytest.fixture
def faces(tmp_path: Path) -> FaceDataset:
    """Three faces of one split: one whole, one with a hidden and a missing point, two in one picture."""
    images = [picture(tmp_path / "in" / f"{i}.png", seed=i) for i in range(2)]
    samples = []
    for i in range(3):
        gone = np.array([False, i == 1, False, False, False])
        landmarks = points(5, i) + 0.1234
        landmarks[gone] = landmarks[~gone].mean(axis=0)
        samples.append(FaceSample(
            id=f"f{i}", image=images[min(i, 1)], landmarks=landmarks, visible=~gone & np.array([i != 1, *[True] * 4]),
            point_trust=(~gone).astype(np.float32), box_xyxy=(1.5, 2.5, 40.25, 30),
        ))  # fmt: skip
    return write_dataset(tmp_path / "data", samples, schema=FIVE, name="x", image_root=tmp_path / "in", how={})


def written(name: str, faces: FaceDataset) -> Path:
    folder = faces.folder.parent / "out"
    folder.mkdir()
    write = FORMATS[name].write
    assert write is not None
    write(faces, folder, WriteOptions())
    return folder


def compare(
    faces: FaceDataset, found: list[dict[str, tuple[float, float]]], within: float = 0.01, more: bool = False
) -> None:
    """Assert that the tool has the points of each face by their names, and (but for `more`) no others."""
    left = list(found)
    for face in faces:
        assert face.landmarks is not None
        wanted = {n: xy for n, xy, gone in zip(NAMES, face.landmarks, face.missing_points, strict=True) if not gone}
        match = next(
            (other for other in left if (other.keys() >= wanted.keys() if more else other.keys() == wanted.keys())
             and all(np.abs(np.subtract(other[n], wanted[n])).max() <= within for n in wanted)), None
        )  # fmt: skip
        assert match is not None, (wanted, left)
        left.remove(match)
    assert not left


def compare_read(name: str, folder: Path, faces: FaceDataset) -> None:
    """Assert that our reader finds each face as it was: points, what is hidden or missing, and the box."""
    options = ReadOptions(schema=FIVE, missing="keep")
    left = [face for face in FORMATS[name].read(folder, options) if isinstance(face, FaceSample)]
    assert len(left) == len(faces)
    for was in faces:
        assert was.landmarks is not None
        there = was.labelled_points
        apart = [np.abs(face.landmarks - was.landmarks)[there].max() for face in left if face.landmarks is not None]
        assert min(apart) <= 0.01
        face = left.pop(int(np.argmin(apart)))
        assert np.array_equal(face.missing_points, was.missing_points)
        assert face.visible is not None
        assert np.array_equal(face.visible, was.visible)
        assert face.box_xyxy is not None
        assert np.abs(face.box_xyxy - was.box_xyxy).max() <= 0.01


def test_what_labelme_opened_and_saved_is_read_as_it_was(faces: FaceDataset) -> None:
    module = pytest.importorskip("labelme._label_file", reason="needs labelme")
    folder = written("labelme", faces)
    for path in folder.rglob("*.json"):
        opened, before = module.read_label_file(str(path)), json.loads(path.read_text())
        module.write_label_file(
            str(path), shapes=opened.shapes, image_path=opened.image_path, image_data=opened.image_data,
            image_height=before["imageHeight"], image_width=before["imageWidth"], flags=opened.flags,
        )  # fmt: skip
        assert json.loads(path.read_text())["imageData"] is not None  # it was the tool that wrote it
    compare_read("labelme", folder, faces)


def test_label_studio_finds_nothing_wrong_with_tasks_and_configuration(faces: FaceDataset) -> None:
    module = pytest.importorskip("label_studio_sdk.label_interface", reason="needs label-studio-sdk")
    folder = written("label-studio", faces)
    project = module.LabelInterface((folder / "label_config.xml").read_text())
    project.validate()
    for task in json.loads((folder / "tasks" / "train.json").read_text()):
        for annotation in task["annotations"]:
            wrong = [e for region in annotation["result"] for e in project.validate_region(region, return_errors=True)]
            assert not wrong
    compare_read("label-studio", folder, faces)


def test_labelme_opens_them(faces: FaceDataset) -> None:
    module = pytest.importorskip("labelme._label_file", reason="needs labelme")
    found: dict[tuple[Path, object], dict[str, tuple[float, float]]] = {}
    for path in sorted(written("labelme", faces).rglob("*.json")):
        for shape in module.read_label_file(str(path)).shapes:
            if shape["shape_type"] == "point":
                found.setdefault((path, shape["group_id"]), {})[shape["label"]] = tuple(shape["points"][0])
    compare(faces, list(found.values()))


def test_datumaro_opens_cvat_s(faces: FaceDataset) -> None:
    datumaro = pytest.importorskip("datumaro", reason="needs datumaro")
    dataset = datumaro.Dataset.import_from(str(written("cvat", faces) / "train"), "cvat")
    labels = [label.name for label in dataset.categories()[datumaro.AnnotationType.label].items]
    found: dict[tuple[str, int], dict[str, tuple[float, float]]] = {}
    for item in dataset:
        for number, one in enumerate(a for a in item.annotations if a.type == datumaro.AnnotationType.points):
            face = found.setdefault((item.id, number // 5), {})
            face[labels[one.label]] = (one.points[0], one.points[1])
    compare(faces, list(found.values()), more=True)  # it knows no skeletons, and so not what is outside


def test_what_datumaro_took_in_and_wrote_is_read_with_its_hidden_points(tmp_path: Path) -> None:
    """One face a picture, all points there: it keeps no skeletons, and with them no groups, boxes or missing points."""
    datumaro = pytest.importorskip("datumaro", reason="needs datumaro")
    samples = [
        FaceSample(
            id=f"f{i}", image=picture(tmp_path / "in" / f"{i}.png", seed=i), landmarks=points(5, i) + 0.1234,
            visible=np.arange(5) != i,
        )
        for i in range(2)
    ]  # fmt: skip
    data = write_dataset(tmp_path / "data", samples, schema=FIVE, name="x", image_root=tmp_path / "in", how={})
    taken = datumaro.Dataset.import_from(str(written("cvat", data) / "train"), "cvat")
    taken.export(str(tmp_path / "back"), "cvat", save_media=True)
    found = [*FORMATS["cvat"].read(tmp_path / "back", ReadOptions(schema=FIVE))]
    for was, face in zip(samples, found, strict=True):
        assert isinstance(face, FaceSample), face
        assert was.landmarks is not None
        assert np.abs(face.landmarks - was.landmarks).max() <= 0.01
        assert np.array_equal(face.visible, was.visible)


def test_label_studio_s_converter_opens_them(faces: FaceDataset) -> None:
    converter = pytest.importorskip("label_studio_sdk.converter", reason="needs label-studio-sdk")
    folder = written("label-studio", faces)
    tasks = json.loads((folder / "tasks" / "train.json").read_text())
    for number, task in enumerate(tasks):
        task["id"] = number
    (folder / "tasks" / "train.json").write_text(json.dumps(tasks))
    made = converter.Converter((folder / "label_config.xml").read_text(), str(folder))
    found: list[dict[str, tuple[float, float]]] = []
    for item in made.iter_from_json_file(str(folder / "tasks" / "train.json")):
        for one in item["output"]["points"]:
            if one["keypointlabels"] == NAMES[:1]:
                found.append({})
            face = found[-1]
            face[one["keypointlabels"][0]] = (
                one["x"] / 100 * one["original_width"], one["y"] / 100 * one["original_height"],
            )  # fmt: skip
    compare(faces, found)


def test_pycocotools_opens_coco_s(faces: FaceDataset) -> None:
    module = pytest.importorskip("pycocotools.coco", reason="needs pycocotools")
    coco = module.COCO(str(written("coco", faces) / "annotations" / "train.json"))
    (category,) = coco.loadCats(coco.getCatIds())
    found = []
    for one in coco.loadAnns(coco.getAnnIds()):
        numbers = np.array(one["keypoints"]).reshape(-1, 3)
        found.append({n: (x, y) for n, (x, y, v) in zip(category["keypoints"], numbers, strict=True) if v})
    compare(faces, found)


def test_dlib_opens_imglab_s_in_whole_pixels(faces: FaceDataset) -> None:
    dlib = pytest.importorskip("dlib", reason="needs dlib")
    data = dlib.image_dataset_metadata.load_image_dataset_metadata(str(written("imglab", faces) / "train.xml"))
    found = [{n: (p.x, p.y) for n, p in box.parts.items()} for image in data.images for box in image.boxes]
    compare(faces, found, within=0.5)
    assert all(box.rect.left() == 1 and box.rect.right() == 41 for image in data.images for box in image.boxes)
