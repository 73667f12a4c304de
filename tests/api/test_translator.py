"""Translators in a user's hands: the API, the verb `translate`, and the augmentation inside a DataLoader."""

import dataclasses
import doctest
import io
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import stylealign
from builders.dot_network import DotNetwork, find_dots
from builders.dots import COLOURS, PLACES, dots, paint
from builders.places import ROOT
from builders.tiny import detector_job, drawn
from stylealign.api import augmentation, translator
from stylealign.api.augmentation import StyleAugmentation
from stylealign.api.detector import Detector
from stylealign.api.translator import StyleTranslator
from stylealign.batches.batch import to_float
from stylealign.batches.structure_maps import StructureConfig
from stylealign.cli import main
from stylealign.data import atomic
from stylealign.data.dataset import FaceDataset
from stylealign.data.image import read_image, warp, write_image
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.crop import CropConfig
from stylealign.face.orientation import upright_affine, view_of
from stylealign.face.schema import FIVE, SCHEMAS, LandmarkSchema
from stylealign.jobs import translate as translate_job
from stylealign.jobs.train_detector.job import main as train_detector
from stylealign.jobs.translate import Translate, run_translate
from stylealign.styling.arms import names_of_looks
from stylealign.toyfaces import draw_face, random_structure, random_style
from stylealign.training.weights import save_model
from stylealign.translators import build_translator
from stylealign.translators.bilateral.network import BilateralConfig
from stylealign.translators.codes import CodeConfig
from stylealign.translators.spade.network import SpadeConfig
from stylealign.translators.vunet.config import PRESETS as VUNET_PRESETS

NIGHT, DAY = np.array([10, 15, 60]), np.array([110, 90, 40])
PAGE = ROOT / "docs" / "api.md"
CODES = CodeConfig(width=4, max_width=8, global_size=8, region_size=4)


def face(ground: np.ndarray, x: float = 50, y: float = 45) -> tuple[np.ndarray, np.ndarray]:
    """A picture of dots, 110 wide and 90 high, and its landmarks."""
    landmarks = PLACES + np.array([x, y])
    return paint(landmarks, 110, 90, ground), landmarks


def untrained(folder: Path, name: str, schema: LandmarkSchema) -> None:
    """Write a translator of 32 px with random weights: it draws nonsense, but from what it is given."""
    structure, crop = StructureConfig(), CropConfig(size=32, scale=1.6)
    config: Any = {
        "vunet": VUNET_PRESETS["tiny32"],
        "spade": SpadeConfig(codes=CODES, width=4, max_width=8),
        "bilateral": BilateralConfig(codes=CODES, grid=8, width=4, max_width=8),
    }[name]
    torch.manual_seed(1)
    model: Any = build_translator(name, config, 32, structure, schema)
    with torch.no_grad():  # some layers begin at 0 and would not listen to the style
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    card = {
        "kind": "translator", "model": name, "schema": schema.to_dict(), "crop": crop,
        "config": {name: model.config, "structure": structure},
    }  # fmt: skip
    save_model(folder, model.state_dict(), card)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders of a translator of each kind."""
    made = {name: tmp_path_factory.mktemp(name) for name in ("vunet", "spade", "bilateral")}
    for name, folder in made.items():
        untrained(folder, name, FIVE)
    return made


# --------------------------------------------------------------------------------------------------------------------
# The API


@pytest.mark.parametrize("name", ["vunet", "spade", "bilateral", *names_of_looks()])
def test_any_translator_answers_a_crop_that_follows_the_style_and_the_slider(name: str, runs: dict[str, Path]) -> None:
    translator = StyleTranslator.load(runs.get(name, name))
    (image, points), (other, other_points) = face(NIGHT), face(DAY, 60)
    made = [translator.translate(image, points, other, other_points, strength=s, size=48) for s in (0, 0.5, 1)]
    assert all(m.crop.shape == m.content.shape == m.style.shape == (48, 48, 3) for m in made)
    assert np.allclose(made[2].landmarks, geometry.apply(made[2].crop_from_source, points))
    apart = [np.abs(made[i].crop.astype(float) - made[j].crop).mean() for i, j in ((0, 2), (0, 1), (1, 2))]
    assert apart[0] > 0
    assert max(apart[1:]) <= apart[0] + 0.5  # half way lies between
    again = translator.translate(image, points, other, other_points, size=48)
    assert np.array_equal(again.crop, made[2].crop)
    assert again.style_found == "given"


@pytest.mark.parametrize("name", ["vunet", "spade", "bilateral"])
def test_at_its_own_size_it_is_what_the_translator_makes_of_the_crops(name: str, runs: dict[str, Path]) -> None:
    translator = StyleTranslator.load(runs[name])
    (image, points), (other, other_points) = face(NIGHT), face(DAY, 60)
    crops, moved = [], []
    for picture, where in ((image, points), (other, other_points)):
        affine = geometry.crop_affine(geometry.landmark_box(where), 1.6, 32)
        crops.append(to_float(torch.from_numpy(warp(picture, affine, 32))[None]))
        moved.append(torch.from_numpy(geometry.apply(affine, where).astype(np.float32))[None])
    assert not isinstance(translator.model, str)
    expected = translator.model.translate(crops[0], moved[0], crops[1], moved[1])[0].permute(1, 2, 0)
    expected = (expected.clamp(-1, 1) + 1) * 127.5
    made = translator.translate(image, points, other, other_points)
    assert np.abs(made.crop - expected.numpy()).max() <= 0.51


def test_a_photograph_s_translator_at_another_size_is_the_same_look(runs: dict[str, Path]) -> None:
    """On a picture without detail its colours are the same at any size."""
    translator = StyleTranslator.load(runs["bilateral"])
    image, points = np.full((90, 110, 3), 80, np.uint8), PLACES + 50
    small, large = (translator.translate(image, points, *face(DAY), size=s).crop.astype(float) for s in (32, 128))
    assert np.abs(small.mean(axis=(0, 1)) - large.mean(axis=(0, 1))).max() < 3


def test_a_free_style_of_strength_0_is_the_photograph_and_of_itself_too() -> None:
    translator = StyleTranslator.load("histogram")
    (image, points), other = face(NIGHT), face(DAY)
    made = translator.translate(image, points, *other, strength=0, paste=True)
    assert np.array_equal(made.crop, made.content)
    assert made.picture is not None
    assert np.abs(made.picture.astype(int) - image).max() <= 40  # bilinear, there and back, of dots 2 px wide
    assert np.abs(made.picture.astype(int) - image).mean() < 0.5
    full = translator.translate(image, points, *other)
    assert np.abs(np.median(full.crop, axis=(0, 1)) - DAY).max() <= 2  # the ground becomes the other's ground


def test_a_hat_at_the_edge_of_what_is_pasted_does_not_burn_the_face_out() -> None:
    """By gradients alone the step from a black hat to a bright forehead would be added to the whole face."""
    rng = np.random.default_rng(0)
    image = rng.integers(110, 130, (120, 200, 3)).astype(np.uint8)
    points = PLACES * 1.5 + [100, 60]
    hat = image.copy()
    hat[: int(points[:, 1].min()) - 4] = 0
    plain, made = (
        StyleTranslator.load("warp").translate(image, points, other, points, paste=True).picture
        for other in (image, hat)
    )
    assert plain is not None
    assert made is not None
    face = np.s_[55:77, 93:107]
    assert (made[face].astype(float) - plain[face]).mean() < 6


def test_a_pasted_face_changes_the_face_and_nothing_far_from_it_and_has_no_seam() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(80, 120, (120, 200, 3)).astype(np.uint8)
    points = PLACES * 1.5 + [100, 60]
    bright = (rng.integers(80, 120, (120, 200, 3)) + 110).astype(
        np.uint8
    )  # another light: its face is laid in all the same
    before = image.copy()
    made = StyleTranslator.load("warp").translate(image, points, bright, PLACES * 1.5 + [90, 62], paste=True)
    assert made.picture is not None
    assert np.array_equal(image, before)
    changed = (made.picture != image).any(axis=2)
    assert changed[55:75, 92:108].mean() > 0.9
    assert not changed[:, :60].any()
    assert not changed[:, 140:].any()
    assert not changed[112:].any()
    light = made.picture.astype(float)
    assert abs(light[changed].mean() - image.mean()) < 12, "the face takes on the light of the photograph round it"


def test_a_photograph_in_another_look_is_so_to_its_edges_and_keeps_its_detail() -> None:
    rng = np.random.default_rng(0)
    image = np.clip(rng.normal(0, 12, (120, 200, 3)) + NIGHT, 0, 255).astype(np.uint8)
    made = StyleTranslator.load("adain").translate(image, PLACES + np.array([100, 60]), *face(DAY), paste=True)
    assert made.picture is not None
    parts = [made.picture[rows, columns].mean(axis=(0, 1)) for rows, columns in (
        (slice(0, 10), slice(0, 200)), (slice(110, 120), slice(0, 200)), (slice(40, 80), slice(0, 20)),
        (slice(50, 70), slice(90, 110)))]  # fmt: skip
    assert np.ptp(parts, axis=0).max() < 12, "no part is left in the old colours"
    fine = [np.abs(np.diff(picture.astype(float), axis=1)).mean() for picture in (made.picture, image)]
    assert 0.5 < fine[0] / fine[1] < 2


def test_a_picture_stored_on_its_side_gives_the_face_upright_and_its_pixels_as_stored(tmp_path: Path) -> None:
    image, points = face(NIGHT)
    stored = np.ascontiguousarray(np.rot90(image))  # turned left; orientation 6 says: turn right to look at it
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / "side.png", exif=exif)
    where = np.stack([points[:, 1], image.shape[1] - 1 - points[:, 0]], axis=1)
    translator = StyleTranslator.load("histogram")
    turned = translator.translate(tmp_path / "side.png", where, *face(DAY), paste=True)
    upright = translator.translate(image, points, *face(DAY), paste=True)
    assert np.abs(turned.crop.astype(int) - upright.crop).max() <= 2
    assert turned.picture is not None
    assert upright.picture is not None
    assert np.abs(np.rot90(turned.picture, -1).astype(int) - upright.picture).max() <= 2


def test_without_landmarks_the_detector_finds_them_and_without_one_the_style_is_cut_by_a_box(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(translator, "MtcnnFinder", lambda: find_dots)
    (image, points), (other, other_points) = face(NIGHT), face(DAY, 60)
    detector = Detector(DotNetwork(scale=2.2), find_dots)
    with_detector = StyleTranslator.load("adain", detector=detector)
    found = with_detector.translate(image, None, other)
    given = with_detector.translate(image, points, other, other_points)
    assert found.style_found == "detector"
    assert np.abs(geometry.apply(geometry.invert(found.crop_from_source), found.landmarks) - points).max() < 0.3
    assert np.abs(found.crop.astype(int) - given.crop).mean() < 2
    with pytest.raises(UserError, match="the content picture: no face found"):
        with_detector.translate(np.full_like(image, 90), None, other)
    alone = StyleTranslator.load("adain")
    assert alone.translate(image, points, other).style_found == "finder"
    assert alone.translate(image, points, np.full_like(image, 90)).style_found == "middle"
    with pytest.raises(ValueError, match="no detector to find them"):
        alone.translate(image, None, other)


def test_a_file_is_read_once_whatever_is_looked_for_in_it(tmp_path: Path) -> None:
    (image, points), (other, _) = face(NIGHT), face(DAY, 60)
    paths = tmp_path / "a.png", tmp_path / "b.png"
    for path, picture in zip(paths, (image, other), strict=True):
        write_image(path, picture)
    with_detector = StyleTranslator.load("adain", detector=Detector(DotNetwork(scale=2.2), find_dots))
    expected = with_detector.translate(image, None, other)
    for landmarks in (None, points):
        for opened in (lambda path: path.open("rb"), lambda path: io.BytesIO(path.read_bytes())):
            made = with_detector.translate(opened(paths[0]), landmarks, opened(paths[1]))
            assert made.style_found == "detector"
            assert np.abs(made.crop.astype(int) - expected.crop).mean() < 2
    bgr = with_detector.translate(image[..., ::-1], None, other[..., ::-1], channels="bgr")
    assert np.array_equal(bgr.crop, expected.crop)


def test_what_cannot_be_translated_is_said(runs: dict[str, Path], tmp_path: Path) -> None:
    translator, (image, points) = StyleTranslator.load(runs["spade"]), face(NIGHT)
    for change, sentence in (
        ({"strength": 1.5}, "strength is 1.5"),
        ({"landmarks": points[:3]}, r"shape \(3, 2\), expected \(5, 2\) of five"),
        ({"landmarks": points * np.nan}, "not a finite number"),
        ({"content": image.astype(float)}, "float64 with values from"),
        ({"size": 3}, "size is 3"),
    ):
        with pytest.raises(ValueError, match=sentence):
            translator.translate(
                **{"content": image, "landmarks": points, "style": image, "style_landmarks": points, **change}
            )  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"gone\.jpg: no such image"):
        translator.translate(tmp_path / "gone.jpg", points, image)
    with pytest.raises(UserError, match="no such run"):
        StyleTranslator.load(tmp_path / "none")
    with pytest.raises(ValueError, match="no free style is called"):
        StyleTranslator("shadow")
    detector = Detector(DotNetwork(), find_dots)
    detector.network.schema = dataclasses.replace(FIVE, name="other")  # type: ignore[misc]
    with pytest.raises(UserError, match="finds landmarks of other, the translator was trained with five"):
        StyleTranslator.load(runs["spade"], detector=detector)


def test_the_shipped_translator_is_found_or_missed_with_a_sentence(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translator, "TRANSLATOR", tmp_path / "translator")
    with pytest.raises(UserError, match="no translator came with this copy of stylealign: name one with --translator"):
        StyleTranslator.load()
    shutil.copytree(runs["bilateral"], tmp_path / "translator")
    assert StyleTranslator.load().schema == FIVE
    assert StyleAugmentation([tmp_path / "a.png"], "shipped", schema=FIVE).run == tmp_path / "translator"


def test_the_public_names_are_these() -> None:
    assert stylealign.StyleTranslator is StyleTranslator
    assert stylealign.StyleAugmentation is StyleAugmentation


def test_the_examples_are_true(tmp_path: Path) -> None:
    dots(tmp_path / "donors", 4)
    (photo, landmarks), (other, other_landmarks) = face(NIGHT), face(DAY)
    names = {
        "photo": photo,
        "landmarks": landmarks,
        "other": other,
        "other_landmarks": other_landmarks,
        "donors": tmp_path / "donors",
    }
    for module in (translator, augmentation):
        tests = doctest.DocTestFinder().find(module, globs=names)
        results = [doctest.DocTestRunner().run(each) for each in tests]
        assert sum(r.attempted for r in results) >= 5
        assert sum(r.failed for r in results) == 0


def test_the_blocks_of_the_page_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STYLEALIGN_CACHE", str(tmp_path / "cache"))
    drawn(Path("faces"), 12)
    train_detector(detector_job(Path("runs/detector"), Path("faces")))
    (tmp_path / "runs" / "translator").mkdir()
    untrained(tmp_path / "runs" / "translator", "bilateral", SCHEMAS["wflw98"])
    for seed, name in enumerate("ab"):
        structure, style = random_structure(np.random.default_rng(seed)), random_style(np.random.default_rng(seed + 9))
        write_image(tmp_path / f"{name}.jpg", draw_face(structure, style, 128)[0])
    capsys.readouterr()
    names: dict[str, Any] = {"__name__": "__main__"}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 7
    for block in blocks:
        exec(compile(block, "api.md", "exec"), names)
    said = capsys.readouterr().out.splitlines()
    assert {"(32, 32, 3) (98, 2)", "(128, 128, 3)", "torch.Size([4, 3, 128, 128]) torch.Size([4, 98, 2])"} <= set(said)
    assert said[-1] == "12 wflw98 face000000 (98, 2)"
    assert len(stylealign.FaceDataset.open("few")) == 4
    for public in re.findall(r"`([A-Za-z_]+)`", PAGE.read_text(encoding="utf-8").split("UserError")[0]):
        assert getattr(stylealign, public)


# --------------------------------------------------------------------------------------------------------------------
# The verb


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """a.png, b.png and c.png with a face, empty.png without one, text.jpg; we are where they are."""
    for name, ground, x in (("a", NIGHT, 50), ("b", DAY, 60), ("c", np.array([120, 20, 20]), 55)):
        write_image(tmp_path / f"{name}.png", face(ground, x)[0])
    write_image(tmp_path / "empty.png", np.full((60, 60, 3), 50, np.uint8))
    (tmp_path / "text.jpg").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def translate(*inputs: str, translator: str | Path = "histogram", **options: Any) -> int:
    config = Translate(inputs=inputs, out=Path(options.pop("out", "out.png")), translator=str(translator), **options)
    return run_translate(config, Detector(DotNetwork(scale=2.2), find_dots), StyleTranslator.load(translator))


def test_one_style_gives_the_faces_side_by_side_and_pasted_the_photographs(photos: Path) -> None:
    assert translate("a.png", "b.png", size=64, only_after=True) == 0
    crop = read_image(photos / "out.png")
    assert crop.shape == (64, 64, 3)
    assert np.abs(np.median(crop, axis=(0, 1)) - DAY).max() <= 3
    assert translate("a.png", "b.png", size=64, out="beside.png") == 0
    beside = read_image(photos / "beside.png")
    assert beside.shape[1] > 3 * 64
    for ground, x in ((NIGHT, 20), (DAY, 100), (DAY, beside.shape[1] - 40)):  # the face, the style, the face in it
        assert np.abs(np.median(beside[:, x : x + 30], axis=(0, 1)) - ground).max() <= 4
    assert translate("a.png", "b.png", out="sub/pasted.png", paste=True) == 0
    both = read_image(photos / "sub" / "pasted.png")
    assert both.shape == (90, 220, 3)
    assert np.array_equal(both[:, :110], read_image(photos / "a.png"))
    assert translate("a.png", "b.png", out="sub/alone.png", paste=True, only_after=True) == 0
    assert np.array_equal(read_image(photos / "sub" / "alone.png"), both[:, 110:])


def test_what_is_kept_is_said_and_faces_that_cannot_be_bent_too(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert translate("a.png", "b.png", translator="warp", keep="structure", size=64, only_after=True) == 0
    assert "b.png in the structure of a.png -> out.png" in capsys.readouterr().err
    made = read_image(photos / "out.png")
    assert np.abs(np.median(made, axis=(0, 1)) - DAY).max() <= 3
    for name, keep, sentence in (
        (
            "histogram",
            "structure",
            "histogram: keeps the photo of the first picture, but --keep asks for the structure",
        ),
        ("warp", "photo", "warp: keeps the structure of the first picture"),
    ):
        with pytest.raises(UserError, match=sentence):
            translate("a.png", "b.png", translator=name, keep=keep, out="no.png")
    bent = StyleTranslator.load("warp")
    (image, points), (other, theirs) = face(NIGHT), face(DAY)
    crossed = theirs[[1, 0, 2, 3, 4]]
    with pytest.raises(UserError, match="cannot be bent into each other: the picture would fold over itself"):
        bent.translate(image, points, other, crossed)
    with pytest.raises(UserError, match="bends the style's photograph by its landmarks"):
        bent.translate(image, points, np.full_like(other, 90), None)
    assert not (photos / "no.png").exists()


def test_a_face_that_is_drawn_out_is_shown_and_doubted(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Between what `generate` takes and what nobody would look at: the photograph is bent, and the doubt is said."""
    bent = StyleTranslator.load("warp")
    (image, points), (other, theirs) = face(NIGHT), face(DAY)
    assert bent.translate(image, points, other, theirs).doubt == ""
    theirs[[0, 3]] += 0.72 * (theirs[2] - theirs[[0, 3]])  # a head turned aside: one half of the face is narrow
    drawn_out = r"\d+% of the face is enlarged over 4 times, as of heads that are turned differently"
    assert re.fullmatch(drawn_out, bent.translate(image, points, paint(theirs, 110, 90, DAY), theirs).doubt)
    write_image(photos / "d.png", paint(theirs, 110, 90, DAY))
    assert translate("a.png", "d.png", translator="warp") == 0
    assert re.search(rf"d.png in the structure of a.png: look closely: {drawn_out}\n", capsys.readouterr().err)
    assert translate("a.png", "d.png", "d.png", "b.png", out="row.png", translator="warp") == 0
    assert re.search(rf"{drawn_out} \(and 1 more pair like it\)\n", capsys.readouterr().err)
    assert translate("a.png", "b.png", out="fine.png", translator="warp") == 0
    assert "look closely" not in capsys.readouterr().err


def test_a_head_turned_to_the_other_side_is_mirrored_and_then_bent(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bent, (_, points) = StyleTranslator.load("warp"), face(NIGHT)
    left, right = points.copy(), points.copy()
    left[[0, 3]] += 0.8 * (points[2] - points[[0, 3]])  # that half of the face is narrow
    right[[1, 4]] += 0.8 * (points[2] - points[[1, 4]])
    seen, other = paint(left, 110, 90, NIGHT), paint(right, 110, 90, DAY)
    same = bent.translate(seen, left, paint(left, 110, 90, DAY), left, size=128)
    made = bent.translate(seen, left, other, right, size=128)
    assert (same.mirrored, same.doubt) == (False, "")
    assert (made.mirrored, made.doubt) == (True, "")
    x, y = made.landmarks.round().astype(int).T
    apart = np.linalg.norm(made.crop[y, x][:, None].astype(float) - COLOURS, axis=2)
    assert apart.argmin(axis=1).tolist() == [1, 0, 2, 4, 3], (
        "on each landmark what the style's picture shows of its twin"
    )
    assert np.array_equal(made.style, bent.translate(other, right, other, right, size=128).content), "as it was given"
    write_image(photos / "left.png", seen)
    write_image(photos / "right.png", other)
    assert translate("left.png", "right.png", translator="warp") == 0
    assert "right.png is mirrored, which fits left.png better\n" in capsys.readouterr().err


def test_several_styles_give_a_row_and_a_sheet_every_pair(photos: Path) -> None:
    assert translate("a.png", "b.png", "c.png", size=32) == 0
    row = read_image(photos / "out.png")
    assert translate("a.png", "b.png", "c.png", size=32, sheet=True, out="sheet.png") == 0
    sheet = read_image(photos / "sheet.png")
    assert row.shape[0] < 100 < row.shape[1] < 130  # a header and one face; three tiles of 32
    assert 140 < sheet.shape[0] == sheet.shape[1] < 180  # a header and three faces, each in three styles


def test_what_has_no_face_is_left_out_and_nothing_half_written_stays(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(photos.iterdir())
    for inputs, sentence in (
        (("empty.png", "b.png"), "empty.png: no face found"),
        (("a.png", "empty.png"), "empty.png: no face found"),
        (("text.jpg", "b.png"), "text.jpg: not an image that can be read"),
        (("gone.png", "b.png"), "gone.png: no such image"),
    ):
        with pytest.raises(UserError, match=sentence):
            translate(*inputs)
    assert sorted(photos.iterdir()) == before
    assert translate("a.png", "text.jpg", "b.png", "empty.png") == 3
    said = capsys.readouterr().err
    assert "left out: text.jpg: not an image" in said
    assert "left out: empty.png: no face found" in said
    with pytest.raises(UserError, match=r"out.png: already there"):
        translate("a.png", "b.png")
    assert sorted(p.name for p in photos.iterdir() if p not in before) == ["out.png"]


def test_a_disk_that_refuses_leaves_no_partial_picture(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "out.png")

    monkeypatch.setattr(atomic.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        translate("a.png", "b.png")
    assert not list(photos.glob("out*"))


def test_other_mark_ups_and_wrong_flags_are_said(
    photos: Path, runs: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = Detector(DotNetwork(), find_dots)
    detector.network.schema = dataclasses.replace(FIVE, name="other")  # type: ignore[misc]
    config = Translate(inputs=("a.png", "b.png"), out=Path("out.png"), translator="mine")
    with pytest.raises(UserError, match="mine: a translator of five faces, but the detector finds other"):
        run_translate(config, detector, StyleTranslator.load(runs["spade"]))
    for words, sentence in (
        ("a.png", "expected a face and at least one style"),
        ("a.png b.png --out out.xyz", "expected a picture's name"),
        ("a.png b.png --out out.psd", "expected a picture's name such as translated.png (.jpg, "),
        ("a.png b.png c.png --paste", "--paste writes one photograph"),
        ("a.png b.png --strength 2", "expected 0 to 1"),
        ("a.png b.png --translator nowhere", "nowhere: no such run"),
        ("a.png b.png --out a.png", "a.png: already there"),
    ):
        assert main(["translate", *words.split()]) == 2, words
        assert sentence in capsys.readouterr().err
    monkeypatch.setattr(translate_job, "open_network", lambda *_: DotNetwork(scale=2.2))
    assert main(["translate", "a.png", "b.png", "--whole-image", "--translator", "histogram", "--size", "32",
                 "--only-after"]) == 0  # fmt: skip
    assert read_image(photos / "translated.png").shape == (32, 32, 3)


# --------------------------------------------------------------------------------------------------------------------
# The augmentation


class Faces(torch.utils.data.Dataset):
    """Somebody else's data set: always the same face, so that what differs is the donor."""

    def __init__(self, restyle: StyleAugmentation, seeded: bool):
        self.restyle, self.seeded = restyle, seeded

    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> torch.Tensor:
        image, landmarks = face(NIGHT)
        planes = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        return self.restyle(planes, landmarks, seed=(0, i) if self.seeded else None)


@pytest.fixture(scope="module")
def donors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("donors") / "dots"
    dots(folder, 40, splits=("train",))
    return folder


def epoch(restyle: StyleAugmentation, workers: int, seeded: bool, context: str | None = "fork") -> torch.Tensor:
    loader = torch.utils.data.DataLoader(
        Faces(restyle, seeded), batch_size=2, num_workers=workers, multiprocessing_context=context if workers else None
    )
    return torch.cat(list(loader))


def test_workers_give_what_one_process_gives_with_seeds_and_different_donors_without(donors: Path) -> None:
    restyle = StyleAugmentation(donors, "adain", strength=(1, 1))
    alone = epoch(restyle, 0, seeded=True)
    assert torch.equal(epoch(restyle, 2, seeded=True), alone)
    assert len(torch.unique(alone.flatten(1), dim=0)) >= 5  # 8 draws of 40 donors
    torch.manual_seed(3)
    first = epoch(restyle, 2, seeded=False)
    second = epoch(restyle, 2, seeded=False)
    torch.manual_seed(3)
    assert torch.equal(epoch(restyle, 2, seeded=False), first)
    assert not torch.equal(second, first)  # the next epoch has other donors
    assert not torch.equal(first[:2], first[2:4])  # the first batch is one worker's, the second the other's
    assert len(torch.unique(first.flatten(1), dim=0)) >= 5


@pytest.mark.slow
def test_spawned_workers_give_the_same(donors: Path, runs: dict[str, Path]) -> None:
    for style in ("mixture", runs["bilateral"]):
        restyle = StyleAugmentation(donors, style)
        assert torch.equal(epoch(restyle, 2, seeded=True, context="spawn"), epoch(restyle, 0, seeded=True))


@pytest.mark.parametrize(
    "style", ["none", "free", "free_jitter", "mixture", "warp_mixture", "adain", "spade", "bilateral"]
)
def test_every_style_keeps_kind_and_shape_and_survives_pickling(
    style: str, donors: Path, runs: dict[str, Path]
) -> None:
    restyle = StyleAugmentation(donors, runs.get(style, style))
    image, landmarks = face(NIGHT)
    made = restyle(image, landmarks, seed=5)
    assert made.shape == image.shape
    assert made.dtype == np.uint8
    assert np.array_equal(made, image) == (style == "none")
    assert np.array_equal(pickle.loads(pickle.dumps(restyle))(image, landmarks, seed=5), made)
    planes = torch.from_numpy(image).permute(2, 0, 1)
    assert torch.equal(restyle(planes, torch.from_numpy(landmarks), seed=5), torch.from_numpy(made).permute(2, 0, 1))
    floats = restyle(planes.float() / 255, landmarks, seed=5)
    assert torch.allclose(floats, torch.from_numpy(made).permute(2, 0, 1).float() / 255)


def test_the_donor_s_colours_arrive_whatever_the_picture_s_shape(tmp_path: Path) -> None:
    write_image(tmp_path / "red.png", np.full((50, 50, 3), (200, 30, 30), np.uint8))
    restyle = StyleAugmentation([tmp_path / "red.png"], "histogram", strength=(1, 1))
    for shape in ((40, 70), (71, 40), (33, 33)):
        image = np.random.default_rng(1).integers(0, 255, (*shape, 3)).astype(np.uint8)
        made = restyle(image, np.array([[10.0, 10], [25, 12], [20, 28]]))
        assert np.abs(made.reshape(-1, 3).mean(axis=0) - (200, 30, 30)).max() < 2
        assert restyle(image, np.full((3, 2), np.nan)).shape == image.shape


def test_a_donor_that_is_bent_is_the_nearest_in_shape_of_those_that_are_trusted(donors: Path) -> None:
    faces = list(FaceDataset.open(donors))[:3]
    content = np.asarray(faces[1].landmarks) * 2 + 5  # its own shape, elsewhere and larger
    rng = np.random.default_rng(0)
    assert StyleAugmentation(faces, "warp", schema=FIVE)._donor(content, rng).id == faces[1].id
    doubted = [faces[0], dataclasses.replace(faces[1], trust=0.3), faces[2]]
    found = {StyleAugmentation(doubted, "warp", schema=FIVE)._donor(content, rng).id for _ in range(9)}
    assert found <= {faces[0].id, faces[2].id}
    nobody = [dataclasses.replace(face, trust=0.3) for face in faces]
    assert StyleAugmentation(nobody, "warp", schema=FIVE)._donor(content, rng).landmarks is None
    lacking = np.array([1, 1, 1, 1, 0], np.float32)  # a corner of the mouth
    some = [faces[0], dataclasses.replace(faces[1], point_trust=lacking), faces[2]]
    augmentation = StyleAugmentation(some, "warp", schema=FIVE)
    assert {augmentation._donor(content, rng).id for _ in range(9)} <= {faces[0].id, faces[2].id}
    content[4] = np.nan  # nor has the face one
    assert augmentation._donor(content, rng).id == faces[1].id


def test_a_donor_that_was_stored_mirrored_is_as_near_in_shape(donors: Path, tmp_path: Path) -> None:
    faces = list(FaceDataset.open(donors))[:3]
    own = np.asarray(faces[1].landmarks)
    pixels = read_image(faces[1].image)
    stored_from_shown = geometry.invert(upright_affine(2, pixels.shape[1], pixels.shape[0]))
    write_image(tmp_path / "mirrored.png", view_of(pixels, stored_from_shown))
    stored = dataclasses.replace(
        faces[1], image=tmp_path / "mirrored.png", landmarks=geometry.apply(stored_from_shown, own), orientation=2
    )
    augmentation = StyleAugmentation([faces[0], stored, faces[2]], "warp", schema=FIVE)
    assert augmentation._donor(own * 2 + 5, np.random.default_rng(0)).id == stored.id


def test_the_numbers_of_a_donor_s_missing_landmark_change_nothing(donors: Path) -> None:
    donor, (image, points) = FaceDataset.open(donors)[1], face(NIGHT)
    there = np.arange(5) != 4
    made = []
    for number in (0, 20):
        landmarks = np.where(there[:, None], donor.landmarks, number)
        lacking = dataclasses.replace(donor, landmarks=landmarks, visible=there, point_trust=there.astype(np.float32))
        made.append(StyleAugmentation([lacking], "occlude_aligned", strength=(1, 1))(image, points, seed=1))
        bent = StyleAugmentation([lacking], "warp", schema=FIVE)(image, points, seed=1)
        assert np.array_equal(bent, image), "its mouth would lie anywhere: the face stays as it is"
    assert not np.array_equal(made[0], image)
    assert np.array_equal(made[0], made[1])


def test_a_share_of_the_images_is_left_alone(donors: Path) -> None:
    restyle = StyleAugmentation(donors, "adain", prob=0.5)
    image, landmarks = face(NIGHT)
    same = [np.array_equal(restyle(image, landmarks, seed=i), image) for i in range(40)]
    assert 8 <= sum(same) <= 32  # 20 expected; further than 3.8 standard deviations away is a fault


def test_wrong_styles_donors_and_images_are_said(donors: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    for arguments, sentence in (
        (([], "free"), "no donor"),
        ((donors, "nosuch"), "no style and no run folder is called 'nosuch'"),
        ((tmp_path / "none", "free"), "not a dataset folder"),
        (([tmp_path / "a.png"], runs["spade"]), "a translator has to know the mark-up"),
        (([tmp_path / "a.png"], "make_up"), "make_up has to know the mark-up"),
    ):
        with pytest.raises(UserError, match=sentence):
            StyleAugmentation(*arguments)
    with pytest.raises(UserError, match="none of the 1 donor has any; `stylealign pseudo-label` writes them"):
        StyleAugmentation([tmp_path / "a.png"], "warp", schema=FIVE)
    with pytest.raises(UserError, match="a translator of five faces"):
        StyleAugmentation(donors, runs["spade"], schema=stylealign.SCHEMAS["ibug68"])
    with pytest.raises(ValueError, match="expected a range in 0 to 1"):
        StyleAugmentation(donors, runs["spade"], strength=(0.5, 2))
    for one in (None, stylealign.FaceSample(id="a", image=tmp_path / "a.png")):
        with pytest.raises(ValueError, match=r"donors: found an object of type .*, expected a list"):
            StyleAugmentation(one)  # type: ignore[arg-type]
    restyle, (image, landmarks) = StyleAugmentation(donors), face(NIGHT)
    assert len(StyleAugmentation(path for path in [tmp_path / "a.png", tmp_path / "b.png"]).faces) == 2
    for wrong, sentence in (
        (image.astype(float), "undo a normalisation first"),
        (torch.zeros(90, 110, 5), r"found a tensor of shape \(90, 110, 5\)"),
    ):
        with pytest.raises(ValueError, match=sentence):
            restyle(wrong, landmarks)
    with pytest.raises(ValueError, match=r"shape \(4, 2\), expected \(5, 2\) of five"):
        restyle(image, landmarks[:4])
