"""What we write for labelling tools, read by the tools' own packages, where they are installed."""

import json
from pathlib import Path

import numpy as np
import pytest

from builders.layouts import picture, points
from stylealign.data.dataset import FaceDataset, write_dataset
from stylealign.data.formats import FORMATS, WriteOptions
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
