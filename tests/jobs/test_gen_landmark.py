"""The original's recipe keys and mosaics: what each becomes, and that labels are found by looking, not by counting."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from builders.painted import PaintedTranslator, make_faces
from builders.release import FRAME, TILE, Release, original_map
from stylealign.cli import parse
from stylealign.config import from_dict
from stylealign.data.dataset import FaceDataset, sources_of
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.image import read_image, write_image
from stylealign.errors import UserError
from stylealign.face.sample import Provenance
from stylealign.face.schema import get_schema
from stylealign.jobs import gen_landmark
from stylealign.jobs.gen_landmark import GenLandmark, batch_rows, matching_rows, rendered
from stylealign.jobs.generate.job import Generate, generate
from stylealign.jobs.generate.maker import GREY
from stylealign.jobs.train_translator.legacy_recipes import LEGACY_KEYS, is_legacy_recipe, translate_recipe
from stylealign.translators.kl import KL_PRESETS
from stylealign.translators.reconstruction import RECONSTRUCTION_PRESETS
from stylealign.translators.schedule import LEARNING_RATE_PRESETS
from stylealign.translators.vunet.config import VUNetConfig

FIVE = get_schema("five")
TRAINING_RECIPE = {
    "exp_name": "exp_0001", "data_dir": "300W", "img_list": "300W/train.txt", "batch_size": 4, "init_batches": 4,
    "spatial_size": 256, "bottleneck_factor": 2, "lr": "1e-3", "lr_decay_begin": 1000, "lr_decay_end": 50000,
    "log_freq": 250, "ckpt_freq": 5000, "test_freq": 100, "drop_prob": 0.1, "sigma": 1,
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- recipes


def test_a_recipe_of_the_original_is_recognised_and_ours_are_not():
    assert is_legacy_recipe(TRAINING_RECIPE)
    assert not is_legacy_recipe({"lr": {"start": 1e-3}, "init_batches": 4, "loop": {"batch_size": 4}})
    assert not is_legacy_recipe({})


def test_every_one_of_the_fifteen_keys_gets_a_line():
    _, lines = translate_recipe(TRAINING_RECIPE)
    assert len(LEGACY_KEYS) == 15
    assert [line.split(" -> ")[0] for line in lines[:15]] == list(TRAINING_RECIPE)
    assert "prepare --reader list --path 300W/train.txt --images 300W --frame 384" in lines[1]


def test_the_training_recipe_becomes_the_released_network_and_schedule():
    ours, _ = translate_recipe(TRAINING_RECIPE)
    assert from_dict(VUNetConfig, ours["vunet"]) == VUNetConfig()
    assert ours["lr"] == {"start": 1e-3, "end": 0.0, "flat_frac": 0.02}
    assert (ours["loop"]["steps"], ours["loop"]["batch_size"], ours["loop"]["checkpoint_every"]) == (50000, 4, 5000)
    assert "data" not in ours


def test_the_values_are_a_train_translator_configuration():
    train = pytest.importorskip("stylealign.jobs.train_translator.job")
    config = from_dict(train.TrainTranslator, {**translate_recipe(TRAINING_RECIPE)[0], "data": "faces"})
    assert config.structure.integer_centres
    assert config.loop.ema_decay == 0


@pytest.mark.parametrize("flag", [["--vgg19", "vgg.pth"], ["--vgg19=vgg.pth"], []])
def test_the_losses_are_the_released_ones_exactly_if_vgg_weights_are_given(tmp_path, flag, capsys):
    recipe = tmp_path / "exp_0001.yaml"
    recipe.write_text("exp_name: exp_0001\nlr_decay_end: 50000\nlog_freq: 250\n")
    config = parse("train-translator", [str(recipe), "--data", "faces", "--run", "r", *flag])
    released = (RECONSTRUCTION_PRESETS["released"], KL_PRESETS["released"])
    assert ((config.reconstruction, config.kl) == released) == bool(flag)
    assert (config.lr, config.vunet) == (LEARNING_RATE_PRESETS["released"], VUNetConfig())
    assert ("NOT as the original: without --vgg19" in capsys.readouterr().err) == (not flag)


def test_changed_values_are_passed_on_and_missing_ones_are_the_original_s():
    ours, lines = translate_recipe(
        {"exp_name": "mine", "spatial_size": 128, "sigma": 2, "lr_decay_begin": 100, "lr_decay_end": 400}
    )
    assert (ours["run"], ours["vunet"]["size"], ours["crop"]["size"], ours["structure"]["sigma"]) == (
        "runs/mine",
        128,
        128,
        2.0,
    )
    assert ours["lr"]["flat_frac"] == 0.25
    assert sum("not given" in line for line in lines) == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0}, r"test recipe.*stylealign generate"),
        ({"spacial_size": 256}, r"unknown key 'spacial_size'.*did you mean 'spatial_size'"),
        ({"batch_size": "four"}, r"batch_size: found 'four', expected a number"),
        ({"batch_size": 2.5}, r"expected a whole number"),
        ({"lr_decay_begin": 50000}, r"less than lr_decay_end"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        translate_recipe({**TRAINING_RECIPE, **change})


# ------------------------------------------------------------------------------------------------------------- mosaics


@pytest.mark.parametrize("swallowed", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("rows", [9, 10])
def test_labels_are_right_however_many_batches_were_swallowed_before_the_first_mosaic(
    tmp_path, swallowed, rows, capsys
):
    release = Release(tmp_path / "gen", rows=rows, swallowed=swallowed)
    gen_landmark.main(release.config())
    made = FaceDataset.open(tmp_path / "made")
    assert len(made) == 5 * 9
    release.check(made)
    assert ("the original's own count is right" in capsys.readouterr().err) == (swallowed % -(-rows // 3) == 1)


def test_the_last_batch_topped_up_with_the_first_rows_is_followed():
    assert batch_rows(3, 10, 3).tolist() == [9, 0, 1]
    assert batch_rows(4, 10, 3).tolist() == [0, 1, 2]
    assert batch_rows(2, 9, 3).tolist() == [6, 7, 8]


def test_our_rendering_of_the_original_s_maps_is_the_original_s(tmp_path):
    points = np.random.default_rng(0).uniform(2, FRAME - 2, (5, 2))
    config = GenLandmark(gen_dir=tmp_path, out_dir=tmp_path, frame=FRAME, tile=TILE)
    assert np.abs((rendered(points, config, FIVE) + 1) * 127.5 - original_map(points)[..., 0]).max() < 1


def test_a_tile_matches_its_own_line_only(tmp_path):
    release = Release(tmp_path / "gen", rows=20)
    for row in (0, 7, 19):
        assert matching_rows(original_map(release.labels[row]), release.labels, release.config(), FIVE) == [row]
    moved = release.labels[7] + [[1.5, 0], [0, 0], [0, 0], [0, 0], [0, 0]]  # one point, one pixel
    assert matching_rows(original_map(moved), release.labels, release.config(), FIVE) == []


def test_lines_that_render_alike_are_told_apart_by_the_order_of_the_list(tmp_path):
    release = Release(tmp_path / "gen", rows=9)
    lines = (tmp_path / "gen" / "labels.txt").read_text().splitlines()
    lines[3] = lines[0].replace("person 0", "twin")  # mosaics show rows 3..5 first; row 3 is now drawn as row 0 is
    (tmp_path / "gen" / "labels.txt").write_text("\n".join(lines) + "\n")
    mosaic = read_image(tmp_path / "gen" / "transfer_0010001.png")
    mosaic[:TILE, TILE : 2 * TILE] = original_map(release.labels[0])
    write_image(tmp_path / "gen" / "transfer_0010001.png", mosaic)
    gen_landmark.main(release.config(num_grids=1))
    assert {f.provenance.content_id for f in FaceDataset.open(tmp_path / "made")} == {"twin", "person 4", "person 5"}


def test_a_mosaic_that_shows_no_line_of_the_list_is_refused_and_nothing_is_left(tmp_path):
    release = Release(tmp_path / "gen")
    path = tmp_path / "gen" / "transfer_0010003.png"
    mosaic = read_image(path)
    mosaic[:TILE, TILE : 2 * TILE] = original_map(release.labels[0] + 3)
    write_image(path, mosaic)
    with pytest.raises(UserError, match=r"transfer_0010003.png: its structures are not those of any batch of 3 lines"):
        gen_landmark.main(release.config())
    assert not list(tmp_path.glob("made*"))
    with pytest.raises(UserError, match=r"transfer_0010001.png: its structures are not"):
        gen_landmark.main(release.config(frame=128))


def test_a_missing_mosaic_does_not_shift_the_labels(tmp_path):
    release = Release(tmp_path / "gen")
    (tmp_path / "gen" / "transfer_0010002.png").unlink()
    gen_landmark.main(release.config())
    made = FaceDataset.open(tmp_path / "made")
    assert len(made) == 4 * 9
    release.check(made)
    with pytest.raises(UserError, match=r"transfer_0010002.png: no such mosaic"):
        gen_landmark.main(release.config(num_grids=3, out_dir=tmp_path / "other"))


def test_a_first_row_that_is_given_is_checked(tmp_path):
    release = Release(tmp_path / "gen")
    gen_landmark.main(release.config(first_label_row=3))
    with pytest.raises(
        UserError, match=r"first_label_row: found 6, but transfer_0010001.png shows the structures of line 3"
    ):
        gen_landmark.main(release.config(first_label_row=6, out_dir=tmp_path / "other"))
    with pytest.raises(UserError, match=r"expected a multiple of --batch_size 3"):
        gen_landmark.main(release.config(first_label_row=4, out_dir=tmp_path / "other"))


def test_upsampled_faces_have_their_labels_in_the_frame(tmp_path):
    release = Release(tmp_path / "gen")
    gen_landmark.main(release.config(upsample=True))
    made = FaceDataset.open(tmp_path / "made")
    assert read_image(made[0].image).shape == (FRAME, FRAME, 3)
    release.check(made, per_frame=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 4}, r"256 x 256 pixels, expected 320 x 320 \(\(--batch_size 4 \+ 1\) tiles of 64\)"),
        (
            {"checkpoint_iter": 50000},
            r"found 5 mosaics, none of a step after --checkpoint_iter 50000 \(theirs are 10001 to 10005\)",
        ),
        ({"label_file": None}, r"need --label_file"),
        ({"label_file": Path("none.txt")}, r"none.txt: no such"),
        ({"gen_dir": Path("nowhere")}, r"nowhere: no such folder"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        gen_landmark.main(Release(tmp_path / "gen").config(**change))


def test_what_nobody_placed_stays_missing_on_our_own_sheets_and_grey_tiles_are_no_faces(tmp_path, capsys):
    faces = make_faces(tmp_path / "data", 4)
    placed = [np.arange(5) != number for number in range(4)]  # each face lacks another landmark
    lacking = [
        dataclasses.replace(face, visible=there, point_trust=there.astype(np.float32))
        for face, there in zip(faces, placed, strict=True)
    ]
    data = write_dataset(tmp_path / "lacking", lacking, schema=FIVE, name="lacking", image_root=tmp_path)
    made = Generate(
        data=data.folder, translator=Path("none"), out=tmp_path / "made", sheets=1, sheet_size=4, styles_per_face=2
    )
    generate(made, PaintedTranslator())
    sheets = made.out / "sheets"
    side, sheet = json.loads((sheets / "sheet_00.json").read_text()), read_image(sheets / "sheet_00.png").copy()
    for x, y in (side["tiles_xy"][0][1], side["tiles_xy"][3][2]):  # as of pairs that cannot be bent
        sheet[y : y + side["tile"], x : x + side["tile"]] = GREY
    write_image(sheets / "sheet_00.png", sheet)
    gen_landmark.main(GenLandmark(gen_dir=sheets, out_dir=tmp_path / "cut"))
    assert "2 tiles of pairs that could not be drawn: left out" in capsys.readouterr().err
    cut, by_id = FaceDataset.open(tmp_path / "cut"), {face.id: face for face in lacking}
    assert len(cut) == 14
    for face in cut:
        assert (face.missing_points == by_id[face.provenance.content_id].missing_points).all()
        assert face.missing_points.sum() == 1
    del side["tiles_xy"]
    (sheets / "sheet_00.json").write_text(json.dumps(side))
    with pytest.raises(UserError, match=r"sheet_00.json: a style sheet's sidecar without tiles_xy"):
        gen_landmark.main(GenLandmark(gen_dir=sheets, out_dir=tmp_path / "again"))


def test_faces_cut_from_our_own_sheets_are_told_as_those_that_generate_wrote(tmp_path):
    """Of which face, how far trusted, what is hidden, of whose data: so that a held-out face is known as such."""
    made_before = [
        dataclasses.replace(
            face, trust=0.25, point_trust=np.array([1, 0.5, 1, 1, 0]), visible=np.array([1, 0, 1, 1, 1], bool),
            attributes={"pose": True, "blur": True},
            provenance=Provenance(content_id=f"real{i}", style_id=None, translator="stress blur 2", seed=0, mode="arm",
                                  crop_from_source=((2, 0, 3), (0, 2, 4))),
        )
        for i, face in enumerate(make_faces(tmp_path / "data", 4))
    ]  # fmt: skip
    how = {"verb": "stress", "inputs": {"data": {"content_hash": "beef"}}}
    data = write_dataset(
        tmp_path / "stressed", made_before, schema=FIVE, name="s", image_root=tmp_path, licence="ours", how=how
    )
    made = Generate(
        data=data.folder, translator=Path("none"), out=tmp_path / "made", sheets=2, sheet_size=4, styles_per_face=3
    )
    generate(made, PaintedTranslator())
    gen_landmark.main(GenLandmark(gen_dir=made.out / "sheets", out_dir=tmp_path / "cut"))
    cut, written = FaceDataset.open(tmp_path / "cut"), FaceDataset.open(made.out)
    assert sources_of(cut.meta) == sources_of(written.meta) == [data.content_hash, "beef"]
    assert cut.meta["licence"] == "ours"
    expected = {face.provenance.content_id: face for face in written}
    assert len(cut) == 32
    for face in cut:
        like = expected[face.provenance.content_id]
        assert face.provenance.style_id in data.ids()
        assert face == dataclasses.replace(
            like, id=face.id, image=face.image, landmarks=face.landmarks,
            provenance=dataclasses.replace(like.provenance, style_id=face.provenance.style_id),
        )  # fmt: skip
        np.testing.assert_allclose(face.landmarks, like.landmarks, atol=1e-4)
    side = json.loads((made.out / "sheets/sheet_01.json").read_text())
    side["inputs"]["data"]["content_hash"] = "another"
    (made.out / "sheets/sheet_01.json").write_text(json.dumps(side))
    with pytest.raises(UserError, match=r"sheet_01.json: its faces .* expected the sheets of one data set"):
        gen_landmark.main(GenLandmark(gen_dir=made.out / "sheets", out_dir=tmp_path / "again"))


def test_our_own_sheets_are_cut_by_their_sidecar(tmp_path):
    faces = make_faces(tmp_path / "data", 9)
    generate(
        Generate(
            data=faces.folder, translator=Path("none"), out=tmp_path / "made", sheets=2, sheet_size=4, styles_per_face=2
        ),
        PaintedTranslator(),
    )
    gen_landmark.main(GenLandmark(gen_dir=tmp_path / "made" / "sheets", out_dir=tmp_path / "cut"))
    cut = FaceDataset.open(tmp_path / "cut")
    assert len(cut) == 2 * 16
    by_id = {f.id: f for f in faces}
    translator = PaintedTranslator()
    for face in cut:
        shown = torch.from_numpy(read_image(face.image).copy()).permute(2, 0, 1) / 127.5 - 1
        style = (
            torch.from_numpy(read_image(by_id[face.provenance.style_id].image)[:32, :32].copy()).permute(2, 0, 1)[None]
            / 127.5
            - 1
        )
        again = translator.decode(
            translator.encode_structure(torch.tensor(face.landmarks)[None]), translator.encode_style(style)
        )[0]
        assert (shown - again.clamp(-1, 1)).abs().max() < 2 / 127.5
