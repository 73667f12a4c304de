"""Splits carved out of the training faces: whole pictures, by seed, of the share asked for."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from builders.layouts import picture, points, wflw, wflw_line
from stylealign.config import from_dict
from stylealign.data.carve import carved, named_shares
from stylealign.data.dataset import FaceDataset
from stylealign.errors import UserError
from stylealign.face.sample import FaceSample, Provenance
from stylealign.jobs import prepare
from stylealign.jobs.prepare import Prepare


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> list[FaceSample]:
    """60 training faces in 30 pictures (1, 2 and 3 a picture), and 5 test faces."""
    folder = tmp_path_factory.mktemp("carve")
    found = []
    for i in range(30):
        image = folder / f"{i}.png"
        image.write_bytes(f"picture {i}".encode())
        for k in range(1 + i % 3):
            found.append(FaceSample(id=f"{i}#{k}", image=image, landmarks=np.full((5, 2), i + k), split="train"))
    test = folder / "test.png"
    test.write_bytes(b"test")
    found += [FaceSample(id=f"t{k}", image=test, landmarks=np.zeros((5, 2)), split="test") for k in range(5)]
    return found


def splits(found: list[FaceSample]) -> dict[str, str]:
    return {face.id: face.split for face in found}


def test_a_split_is_its_share_and_pictures_stay_whole(faces: list[FaceSample]) -> None:
    now = carved(faces, {"val": 0.25, "dev": 0.1}, 0)
    assert Counter(face.split for face in now) == {"train": 39, "val": 15, "dev": 6, "test": 5}
    assert [face.id for face in now] == [face.id for face in faces]
    of_picture: dict[Path, set[str]] = {}
    for face in now:
        of_picture.setdefault(face.image, set()).add(face.split)
    assert all(len(some) == 1 for some in of_picture.values())


def test_the_seed_decides_and_the_order_of_reading_does_not(faces: list[FaceSample]) -> None:
    once = splits(carved(faces, {"val": 0.2}, 0))
    assert splits(carved(faces[::-1], {"val": 0.2}, 0)) == once
    assert splits(carved(faces, {"val": 0.2}, 1)) != once


def test_copies_of_one_picture_under_two_names_stay_together(faces: list[FaceSample], tmp_path: Path) -> None:
    (tmp_path / "copy.png").write_bytes(faces[0].image.read_bytes())
    twin = dataclasses.replace(faces[0], id="twin", image=tmp_path / "copy.png")
    for seed in range(8):
        now = splits(carved([*faces, twin], {"val": 0.5}, seed))
        assert now["twin"] == now[faces[0].id]


def test_faces_made_from_one_face_stay_with_it_and_with_all_of_its_picture(
    faces: list[FaceSample], tmp_path: Path
) -> None:
    made = []
    for i, origin in enumerate(faces[:40:3] * 2):
        image = tmp_path / f"made{i}.png"
        image.write_bytes(f"made {i}".encode())
        provenance = Provenance(content_id=origin.id, style_id=None, translator="t", seed=0)
        made.append(dataclasses.replace(origin, id=f"made{i}", image=image, provenance=provenance))
    for seed in range(8):
        of: dict[str, set[str]] = {}
        now = carved([*made[:5], *faces, *made[5:]], {"val": 0.4}, seed)
        for face in now:
            if face.split != "test":
                of.setdefault(face.origin.split("#")[0], set()).add(face.split)  # the picture of the real face
        assert all(len(some) == 1 for some in of.values())
        held = sum(face.split == "val" for face in now)
        assert abs(held - 0.4 * (60 + len(made))) <= 3


def test_unlabelled_faces_do_not_count_and_go_where_their_picture_goes(faces: list[FaceSample]) -> None:
    without = [dataclasses.replace(face, id=f"u{face.id}", landmarks=None) for face in faces if face.split == "train"]
    now = splits(carved([*faces, *without], {"val": 0.25}, 0))
    assert sum(split == "val" for name, split in now.items() if not name.startswith("u")) == 15
    assert all(now[f"u{face.id}"] == now[face.id] for face in faces if face.split == "train")
    with pytest.raises(UserError, match="of 0 labelled faces of split train"):
        carved(without, {"val": 0.5}, 0)


def test_what_cannot_be_carved_is_refused(faces: list[FaceSample]) -> None:
    with pytest.raises(UserError, match=r"split test is there already: face 't0' is in it"):
        carved(faces, {"test": 0.1}, 0)
    with pytest.raises(UserError, match=r"val=0.001 of 60 labelled faces .* less than one picture"):
        carved(faces, {"val": 0.001}, 0)


@pytest.mark.parametrize("entry", ["val", "val=", "=0.1", "val=0", "val=1", "val=nan", "val=two", "train=0.1"])
def test_a_share_that_cannot_be_meant_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"such as val=0\.05"):
        named_shares([entry])


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="leaves no face in train"):
        named_shares(["val=0.5", "dev=0.5"])


def test_prepare_carves_a_val_out_of_wflw(tmp_path: Path) -> None:
    for i in range(10):
        picture(tmp_path / "source" / "WFLW_images" / f"p{i}.png", seed=i)
    wflw(tmp_path / "source", [wflw_line(points(98, i), f"p{i}.png") for i in range(8)], "train")
    wflw(tmp_path / "source", [wflw_line(points(98, i), f"p{i}.png") for i in (8, 9)], "test")
    out = tmp_path / "out"
    prepare.main(Prepare(reader="wflw", path=tmp_path / "source", out=out, carve=("val=0.25",)))
    made = FaceDataset.open(out)
    assert made.meta["splits"] == {"train": 6, "val": 2, "test": 2}
    assert made.meta["how"]["config"]["carve"] == ["val=0.25"]
    with pytest.raises(UserError, match="expected another split than train"):
        from_dict(Prepare, {"reader": "wflw", "path": "x", "out": "y", "carve": ["val"]})
