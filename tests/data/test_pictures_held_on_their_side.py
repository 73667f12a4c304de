"""Pictures that EXIF turns, labelled as a tool shows them: a face is cut as it was seen, which is as `predict` does."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from builders import tiny
from stylealign.batches.crops import crop_sample
from stylealign.batches.shards import _cut
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.formats import FORMATS
from stylealign.data.formats.entry import ReadOptions
from stylealign.data.formats.writing import WriteOptions
from stylealign.data.image import orientation_of, read_image
from stylealign.data.shards import ShardConfig
from stylealign.face import geometry
from stylealign.face.crop import CropConfig
from stylealign.face.orientation import map_box, shown_face, upright_affine, view_of
from stylealign.face.sample import FaceSample
from stylealign.jobs.stress import Stress
from stylealign.jobs.stress import main as stress
from stylealign.predicting.finders import FoundFace
from stylealign.predicting.places import how_found, placed
from stylealign.predicting.sources import read_photo

CROP = CropConfig(size=64, scale=1.4)


def held(upright: FaceDataset, folder: Path, orientation: int) -> FaceDataset:
    """The faces in pictures that are stored as that orientation says, each pixel the same."""
    (folder / "in").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    faces = []
    for face in upright:
        shown = read_image(face.image)
        back = {5: 5, 6: 8, 8: 6}.get(orientation, orientation)  # the number that undoes it
        stored_from_shown = upright_affine(back, shown.shape[1], shown.shape[0])
        path = folder / "in" / f"{face.id}.png"
        Image.fromarray(view_of(shown, stored_from_shown)).save(path, exif=exif)
        assert face.landmarks is not None
        landmarks = geometry.apply(stored_from_shown, face.landmarks)
        box = map_box(stored_from_shown, geometry.landmark_box(face.landmarks)) if face.box_xyxy is not None else None
        faces.append(FaceSample(id=face.id, image=path, landmarks=landmarks, box_xyxy=box, split=face.split))
    stored = write_dataset(folder / "stored", faces, schema=upright.schema, name="x", image_root=folder / "in", how={})
    (folder / "tool").mkdir()
    write = FORMATS["labelme"].write
    assert write is not None
    write(stored, folder / "tool", WriteOptions())
    options = ReadOptions(schema=upright.schema, point_names=FORMATS["labelme"].point_names(folder / "tool"))
    read = [face for face in FORMATS["labelme"].read(folder / "tool", options) if isinstance(face, FaceSample)]
    return write_dataset(folder / "data", read, schema=upright.schema, name="x", image_root=folder / "tool", how={})


@pytest.fixture(scope="module")
def upright(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    return tiny.drawn(tmp_path_factory.mktemp("upright") / "faces", 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_crops_shards_and_harder_faces_are_those_of_the_upright_picture(
    upright: FaceDataset, orientation: int, tmp_path: Path
) -> None:
    faces = held(upright, tmp_path, orientation)
    stress(Stress(data=faces.folder, split=None, out=tmp_path / "hard", causes=("blur",), strengths=(0,), png=True))
    hard = list(FaceDataset.open(tmp_path / "hard"))
    originals = {face.id: face for face in upright}
    assert len(faces) == len(originals)
    for i, face in enumerate(faces):
        wanted = originals[face.id.rpartition("/")[2]]
        assert orientation_of(face.image) == orientation
        assert face.orientation == orientation
        assert face.landmarks is not None
        pixels, landmarks, affine = crop_sample(face, CROP)
        true_pixels, true_landmarks, _ = crop_sample(wanted, CROP)
        assert landmarks is not None
        assert true_landmarks is not None
        assert np.allclose(landmarks, true_landmarks, atol=0.01)
        assert np.abs(pixels.astype(int) - true_pixels).mean() < 1
        home = geometry.apply(geometry.invert(affine), landmarks)
        assert np.allclose(home, face.landmarks, atol=1e-3)  # px of the stored picture
        packed, _, _ = _cut(face, ShardConfig(crop=CROP, margin=1.0))
        assert packed.orientation == 1
        assert packed.landmarks is not None
        assert np.allclose(packed.landmarks, true_landmarks, atol=0.01)

        shown, view = shown_face(face, *Image.open(face.image).size)
        assert shown.landmarks is not None
        assert np.allclose(shown.landmarks, wanted.landmarks, atol=0.01)
        assert np.array_equal(view, read_photo(face.image).view_from_source)  # what `predict` looks at
        made = hard[i]
        assert made.orientation == 1
        assert made.provenance is not None
        crop_from_source = made.provenance.crop_from_source
        assert np.allclose(geometry.apply(np.array(crop_from_source), face.landmarks), made.landmarks, atol=0.01)
        assert made.landmarks is not None
        fit = geometry.similarity_fit(wanted.landmarks.astype(float), made.landmarks.astype(float))
        assert np.allclose(fit[:, :2], fit[0, 0] * np.eye(2), atol=1e-3)  # not turned


def test_a_finder_sees_pictures_as_exif_turns_them(upright: FaceDataset, tmp_path: Path) -> None:
    faces, asked = list(held(upright, tmp_path, 6)), list(upright)
    place = {read_image(face.image).tobytes(): geometry.landmark_box(face.landmarks) for face in asked}

    def finder(image: np.ndarray) -> list[FoundFace]:
        box = place.get(np.ascontiguousarray(image).tobytes())
        return [] if box is None else [FoundFace(box=geometry.square_of(box.reshape(2, 2)), score=1.0, by="a test")]

    assert how_found(faces, finder, 1.4).found == 1
    bare = [FaceSample(id=face.id, image=face.image) for face in faces]
    for found, face in zip(placed(iter(bare), "finder", finder, 1.4), faces, strict=True):
        assert found.orientation == 6
        assert found.box_xyxy is not None
        assert face.landmarks is not None
        assert np.allclose(found.box_xyxy, geometry.square_of(face.landmarks), atol=0.01)
