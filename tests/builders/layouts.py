"""Tiny hand-written data sets in the published layouts, and what every format must keep of a face."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.formats import FORMATS, ReadOptions, WriteOptions
from stylealign.data.image import write_image
from stylealign.face.sample import FaceSample
from stylealign.face.schema import SCHEMAS, LandmarkSchema

WIDTH, HEIGHT = 60, 40


def picture(path: Path, width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> Path:
    """A small picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
    return path


def points(num_points: int, seed: int = 0) -> np.ndarray:
    """(P, 2) landmarks inside the picture, with three decimals."""
    rng = np.random.default_rng((seed, num_points))
    return (rng.uniform(0.1, 0.9, (num_points, 2)) * [WIDTH, HEIGHT]).round(3)


def numbers(landmarks: np.ndarray, separator: str = " ") -> str:
    return separator.join(f"{v:.6f}" for v in landmarks.ravel())


def wflw_line(
    landmarks: np.ndarray, image: str, flags: Sequence[int] = (0, 0, 0, 0, 0, 0), box: str = "2 3 50 38"
) -> str:
    return f"{numbers(landmarks)} {box} {' '.join(map(str, flags))} {image}"


def wflw(root: Path, lines: Sequence[str], split: str = "test", newline: str = "\n") -> Path:
    """A WFLW folder with one 207-field list."""
    path = root / "WFLW_annotations" / "list_98pt_rect_attr_train_test" / f"list_98pt_rect_attr_{split}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + newline for line in lines).encode())
    (root / "WFLW_images").mkdir(exist_ok=True)
    return root


def pts(path: Path, landmarks: np.ndarray, header: bool = True) -> Path:
    """A .pts file of landmarks counted from 0 (the file counts from 1), and its picture."""
    picture(path.with_suffix(".png"))
    body = "".join(f"{x} {y}\n" for x, y in landmarks + 1)
    path.write_text(f"version: 1\nn_points: {len(landmarks)}\n{{\n{body}}}\n" if header else body)
    return path


def csv_text(rows: Sequence[tuple[str, np.ndarray]], num_points: int) -> str:
    header = ",".join(["image", *(f"{axis}{i}" for i in range(num_points) for axis in "xy")])
    return "\n".join([header, *(f"{image},{numbers(landmarks, ',')}" for image, landmarks in rows)]) + "\n"


OWN_SCHEMA = """
name: three
num_points: 3
flip_pairs: [[0, 1]]
boundaries: {eyes: [0, 1]}
anchors: {inter_ocular: [[0], [1]]}
"""


def own_schema(folder: Path) -> Path:
    """A mark-up of three points in a YAML file."""
    assert "three" not in SCHEMAS
    path = folder / "three.yaml"
    path.write_text(OWN_SCHEMA)
    return path


def three_faces(folder: Path, schema: LandmarkSchema) -> FaceDataset:
    """A data set of three labelled faces, of two pictures and two splits, with all that a face may have; one not."""
    images = [picture(folder.parent / "pictures" / name, seed=i) for i, name in enumerate(("a b/1.png", "c.png"))]
    rng = np.random.default_rng(3)
    samples = [
        FaceSample(
            id=f"face {i}",
            image=images[min(i, 1)],
            landmarks=points(schema.num_points, i) + 0.1234567,
            box_xyxy=(1, 2, 40, 30),
            split=("test", "train", "test")[i],
            attributes={"pose": i == 1, "make_up": i == 2},
            visible=rng.integers(0, 2, schema.num_points),
        )
        for i in range(3)
    ]
    extra = FaceSample(id="none", image=images[0])
    return write_dataset(folder, [*samples, extra], schema=schema, name="x", image_root=folder.parent / "pictures")


def refuse_lost_faces(name: str, before: FaceDataset, after: Sequence[FaceSample]) -> None:
    """Assert that the faces read are those that were written, with all that the entry of a format says it keeps."""
    entry, labelled = FORMATS[name], list(before.select(labelled=True))
    assert len(after) == len(labelled)
    left = list(after)
    for sample in labelled:
        assert sample.landmarks is not None

        def distance(other: FaceSample, wanted: np.ndarray = sample.landmarks) -> float:
            assert other.landmarks is not None
            return float(np.abs(other.landmarks - wanted).max())

        found = left.pop(int(np.argmin([distance(other) for other in left])))
        assert distance(found) <= entry.rounding
        assert found.split == sample.split
        assert found.image.read_bytes() == sample.image.read_bytes()
        for field in entry.keeps:
            was, is_now = getattr(sample, field), getattr(found, field)
            if field == "attributes":  # a flag that is not there is one that is not set
                was, is_now = ({key for key, on in flags.items() if on} for flags in (was, is_now))
            assert np.array_equal(was, is_now), field


def write_and_read(name: str, schema: LandmarkSchema, folder: Path) -> None:
    """Write faces in a format and read them back: what every entry of FORMATS that does both must keep."""
    entry, out = FORMATS[name], folder / "out"
    dataset = three_faces(folder / "dataset", schema)
    out.mkdir()
    assert entry.write is not None
    entry.write(dataset.select(labelled=True), out, WriteOptions())
    entries = list(entry.read(out, ReadOptions(schema=schema)))
    assert [str(e) for e in entries if not isinstance(e, FaceSample)] == []
    faces = [e for e in entries if isinstance(e, FaceSample)]
    assert len({face.id for face in faces}) == len(faces)
    assert all(face.image.is_relative_to(entry.image_root(out)) for face in faces)
    refuse_lost_faces(name, dataset, faces)
    if entry.count_points is not None:
        assert entry.count_points(out) == schema.num_points
