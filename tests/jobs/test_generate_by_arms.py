"""`generate` by style arms: a data set like any other, the same bytes however the work was cut, the arm's name."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from builders.painted import make_faces
from builders.tiny import drawn, tree
from stylealign.batches.batch import Batch
from stylealign.batches.crops import crop_sample
from stylealign.cli import main as cli
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.image import read_image
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.jobs.generate.by_arms import ByArms
from stylealign.jobs.generate.job import Generate, Processes, make_dataset, open_maker
from stylealign.jobs.generate.pairing import own_positions
from stylealign.styling.arms import ARMS, ArmEntry
from stylealign.styling.chain import ArmConfig, ChainConfig
from stylealign.translators.warp.fit import WarpConfig, refused_pairs
from stylealign.translators.warp.openings import openings_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    return make_faces(tmp_path_factory.mktemp("faces") / "data", 7)


def job(faces: FaceDataset, out: Path, **more) -> Generate:
    values = {
        "data": faces.folder, "out": out, "style": ChainConfig(preset="free"), "crop": CropConfig(size=24),
        "styles_per_face": 3, "faces_per_unit": 2, "sheets": 1, "sheet_size": 2, "image_format": "png", **more,
    }  # fmt: skip
    return Generate(**values)


def made(config: Generate, **more) -> FaceDataset:
    make_dataset(config, open_maker(config, CPU), Processes(**more))
    return FaceDataset.open(config.out)


def test_a_generated_face_has_its_own_label_another_s_colour_and_the_arm_s_name(
    tmp_path: Path, faces: FaceDataset
) -> None:
    config = job(faces, tmp_path / "out")
    found = made(config)
    assert len(found) == 21
    assert found.verify() == []
    by_id = {sample.id: sample for sample in faces}
    kinds = set()
    for sample in found:
        told = sample.provenance
        assert told is not None
        assert told.mode == "arm"
        assert told.style_id in by_id
        assert told.style_id != told.content_id
        kinds.add(told.translator)
        content = by_id[told.content_id]
        pixels, landmarks, affine = crop_sample(content, config.crop)
        assert np.array_equal(sample.landmarks, landmarks.astype(np.float32))
        assert np.allclose(told.crop_from_source, affine)
        assert np.array_equal(sample.visible, content.visible)
        # Pictures of one colour: at strength 0.5 to 1 the result is at least half way to the donor's, in every channel.
        ours, theirs, is_now = (
            image.reshape(-1, 3).astype(float).mean(axis=0)
            for image in (pixels, crop_sample(by_id[told.style_id], config.crop)[0], read_image(sample.image))
        )
        assert (np.abs(is_now - theirs) <= 0.55 * np.abs(ours - theirs) + 2).all(), told
    assert kinds == {"adain", "histogram", "fda"}


def test_the_bytes_are_the_same_for_one_process_and_two_and_for_a_stopped_job(
    tmp_path: Path, faces: FaceDataset, monkeypatch
) -> None:
    whole = job(faces, tmp_path / "whole" / "out")
    made(whole)
    parted = dataclasses.replace(whole, out=tmp_path / "parted" / "out")
    partial = tmp_path / "parted" / "out.partial"
    for name in ("styles", "units", "images", "sheets"):  # which rank 0 would have made
        (partial / name).mkdir(parents=True)
    waits = []

    def barrier() -> None:
        waits.append(None)
        if len(waits) == 4:  # its share is done, rank 0 would join the units now
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(parted, rank=1, world=2, barrier=barrier)
    assert [path.name for path in sorted((partial / "units").iterdir())] == ["000001.jsonl", "000003.jsonl"]
    made(parted)  # rank 0 finds those done, and does the rest
    assert tree(tmp_path / "parted") == tree(tmp_path / "whole")

    stopped, seen = dataclasses.replace(whole, out=tmp_path / "stopped" / "out"), []
    cut = ByArms._cut

    def stops(self, sample):
        seen.append(sample.id)
        if len(seen) == 20:
            raise KeyboardInterrupt
        return cut(self, sample)

    monkeypatch.setattr(ByArms, "_cut", stops)
    with pytest.raises(KeyboardInterrupt):
        made(stopped)
    assert not stopped.out.exists()
    monkeypatch.setattr(ByArms, "_cut", cut)
    made(stopped)
    assert tree(tmp_path / "stopped") == tree(tmp_path / "whole")


def test_doubted_labels_are_as_doubted_in_the_faces_made_of_them(tmp_path: Path, faces: FaceDataset) -> None:
    """Of the whole face, and of a landmark, which can be seen but counts as no label at trust 0."""
    points = faces.schema.num_points
    trust = np.linspace(0, 1, points, dtype=np.float32)
    doubted = [dataclasses.replace(sample, trust=0.2, point_trust=trust, visible=None) for sample in faces]
    some = write_dataset(tmp_path / "doubted", doubted, schema=faces.schema, name="d", image_root=faces.image_root)
    config = job(some, tmp_path / "out", style=ChainConfig(preset="shadow"), styles_per_face=1)
    for sample in made(config):
        assert sample.trust == 0.2
        assert sample.point_trust is not None
        assert sample.point_trust.tolist() == trust.tolist()
        assert np.isnan(sample.labels).any(axis=1).tolist() == [True] + [False] * (points - 1)
    side = json.loads((tmp_path / "out/sheets/sheet_00.json").read_text())
    assert side["missing"] == [[0]] * 2, "nor is it one for who cuts the sheet"


def test_an_arm_that_bends_gets_donors_that_fit_and_no_face_as_it_was_is_called_styled(tmp_path: Path) -> None:
    data = drawn(tmp_path / "data", 40)
    config = job(data, tmp_path / "out", style=ChainConfig(preset="warp"), crop=CropConfig(size=48, scale=1.75),
                 styles_per_face=1, skip_unfit=True)  # fmt: skip
    with pytest.raises(UserError, match=r"with fewer fitting donors than the 1 style asked for"):
        made(dataclasses.replace(config, skip_unfit=False))
    found, by_id = made(config), {sample.id: sample for sample in data}
    assert len(found) >= 4
    contents, donors = ([by_id[getattr(s.provenance, key)] for s in found] for key in ("content_id", "style_id"))
    assert all(a.id != b.id for a, b in zip(contents, donors, strict=True))
    pairs = [np.stack([sample.labels for sample in some]) for some in (contents, donors)]
    assert not refused_pairs(*pairs, openings_of(data.schema), WarpConfig()).any()
    for sample, content in zip(found, contents, strict=True):
        assert not np.array_equal(read_image(sample.image), crop_sample(content, config.crop)[0])
    # What decides who is a donor of whom, and who is left out, makes another data set.
    for other in ({"warp": WarpConfig(offered=3)}, {"skip_unfit": False}):
        with pytest.raises(UserError, match=rf"the work of another configuration \(config.*{next(iter(other))}"):
            made(dataclasses.replace(config, **other))
    with pytest.raises(UserError, match=r"warp\.stretch: found another than 4\.0, .*heed `offered` alone"):
        made(dataclasses.replace(config, warp=WarpConfig(stretch=3), out=tmp_path / "another"))
    assert not (tmp_path / "another").exists()


def test_a_face_that_no_arm_changed_has_no_style_and_is_no_tile(
    tmp_path: Path, faces: FaceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def every_second(content: Batch, donors: Batch, strength: Tensor, draws: Tensor) -> Batch:
        return content._replace(image=torch.where((draws[:, :1, None, None] < 0.5), content.image, -content.image))

    monkeypatch.setitem(ARMS, "sometimes", ArmEntry(summary="sometimes", arm=every_second))
    config = job(faces, tmp_path / "out", style=ChainConfig(arms=(ArmConfig(kind="sometimes"),)), styles_per_face=3)
    by_id, names = {sample.id: sample for sample in faces}, set()
    for sample in made(config):
        told = sample.provenance
        same = np.array_equal(read_image(sample.image), crop_sample(by_id[told.content_id], config.crop)[0])
        assert (told.style_id is None, told.translator) == ((True, "none") if same else (False, "sometimes"))
        names.add(told.translator)
    assert names == {"none", "sometimes"}


def test_arms_that_need_no_donor_take_none(tmp_path: Path, faces: FaceDataset) -> None:
    one = faces.take([0])
    assert (own_positions(one, faces) == [0]).all()
    found = made(job(faces, tmp_path / "out", style=ChainConfig(preset="jitter"), styles_per_face=9))
    assert {sample.provenance.style_id for sample in found} == {None}
    assert len({read_image(found[i].image).tobytes() for i in range(9)}) == 9


def test_arms_in_series_are_both_named(tmp_path: Path, faces: FaceDataset) -> None:
    arms = (ArmConfig(kind="adain"), ArmConfig(kind="jitter", group=1))
    found = made(job(faces, tmp_path / "out", style=ChainConfig(arms=arms), sheets=0, styles_per_face=1))
    assert {sample.provenance.translator for sample in found} == {"adain + jitter"}


def test_arms_that_did_nothing_to_a_face_are_not_named_nor_donors_that_nobody_looked_at(
    tmp_path: Path, faces: FaceDataset
) -> None:
    arms = (ArmConfig(kind="adain", prob=0.5, strength=(1, 1)), ArmConfig(kind="jitter", prob=0.5, group=1))
    found = made(job(faces, tmp_path / "out", style=ChainConfig(arms=arms, choose="all"), sheets=0))
    told = {(sample.provenance.translator, sample.provenance.style_id is not None) for sample in found}
    assert told == {("none", False), ("adain", True), ("jitter", False), ("adain + jitter", True)}
    one = made(job(faces, tmp_path / "one", style=ChainConfig(arms=tuple(
        dataclasses.replace(arm, group=0) for arm in arms)), sheets=0))  # fmt: skip
    told = {(sample.provenance.translator, sample.provenance.style_id is not None) for sample in one}
    assert told == {("adain", True), ("jitter", False)}


def test_an_arm_that_covers_landmarks_says_so(tmp_path: Path, faces: FaceDataset, monkeypatch) -> None:
    def covers(content, donors, strength, draws):
        visible = content.visible.clone()
        visible[:, 2] = False
        return content._replace(visible=visible)

    monkeypatch.setitem(ARMS, "covers", ArmEntry(summary="one landmark hidden", arm=covers))
    found = made(job(faces, tmp_path / "out", style=ChainConfig(preset="covers"), sheets=0, styles_per_face=1))
    for sample, content in zip(found, faces, strict=True):
        assert sample.visible.tolist() == [*content.visible[:2], False, *content.visible[3:]]


def test_no_maker_two_makers_and_a_translator_s_mode_are_refused(tmp_path: Path, faces: FaceDataset, capsys) -> None:
    given = ["generate", "--data", str(faces.folder), "--out", str(tmp_path / "out"), "--accelerator", "cpu"]
    assert cli(given) == 2
    assert "missing --translator, or style arms" in capsys.readouterr().err
    assert cli([*given, "--translator", str(tmp_path), "--style.preset", "free"]) == 2
    assert "expected one of the two" in capsys.readouterr().err
    assert cli([*given, "--style.preset", "free", "--mode", "prior"]) == 2
    assert "style arms only transfer" in capsys.readouterr().err
    assert cli([*given, "--style.preset", "fancy"]) == 2
    assert "no style preset is called 'fancy'; there are none, free" in capsys.readouterr().err
    with pytest.raises(UserError, match="needs 7 different donors"):
        made(job(faces, tmp_path / "out", styles_per_face=7))
    assert not (tmp_path / "out").exists()
