"""`generate --translator warp`: the same pictures however the work is cut, donors by fit, and what cannot be done."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from builders.tiny import detector_job, drawn, tree
from stylealign.batches.batch import Batch
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import DatasetWriter, write_dataset
from stylealign.data.image import read_image
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.geometry import apply, invert, landmark_box
from stylealign.face.orientation import upright_affine, view_of
from stylealign.jobs.generate import by_warp, rendering
from stylealign.jobs.generate.by_warp import ByWarp
from stylealign.jobs.generate.job import Generate, main
from stylealign.jobs.train_detector.job import main as train_detector
from stylealign.styling.chain import ChainConfig
from stylealign.translators.judge import judge_swaps
from stylealign.translators.loaded import open_untrained
from stylealign.translators.warp.fit import WarpConfig

LOOSE = WarpConfig(stretch=10.0, stretched=0.1, apart=0.1)  # drawn faces are few, and differ more than people do


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("warp") / "data"
    drawn(folder, 24)
    return folder


def config(data: Path, out: Path, **changes) -> Generate:
    values = {
        "data": data, "translator": Path("warp"), "out": out, "styles_per_face": 2, "faces_per_unit": 4, "sheets": 1,
        "sheet_size": 2, "image_format": "png", "accelerator": "cpu", "crop": CropConfig(size=48, scale=1.6),
        "skip_unfit": True, "warp": LOOSE,
    }  # fmt: skip
    return Generate(**{**values, **changes})


def images(folder: Path) -> dict[str, bytes]:
    """By the face and the style, whatever the unit."""
    return {name.split("/", 2)[2]: held for name, held in tree(folder).items() if name.startswith("images/")}


def test_a_stopped_run_goes_on_and_makes_the_same_faces(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = config(data, tmp_path / "whole")
    main(whole)
    said = capsys.readouterr().err
    assert "cannot be bent: passed over" in said
    assert "warning: this translator was never judged" in said  # the detector in the package knows another mark-up
    write, done = rendering.Work.render, []

    def failing(self: rendering.Work, unit: int) -> None:
        if done:
            raise KeyboardInterrupt
        write(self, unit)
        done.append(unit)

    stopped = dataclasses.replace(whole, out=tmp_path / "stopped")
    with monkeypatch.context() as patch:
        patch.setattr(rendering.Work, "render", failing)
        with pytest.raises(KeyboardInterrupt):
            main(stopped)
    assert (tmp_path / "stopped.partial").exists()
    main(stopped)
    assert images(stopped.out) == images(whole.out)
    other = dataclasses.replace(whole, out=tmp_path / "other", faces_per_unit=3, sheets=0)
    main(other)
    assert images(other.out) == images(whole.out)
    seeded = dataclasses.replace(
        whole, out=tmp_path / "seeded", seed=1, warp=dataclasses.replace(LOOSE, offered=6), sheets=0
    )
    main(seeded)
    assert images(seeded.out) != images(whole.out)


def test_faces_have_their_own_structure_and_others_pictures(data: Path, tmp_path: Path) -> None:
    main(config(data, tmp_path / "made", sheets=0))
    contents, made = FaceDataset.open(data).select("train"), FaceDataset.open(tmp_path / "made")
    by_id = {sample.id: sample for sample in contents}
    assert len(made) % 2 == 0
    assert len(made) >= 8, "most have two donors that fit"
    for sample in made:
        origin = sample.provenance
        assert origin is not None
        assert origin.style_id != origin.content_id
        assert origin.style_id in by_id
        affine = np.array(origin.crop_from_source)
        expected = by_id[origin.content_id].landmarks @ affine[:, :2].T + affine[:, 2]
        np.testing.assert_allclose(sample.landmarks, expected, atol=1e-3)
        assert read_image(sample.image).shape == (48, 48, 3)


def held(faces: FaceDataset, folder: Path, orientation: int) -> Path:
    """The same faces, their square pictures stored as a camera held that way stores them."""
    with DatasetWriter(folder, schema=faces.schema, images="own") as writer:
        for sample in faces:
            shown = read_image(sample.image)
            stored_from_shown = invert(upright_affine(orientation, *shown.shape[:2]))
            image = writer.add_image(f"{sample.id}.png", view_of(shown, stored_from_shown))
            assert sample.landmarks is not None
            landmarks = apply(stored_from_shown, sample.landmarks)
            writer.add(dataclasses.replace(
                sample, id=f"{sample.id}_held", image=image, landmarks=landmarks, box_xyxy=landmark_box(landmarks),
                orientation=orientation,
            ))  # fmt: skip
    return folder


@pytest.mark.parametrize("contents", [True, False])
@pytest.mark.parametrize("orientation", [2, 6])
def test_pictures_held_otherwise_make_the_same_faces(
    orientation: int, contents: bool, data: Path, tmp_path: Path
) -> None:
    """A picture that a camera stored mirrored, or on its side, is bent as whoever labelled it saw it."""
    faces = FaceDataset.open(data).select("train")
    for way in (1, orientation):
        folder = held(faces, tmp_path / f"held_{way}", way)
        main(config(folder if contents else data, tmp_path / f"made_{way}", donors=None if contents else folder))
    upright, found = (FaceDataset.open(tmp_path / f"made_{way}") for way in (1, orientation))
    assert len(upright) >= 8
    for expected, sample in zip(upright, found, strict=True):
        assert (sample.id, sample.orientation) == (expected.id, 1)
        assert sample.provenance is not None
        assert expected.provenance is not None
        assert sample.provenance.style_id == expected.provenance.style_id
        np.testing.assert_allclose(sample.landmarks, expected.landmarks, atol=1e-3)
        assert np.abs(read_image(sample.image).astype(float) - read_image(expected.image)).mean() < 0.5
    sheets = [read_image(made.folder / "sheets/sheet_00.png").astype(float) for made in (upright, found)]
    assert np.abs(sheets[0] - sheets[1]).mean() < 0.5


def test_a_landmark_that_nobody_placed_stays_so_and_those_a_donor_hides_are_hidden(data: Path, tmp_path: Path) -> None:
    train, schema = list(FaceDataset.open(data).select("train")), FaceDataset.open(data).schema
    there, hidden = np.arange(98) != 62, np.arange(98) == 5
    contents = [
        dataclasses.replace(sample, visible=there, point_trust=there.astype(np.float32)) for sample in train[::2]
    ]
    givers = [dataclasses.replace(sample, visible=~hidden) for sample in train[1::2]]
    write_dataset(tmp_path / "contents", contents, schema=schema, name="contents")
    for name, visible in (("donors", ~hidden), ("silent", None)):
        some = [dataclasses.replace(sample, visible=visible) for sample in givers]
        write_dataset(tmp_path / name, some, schema=schema, name=name)
        out = tmp_path / f"made_of_{name}"
        main(config(tmp_path / "contents", out, donors=tmp_path / name, sheets=0, styles_per_face=1))
        for sample in FaceDataset.open(out):
            assert (sample.missing_points == ~there).all()
            assert (sample.visible == (there & ~hidden if visible is not None else there)).all()


@pytest.mark.parametrize(
    "how", [{}, {"translator": None, "style": ChainConfig(preset="warp"), "warp": WarpConfig(), "skip_unfit": True}]
)
def test_a_landmark_that_the_donor_lacks_is_no_label(how: dict, data: Path, tmp_path: Path) -> None:
    """The picture is not bent to it there. It is not missing: the face is cut round it as round the others."""
    faces = FaceDataset.open(data).select("train")
    there = np.ones(98, bool)
    there[76:96] = False  # the mouth
    trust = there.astype(np.float32)
    for name, visible in (("missing", there), ("doubted", None)):
        some = [
            dataclasses.replace(
                s, landmarks=np.where(there[:, None], s.landmarks, 0), visible=visible, point_trust=trust
            )
            for s in faces
        ]
        write_dataset(tmp_path / name, some, schema=faces.schema, name=name)
        main(config(data, tmp_path / f"of_{name}", donors=tmp_path / name, styles_per_face=1, **how))
        made = FaceDataset.open(tmp_path / f"of_{name}")
        assert len(made) >= 4
        for sample in made:
            assert np.array_equal(sample.point_trust, trust)
            assert not sample.missing_points.any()
            assert np.isfinite(sample.labels).all(axis=1).tolist() == there.tolist()


def test_donors_outside_their_picture_or_not_trusted_are_not_used_and_counted(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = list(FaceDataset.open(data).select("train"))
    changed = [
        dataclasses.replace(train[0], landmarks=train[0].landmarks + 60),
        dataclasses.replace(train[1], trust=0.2),
        *train[2:],
    ]
    donors = write_dataset(tmp_path / "donors", changed, schema=FaceDataset.open(data).schema, name="donors")
    main(config(data, tmp_path / "made", donors=tmp_path / "donors", sheets=0))
    said = capsys.readouterr().err
    assert f"{len(train) - 2} of {len(train)} donors can be used" in said
    assert "the landmarks of 1 are not trusted" in said
    assert "landmarks of 1 lie outside of their picture" in said
    used = {sample.provenance.style_id for sample in FaceDataset.open(tmp_path / "made") if sample.provenance}
    assert not used & {train[0].id, train[1].id}
    assert len(donors) == len(train)


def test_the_judge_sees_all_styles_evenly_and_no_donor_that_lacks_a_landmark(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = FaceDataset.open(data).select("train")
    there = np.arange(98) != 62
    lacking = [
        dataclasses.replace(sample, visible=there, point_trust=there.astype(np.float32)) if i % 2 else sample
        for i, sample in enumerate(faces)
    ]
    write_dataset(tmp_path / "donors", lacking, schema=faces.schema, name="donors")
    train_detector(detector_job(tmp_path / "judge", data, {"steps": 1}))
    seen: list[Batch] = []

    def judged(translator, batch: Batch, *args, donors: Batch) -> dict:
        seen.append(donors)
        return judge_swaps(translator, batch, *args, donors=donors)

    monkeypatch.setattr(by_warp, "judge_swaps", judged)
    main(config(data, tmp_path / "out", donors=tmp_path / "donors", judge=tmp_path / "judge", accept_gap=True))
    assert len(seen[0].landmarks) >= 2
    assert bool(torch.isfinite(seen[0].landmarks).all())

    # Each style of as many faces, where every donor is whole: told by their places.
    maker = ByWarp(open_untrained("warp", faces.schema, CropConfig()), LOOSE, None, torch.device("cpu"))
    k, num = 3, 3 * (len(faces) // 3)
    maker.donor_landmarks = np.zeros((k * num, 98, 2))
    plan = SimpleNamespace(contents=faces.take(range(num)), pairs=np.arange(k * num).reshape(num, k), seed=0)
    pairs = maker._judged_pairs(plan)
    assert [i for i, _ in pairs] == [j // k for _, j in pairs] == list(range(num))
    assert np.bincount([j % k for _, j in pairs]).tolist() == [num // k] * k


def test_what_cannot_be_done_is_said_with_counts_and_leaves_nothing(data: Path, tmp_path: Path) -> None:
    out, train = tmp_path / "made", list(FaceDataset.open(data).select("train"))
    schema = FaceDataset.open(data).schema
    write_dataset(tmp_path / "two", train[:2], schema=schema, name="two")
    bare = [dataclasses.replace(sample, landmarks=None, visible=None) for sample in train[:3]]
    write_dataset(tmp_path / "bare", bare, schema=schema, name="bare")
    strict = WarpConfig(stretch=1.01, stretched=0.0)
    few, found = {"donors": tmp_path / "two", "styles_per_face": 4}, {"donors": tmp_path / "bare"}
    for sentence, changes in (
        (r"2 of 2 donors can be used, and styles_per_face asks for 4", few),
        (r"\d+ of \d+ faces with fewer fitting donors than the 2", {"warp": strict, "skip_unfit": False}),
        (r"none of \d+ faces has 2 donors to fit it", {"warp": strict}),
        (r"3 donors have no landmarks of wflw98, and the detector in the package finds ibug68", found),
        ("mode prior: translator .warp. has no prior", {"mode": "prior"}),
    ):  # fmt: skip
        with pytest.raises(UserError, match=sentence):
            main(config(data, out, **changes))
        assert not list(tmp_path.glob("made*"))
