"""The faults of the original release and of the field's common code: none of them is in
ours, and each test would notice.

Every test holds ONE oracle, `check(...)`. Our implementation passes it; the fault, put back in a few lines, must fail
the very same oracle (`goes_red`). docs/faults.md is the table of such faults,
docs/paper_map.md 2.8 the list of those in the original's own code.
"""

import argparse
import ast
import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from torch import nn

from builders.painted import SIZE, PaintedTranslator, job, make_faces
from builders.places import ROOT
from builders.release import FRAME, TILE, Release
from stylealign.batches.augment import AugmentConfig, augment
from stylealign.batches.batch import Batch
from stylealign.batches.crops import crop_sample
from stylealign.batches.source import epoch_order
from stylealign.batches.structure_maps import structure_maps
from stylealign.cli import parse
from stylealign.config import read_yaml
from stylealign.data import formats, image
from stylealign.data.dataset import FaceDataset
from stylealign.errors import UserError
from stylealign.evaluation import metrics
from stylealign.face import geometry
from stylealign.face.crop import CropConfig
from stylealign.face.curves import sample_curves
from stylealign.face.sample import FaceSample
from stylealign.face.schema import SCHEMAS, LandmarkSchema, convert, get_schema
from stylealign.jobs import VERBS, gen_landmark
from stylealign.jobs.generate.job import generate
from stylealign.training.loop import LoopConfig
from stylealign.training.optim import cosine
from stylealign.training.run import Run
from stylealign.translators.perceptual import VGG19Features
from stylealign.translators.schedule import LEARNING_RATE_PRESETS, learning_rate
from stylealign.translators.swapping import swap_matrix
from stylealign.translators.vunet.config import PRESETS
from stylealign.translators.vunet.layers import WeightNormConv2d, data_dependent_init
from stylealign.translators.vunet.network import VUNet, initialise

SOURCES = sorted((ROOT / "src").rglob("*.py"))
FIVE, IBUG, COFW, WFLW = (get_schema(name) for name in ("five", "ibug68", "cofw29", "wflw98"))


@contextmanager
def goes_red(*kinds: type[Exception]) -> Iterator[None]:
    """The oracle must notice the fault: by its assertion, or by the crash (`kinds`) that the fault really ended in."""
    with pytest.raises(kinds or AssertionError):
        yield


# ---- code that cannot run


def test_fault_the_published_generation_script_does_not_parse() -> None:
    """docs/faults.md F1 (`gen_annotation.py:35`); docs/paper_map.md 2.8, 1 and (for `async=`) 12."""

    def check(texts: list[str]) -> None:
        for text in texts:
            ast.parse(text)

    check([path.read_text(encoding="utf-8") for path in SOURCES])
    assert "gen-landmark" in VERBS  # the name the original's README calls it by
    with goes_red(SyntaxError):
        check(["labels = open(args.label_file, 'r)\n"])
    with goes_red(SyntaxError):
        check(["target = target.cuda(async=True)\n"])


def test_fault_literals_are_compared_and_undefined_names_used(tmp_path: Path) -> None:
    """docs/faults.md F6 (`trainer.py:35`, `sample()`); docs/paper_map.md 2.8, 1 (undefined variable) and 10 (the
    other VGG can never be chosen)."""
    if (
        shutil.which("ruff") is None
        and subprocess.run([sys.executable, "-m", "ruff", "--version"], capture_output=True, check=False).returncode
    ):
        pytest.skip("needs ruff (the `test` extra)")

    def check(folder: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--isolated",
            "--no-cache",
            "--select",
            "F821,F632,PLR0133",
            str(folder),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout

    check(ROOT / "src")
    for fault in (
        "def build():\n    return 16 if 'vgg_net' == 'vgg16' else 19\n",
        "def sample(self, x):\n    return self.gen_b(gen_a(x))\n",
    ):
        (tmp_path / "fault.py").write_text(fault)
        with goes_red():
            check(tmp_path)


def test_fault_integer_flags_are_read_as_text() -> None:
    """docs/paper_map.md 2.8, 2: flags without type=int crash when given on the command line."""

    def check(read) -> None:
        config = read(
            [
                "--label_file",
                "l.txt",
                "--checkpoint_iter",
                "50000",
                "--batch_size",
                "4",
                "--gen_dir",
                "g",
                "--out_dir",
                "o",
            ]
        )
        assert config.checkpoint_iter + 1 == 50001
        assert config.batch_size**2 == 16

    def original(arguments: list[str]) -> argparse.Namespace:
        parser = argparse.ArgumentParser()
        for name in ("label_file", "checkpoint_iter", "batch_size", "gen_dir", "out_dir"):
            parser.add_argument(f"--{name}", default=4)
        return parser.parse_args(arguments)

    check(lambda arguments: parse("gen-landmark", list(arguments)))
    with goes_red(TypeError):
        check(original)


def test_fault_running_again_under_the_same_name_fails(tmp_path: Path) -> None:
    """docs/paper_map.md 2.8, 6, first half: the directory must not exist."""

    def check(start, folder: Path) -> None:
        for _ in range(2):
            start(folder)

    check(lambda folder: Run.open(folder, LoopConfig()), tmp_path / "ours")
    with goes_red(FileExistsError):
        check(lambda folder: folder.mkdir(), tmp_path / "original")


def test_fault_yaml_is_loaded_without_saying_how(tmp_path: Path) -> None:
    """docs/paper_map.md 2.8, 6, second half: `yaml.load` without a loader ends on PyYAML 6 (and
    built any object before that)."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("lr: 0.001\nbatch_size: 4\n")

    def check(read) -> None:
        assert read(recipe) == {"lr": 0.001, "batch_size": 4}

    check(read_yaml)
    with goes_red(TypeError):
        check(lambda path: yaml.load(path.read_text()))
    recipe.write_text("!!python/object/apply:os.getcwd []\n")
    with pytest.raises(UserError, match="not valid YAML"):
        read_yaml(recipe)


# ---- mirrors and crops


def test_fault_a_lost_comma_makes_landmark_2321() -> None:
    """docs/faults.md F2 (`dataloader.py:18`); docs/paper_map.md 2.8, 7: 57 numbers, one of
    them 2321, and nobody objects."""
    table = [17, 26, 18, 25, 19, 24, 20, 23, 2321, 22]  # "23" and "21" run together
    flat = [*table[:8], *table[8:]]

    def check(build) -> None:
        for numbers in (flat, flat[:9], [17, 26, 26, 18]):  # out of range, odd, a point twice
            refused = False
            try:
                build(numbers)
            except (UserError, ValueError):
                refused = True
            assert refused, numbers

    def ours(numbers: list[int]) -> LandmarkSchema:
        pairs = tuple(tuple(numbers[i : i + 2]) for i in range(0, len(numbers), 2))
        return LandmarkSchema(name="mine", num_points=68, flip_pairs=pairs)  # type: ignore[arg-type]

    check(ours)
    with goes_red():
        check(lambda numbers: list(numbers))


MIRRORED = AugmentConfig(rotation=0, scale=0, shift=0, flip=True, colour=0)


def dotted_face(size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """A picture with a soft dot at each of five landmarks at odd places, and the landmarks."""
    points = np.array([[12.3, 14.6], [40.8, 17.2], [30.4, 31.9], [15.7, 45.1], [44.2, 47.6]])
    y, x = np.mgrid[:size, :size]
    dots = np.max([np.exp(-((x - px) ** 2 + (y - py) ** 2) / 4) for px, py in points], axis=0)
    return np.repeat((255 * dots).round().astype(np.uint8)[..., None], 3, axis=2), points


def dot_near(picture: np.ndarray, point: np.ndarray, radius: int = 4) -> np.ndarray:
    """Centre of mass of the brightness round a point."""
    x, y = np.round(point).astype(int)
    ys, xs = np.mgrid[y - radius : y + radius + 1, x - radius : x + radius + 1]
    weight = picture[ys, xs, 0].astype(float) ** 2
    return np.array([(weight * xs).sum(), (weight * ys).sum()]) / max(weight.sum(), 1e-9)


def check_mirror(mirror) -> None:
    """A mirrored picture has its dots where its landmarks are, and left is still left."""
    picture, points = dotted_face()
    flipped, moved = mirror(picture.copy(), points.copy())
    assert not np.array_equal(flipped, picture)
    for point in moved:
        assert np.abs(dot_near(flipped, point) - point).max() < 0.1
    assert moved[0, 0] < moved[1, 0]  # the eye on the left of the picture is landmark 0 there too
    assert moved[3, 0] < moved[4, 0]


def mirror_by_augment(picture: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The batched path of training."""
    batch = Batch(
        image=torch.tensor(picture).permute(2, 0, 1)[None] / 127.5 - 1,
        landmarks=torch.tensor(points, dtype=torch.float32)[None],
        visible=torch.ones(1, 5, dtype=torch.bool),
        crop_from_source=torch.eye(2, 3, dtype=torch.float64)[None],
        index=torch.zeros(1, dtype=torch.int64),
        weight=torch.ones(1),
    )
    for seed in range(50):  # half of the faces are mirrored: take one that is
        out = augment(batch, 64, MIRRORED, torch.Generator().manual_seed(seed), FIVE)
        if out.crop_from_source[0, 0, 0] < 0:
            return ((out.image[0] + 1) * 127.5).permute(1, 2, 0).numpy(), out.landmarks[0].double().numpy()
    raise AssertionError("no face was mirrored")


def mirror_by_geometry(picture: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    affine = geometry.flip_affine(64)
    return image.warp(picture, affine, 64), geometry.apply(affine, points)[FIVE.flip_permutation]


def test_fault_mirrored_faces_keep_unswapped_labels() -> None:
    """docs/faults.md F3; docs/paper_map.md 2.8, 7: the swap waits for an array, but the table is a list."""

    def original(picture: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        table = [1, 0, 2, 4, 3]
        moved = points * [-1, 1] + [63, 0]
        return picture[:, ::-1], moved[table] if isinstance(table, np.ndarray) else moved

    check_mirror(mirror_by_augment)
    check_mirror(mirror_by_geometry)
    with goes_red():
        check_mirror(original)


def test_fault_a_mirror_maps_x_to_w_minus_x() -> None:
    """docs/faults.md F4: with pixel centres at integers it is W - 1 - x."""

    def original(picture: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return picture[:, ::-1], (points * [-1, 1] + [64, 0])[FIVE.flip_permutation]

    check_mirror(mirror_by_augment)
    check_mirror(mirror_by_geometry)
    with goes_red():
        check_mirror(original)


def test_fault_boundary_maps_of_mirrored_faces_keep_their_channels() -> None:
    """docs/paper_map.md 2.8, 7: harmful in the 45-channel mode, where left eye and right eye are different maps."""
    points = torch.tensor(np.random.default_rng(0).uniform(6, 26, (1, 29, 2)))

    def check(order: np.ndarray) -> None:
        flipped = (points * torch.tensor([-1.0, 1.0]) + torch.tensor([31.0, 0.0]))[:, COFW.flip_permutation.copy()]
        of_mirrored = structure_maps(flipped, 32, "boundaries", COFW)
        mirrored = structure_maps(points, 32, "boundaries", COFW).flip(-1)[:, order.copy()]
        assert torch.allclose(of_mirrored, mirrored, atol=1e-4)

    check(COFW.boundary_flip_permutation)
    with goes_red():
        check(np.arange(len(COFW.boundaries)))


def test_fault_a_crop_s_labels_are_always_scaled_by_two_thirds(tmp_path: Path) -> None:
    """docs/faults.md F7 (`dataloader.py:60`): right, almost, for pictures of 384 pixels and for no others."""

    def check(to_crop) -> None:
        for side in (384, 200, 600):
            points = np.array([[0.3, 0.35], [0.62, 0.33], [0.48, 0.52], [0.35, 0.68], [0.61, 0.7]]) * side
            y, x = np.mgrid[:side, :side]
            dots = np.max(
                [np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * (side / 64) ** 2)) for px, py in points], axis=0
            )
            path = tmp_path / f"{side}.png"
            image.write_image(path, np.repeat((255 * dots).round().astype(np.uint8)[..., None], 3, axis=2))
            picture, landmarks = to_crop(
                FaceSample(id="a", image=path, landmarks=points, box_xyxy=[0, 0, side - 1, side - 1])
            )
            for point in landmarks:
                assert np.abs(dot_near(picture, point, 10) - point).max() < 0.25

    def original(sample: FaceSample) -> tuple[np.ndarray, np.ndarray]:
        return cv2.resize(image.read_image(sample.image), (256, 256)), np.asarray(sample.landmarks) * 2 / 3

    check(lambda sample: crop_sample(sample, CropConfig(size=256, scale=1.3, box="given"))[:2])
    with goes_red():
        check(original)


# ---- values that change


def test_fault_rendering_scales_the_caller_s_landmarks_in_place() -> None:
    """docs/faults.md F5 (`util/curve.py`): and one function of a hundred lines for each number of points."""

    def check(render) -> None:
        for schema in SCHEMAS.values():
            points = np.random.default_rng(1).uniform(4, 28, (1, schema.num_points, 2))
            before = points.copy()
            first = render(points, schema)
            assert np.array_equal(points, before)
            assert np.array_equal(render(points, schema), first)

    def ours(points: np.ndarray, schema: LandmarkSchema) -> np.ndarray:
        for curve in schema.boundaries.values():
            sample_curves(points, curve, 9)
        return structure_maps(torch.from_numpy(points), 32, "boundaries", schema).numpy()

    def original(points: np.ndarray, schema: LandmarkSchema) -> np.ndarray:
        points *= 0.5
        return structure_maps(torch.from_numpy(points), 32, "points", schema).numpy()

    check(ours)
    with goes_red():
        check(original)


def test_fault_converting_landmarks_changes_their_owner() -> None:
    """docs/faults.md F14 (SAN's `convert68to49`): the second call finds what the first one left."""

    def check(to_five) -> None:
        face = np.random.default_rng(0).uniform(0, 100, (68, 2))
        before = face.copy()
        first = np.array(to_five(face))
        assert first.shape == (5, 2)
        assert np.array_equal(face, before)
        assert np.array_equal(to_five(face), first)

    def original(face: np.ndarray) -> np.ndarray:
        face -= face[0]
        face[:5] = face[[36, 45, 30, 48, 54]]
        return face[:5]

    check(lambda face: convert(face, "ibug68", "five"))
    with goes_red():
        check(original)


# ---- tables of landmarks


def check_boundaries(boundaries: dict[str, tuple[int, ...]], flip: np.ndarray) -> None:
    """The mirror image of every boundary is a boundary, closed where that one is closed."""
    curves = {min(c, c[::-1]) for c in boundaries.values()}
    for curve in boundaries.values():
        mirrored = tuple(int(flip[i]) for i in curve)
        assert min(mirrored, mirrored[::-1]) in curves


def test_fault_cofw_s_right_eye_is_closed_and_its_left_eye_open() -> None:
    """docs/faults.md F11 (STAR and ADNet)."""
    for schema in SCHEMAS.values():
        check_boundaries(dict(schema.boundaries), schema.flip_permutation)
    closed = {**COFW.boundaries, "right_eye_bottom": (9, 15, 11, 14, 9)}
    with goes_red():
        check_boundaries(closed, COFW.flip_permutation)
    with pytest.raises(UserError, match="is no boundary"):  # and such a schema cannot be made
        LandmarkSchema(name="x", num_points=29, flip_pairs=COFW.flip_pairs, boundaries=closed)


def test_fault_flip_tables_counted_from_one_stand_beside_those_counted_from_zero() -> None:
    """docs/faults.md F12 (`MATCHED_PARTS` of HRNet and its copies)."""

    def check(schema: LandmarkSchema, flip: np.ndarray) -> None:
        assert np.array_equal(flip[flip], np.arange(schema.num_points))
        for left, right in schema.anchors.values():  # eyes change sides
            assert {int(flip[i]) for i in left} == set(right)
        check_boundaries(dict(schema.boundaries), flip)

    for schema in SCHEMAS.values():
        check(schema, schema.flip_permutation)
    for schema in (IBUG, COFW):
        shifted = np.arange(schema.num_points + 1)
        for a, b in (p for p in schema.flip_pairs if max(p) + 1 < schema.num_points):
            shifted[a + 1], shifted[b + 1] = b + 1, a + 1
        with goes_red():
            check(schema, shifted[: schema.num_points])


# ---- results


def check_nme(nme) -> None:
    """Ten pixels off in every point, eyes `d` apart: 10 / d, for every schema, in pictures of every size."""
    for schema in SCHEMAS.values():
        anchor = "inter_ocular" if "inter_ocular" in schema.anchors else "inter_pupil"
        truth = np.random.default_rng(schema.num_points).uniform(0, 200, (1, schema.num_points, 2))
        d = np.linalg.norm(np.subtract(*(truth[0, list(side)].mean(axis=0) for side in schema.anchors[anchor])))
        for scale in (1.0, 3.0):
            found = nme(scale * (truth + np.array([6.0, 8.0])), scale * truth, schema, anchor)
            assert np.isclose(found, 10 / d)


def our_nme(predicted: np.ndarray, truth: np.ndarray, schema: LandmarkSchema, anchor: str) -> float:
    return float(metrics.nme_per_face(predicted, truth, metrics.denominators(truth, None, schema, anchor))[0])


def test_fault_the_nme_s_denominator_is_a_ladder_of_point_counts() -> None:
    """docs/faults.md F13: and a number that was meant to be a box's size; here anchors live in the schema."""

    def original(predicted: np.ndarray, truth: np.ndarray, schema: LandmarkSchema, anchor: str) -> float:
        if schema.num_points == 68:
            interocular = np.linalg.norm(truth[0, 36] - truth[0, 45])
        elif schema.num_points == 98:
            interocular = np.linalg.norm(truth[0, 60] - truth[0, 72])
        else:
            interocular = 34  # meta['box_size']
        return float(np.linalg.norm(predicted - truth, axis=-1).mean() / interocular)

    check_nme(our_nme)
    with goes_red():
        check_nme(original)


def test_fault_the_evaluation_does_not_know_98_points() -> None:
    """docs/paper_map.md 2.8, 11, first half: it raises at the end of the first epoch, so
    the WFLW scripts print no NME."""

    def original(predicted: np.ndarray, truth: np.ndarray, schema: LandmarkSchema, anchor: str) -> float:
        eyes = {68: (36, 45), 51: (19, 28), 49: (19, 28), 19: (6, 11)}[schema.num_points]
        return float(
            np.linalg.norm(predicted - truth, axis=-1).mean() / np.linalg.norm(truth[0, eyes[0]] - truth[0, eyes[1]])
        )

    check_nme(our_nme)
    with goes_red(KeyError):
        check_nme(original)


def test_fault_the_auc_stops_at_eight_percent() -> None:
    """docs/paper_map.md 2.8, 11, second half: AUC@0.10 of errors 0, 0.05 and 0.09 is (1 + 0.5 + 0.1) / 3."""

    def check(auc) -> None:
        assert np.isclose(auc(np.array([0.0, 0.05, 0.09]), 0.10), 1.6 / 3)

    check(metrics.auc)
    with goes_red():
        check(lambda errors, limit: metrics.auc(errors, 0.08))


# ---- data sets


def wflw_source(folder: Path) -> Path:
    lists = folder / "WFLW_annotations" / "list_98pt_rect_attr_train_test"
    lists.mkdir(parents=True)
    (folder / "WFLW_images").mkdir()
    image.write_image(folder / "WFLW_images" / "a.jpg", np.zeros((120, 100, 3), np.uint8))
    points = np.random.default_rng(0).uniform(10, 90, 196).round(2)
    (lists / "list_98pt_rect_attr_test.txt").write_text(" ".join(map(str, points)) + " 8 9 91 95 1 0 0 1 0 1 a.jpg\n")
    return folder


def test_fault_the_wflw_reader_throws_box_and_attributes_away(tmp_path: Path) -> None:
    """docs/faults.md F9 (`get_list`)."""
    source = wflw_source(tmp_path)

    def check(read) -> None:
        (face,) = read(source)
        assert np.array_equal(face.box_xyxy, [8, 9, 91, 95])
        assert {k for k, on in face.attributes.items() if on} == {"pose", "make_up", "blur"}

    def original(source: Path) -> list[FaceSample]:
        text = next(source.rglob("list_98pt_rect_attr_test.txt")).read_text().split()
        return [
            FaceSample(
                id="a", image=source / "WFLW_images" / text[-1], landmarks=np.array(text[:196], float).reshape(-1, 2)
            )
        ]

    check(lambda source: formats.FORMATS["wflw"].read(source, formats.ReadOptions(schema=WFLW)))
    with goes_red():
        check(original)


def original_cutter(
    release: Release, num: int | None = None, checkpoint: int = 10000
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`gen_annotation.py` as it would run if it parsed: pictures by position, labels by counting lines."""
    n, faces = release.n, []
    for i in range(5 if num is None else num):
        path = release.folder / f"transfer_{checkpoint + i + 1:07d}.png"
        if not path.exists():
            raise FileNotFoundError(path)
        mosaic = image.read_image(path)
        for j in range(n):
            for s in range(n):
                tile = mosaic[(s + 1) * TILE : (s + 2) * TILE, (j + 1) * TILE : (j + 2) * TILE]
                faces.append((tile, (release.labels[i * n + j + n] + 0.5) * TILE / FRAME - 0.5))
    return faces


def our_cutter(release: Release) -> list[tuple[np.ndarray, np.ndarray]]:
    out = release.folder.parent / "made"
    gen_landmark.main(release.config(out_dir=out))
    made = [(image.read_image(face.image), np.asarray(face.landmarks)) for face in FaceDataset.open(out)]
    shutil.rmtree(out)
    return made


def check_labels(cut, release: Release) -> None:
    """A tile's first pixel says which line its structure came from: the label must be that line's."""
    for picture, landmarks in cut(release):
        expected = (release.labels[int(picture[0, 0, 0])] + 0.5) * TILE / FRAME - 0.5
        assert np.abs(landmarks - expected).max() < 1e-3


def test_fault_labels_of_mosaics_are_shifted_by_a_batch(tmp_path: Path) -> None:
    """docs/faults.md F8; docs/paper_map.md 2.8, 3: the offset of one batch is right for one swallowed batch
    only, and silently wrong else."""
    for swallowed in (0, 1, 2):
        release = Release(tmp_path / str(swallowed) / "gen", rows=30, swallowed=swallowed)
        check_labels(our_cutter, release)
        if swallowed == 1:
            check_labels(original_cutter, release)
        else:
            with goes_red():
                check_labels(original_cutter, release)


def test_fault_the_first_batch_is_lost_the_list_overrun_and_missing_mosaics_read(tmp_path: Path) -> None:
    """docs/paper_map.md 2.8, 4: never row 0; IndexError at the end of the list; 500 mosaics
    expected where 100 were made."""

    def check(cut, rows: int) -> None:
        shutil.rmtree(tmp_path / "gen", ignore_errors=True)
        release = Release(tmp_path / "gen", rows=rows, swallowed=0)
        made = cut(release)
        assert len(made) == 5 * 9  # every mosaic there is
        assert {int(picture[0, 0, 0]) for picture, _ in made} == set(
            range(15)
        )  # every line they show, the first batch's too
        first = (release.labels[0] + 0.5) * TILE / FRAME - 0.5
        assert any(np.abs(landmarks - first).max() < 1e-3 for _, landmarks in made)

    for rows in (15, 30):
        check(our_cutter, rows)
    with goes_red():
        check(original_cutter, 30)  # no face has the first line's label
    with goes_red(IndexError):
        check(original_cutter, 15)
    with goes_red(FileNotFoundError):
        check(lambda release: original_cutter(release, num=500), 30)


def test_fault_a_synthetic_face_does_not_know_where_it_came_from(tmp_path: Path) -> None:
    """docs/faults.md F8: here each record carries its provenance, so that no order of files can mislabel it."""
    faces = make_faces(tmp_path / "data", 6)
    generate(job(faces, tmp_path / "made"), PaintedTranslator())
    by_id = {f.id: f for f in faces}

    def check(made: list[FaceSample]) -> None:
        for face in reversed(made):  # the order does not matter
            assert face.provenance is not None
            content = by_id[face.provenance.content_id]
            crop_from_source = np.array(face.provenance.crop_from_source)
            assert np.allclose(geometry.apply(crop_from_source, content.landmarks), face.landmarks, atol=1e-4)

    made = list(FaceDataset.open(tmp_path / "made"))
    check(made)
    with goes_red():
        check([FaceSample(id=f.id, image=f.image, landmarks=f.landmarks) for f in made])


def test_fault_synthetic_pictures_go_through_bicubic_and_jpeg(tmp_path: Path) -> None:
    """docs/paper_map.md 2.8, 8: an 8-bit PNG enlarged by half and compressed; here a PNG is what the
    translator decoded, rounded once."""
    faces = make_faces(tmp_path / "data", 6)
    translator = PaintedTranslator()
    by_id = {f.id: f for f in faces}

    def check(folder: Path) -> None:
        for face in FaceDataset.open(folder):
            style = crop_sample(by_id[face.provenance.style_id], translator.crop)[0]
            style = torch.tensor(style).permute(2, 0, 1)[None] / 127.5 - 1
            decoded = swap_matrix(translator, torch.tensor(np.array(face.landmarks))[None], style)[0, 0]
            expected = ((decoded.clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0).numpy()
            picture = image.read_image(face.image).astype(float)
            assert picture.shape == expected.shape
            assert np.abs(picture - expected).max() <= 0.51

    generate(job(faces, tmp_path / "made", image_format="png"), translator)
    check(tmp_path / "made")
    for face in FaceDataset.open(tmp_path / "made"):
        picture = cv2.resize(image.read_image(face.image), (SIZE * 3 // 2,) * 2, interpolation=cv2.INTER_CUBIC)
        image.write_image(face.image.with_suffix(".jpg"), picture)
        face.image.with_suffix(".jpg").rename(face.image)
    with goes_red():
        check(tmp_path / "made")


def test_fault_build_products_and_other_people_s_paths_are_in_the_repository(tmp_path: Path) -> None:
    """docs/faults.md F10: .pyc and .DS_Store files, home directories in configurations, one module twice."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode or not listed.stdout.strip():
        pytest.skip("not a git checkout")
    # /data/local-files/ is how Label Studio writes an address.
    home = re.compile(r"(?<![\w.])/" + r"(?!data/local-files/)(home|Users|root|work|data\d*)/\w")

    def check(root: Path, names: list[str]) -> None:
        bodies: dict[str, str] = {}
        for name in names:
            assert not name.endswith((".pyc", ".DS_Store", ".so", ".orig", ".rej")), name
            if name.startswith(("src/", "recipes/", "scripts/", "docs/")) and name.endswith(
                (".py", ".yaml", ".sh", ".md")
            ):
                text = (root / name).read_text(encoding="utf-8")
                assert not home.search(text), f"{name}: {home.search(text)}"
                if name.endswith(".py") and len(text) > 200:
                    assert bodies.setdefault(text, name) == name, f"{name} is {bodies[text]} again"

    check(ROOT, [name for name in listed.stdout.splitlines() if (ROOT / name).exists()])
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.yaml").write_text("data_dir: /" + "home/someone/300W\n")
    (tmp_path / "src" / "b.py").write_text("# transforms\n" * 50)
    (tmp_path / "src" / "c.py").write_text("# transforms\n" * 50)
    for names in (["src/a.pyc"], ["src/.DS_Store"], ["src/a.yaml"], ["src/b.py", "src/c.py"]):
        with goes_red():
            check(tmp_path, names)


# ---- training


def test_fault_testing_performs_optimiser_steps_and_needs_full_batches() -> None:
    """docs/paper_map.md 2.8, 5: at a rate of nothing, but with all of the work; here a pass takes no
    gradient, and any number of faces."""
    torch.manual_seed(0)
    model = VUNet(PRESETS["tiny32"])
    picture, maps = torch.rand(8, 3, 32, 32), torch.rand(8, 3, 32, 32)
    initialise(model, picture, maps)

    def check(render) -> None:
        model.eval()
        for parameter in model.parameters():
            parameter.grad = None
        for n in (1, 3, 8):
            out = render(picture[:n], maps[:n])
            assert out.shape == (n, 3, 32, 32)
            assert not out.requires_grad
        assert all(parameter.grad is None for parameter in model.parameters())

    def ours(picture: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return model.decode(model.encode_structure(maps), model.encode_style(picture), with_prior=False).image

    def original(picture: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.0)
        out = model(picture, maps)
        (out.image - picture).abs().mean().backward()
        optimizer.step()
        return out.image.detach()

    check(ours)
    with goes_red():
        check(original)


def test_fault_generate_keeps_no_gradient() -> None:
    """docs/paper_map.md 2.8, 5, for the loaded translator that `generate` really uses."""
    from stylealign.batches.structure_maps import StructureConfig
    from stylealign.translators.vunet.network import LoadedVUNet

    torch.manual_seed(0)
    model = VUNet(PRESETS["tiny32"])
    initialise(model, torch.rand(4, 3, 32, 32), torch.rand(4, 3, 32, 32))

    def check(translator) -> None:
        out = swap_matrix(translator, torch.rand(2, 5, 2) * 32, torch.rand(3, 3, 32, 32))
        assert out.shape == (2, 3, 3, 32, 32)
        assert not out.requires_grad

    check(LoadedVUNet(model, FIVE, CropConfig(size=32), StructureConfig(), {}, torch.device("cpu")))

    class Original(PaintedTranslator):
        def decode(self, features, style):
            weight = torch.ones(1, requires_grad=True)
            return super().decode(features, style) * weight

    with goes_red():
        check(Original())


def test_fault_training_walks_the_list_in_its_order() -> None:
    """docs/paper_map.md 2.8, 8: the loaders are built with shuffle=False, so neighbours in
    the list always share a batch."""

    def check(order) -> None:
        first, second = order(40, 0), order(40, 1)
        assert sorted(first) == sorted(second) == list(range(40))  # every face once an epoch
        assert list(first) != list(second)
        assert list(first) != list(range(40))

    check(lambda num, epoch: epoch_order(num, 7, 0, epoch * num, num))
    with goes_red():
        check(lambda num, epoch: np.arange(num))


def test_fault_validation_reads_the_training_list() -> None:
    """docs/paper_map.md 2.8, 8: no hold-out. Here training and judging take different splits
    unless someone says otherwise."""
    from stylealign.jobs.train_detector.job import TrainDetector
    from stylealign.jobs.train_translator.job import TrainTranslator

    def check(train: str, val: str) -> None:
        assert train != val

    translator = TrainTranslator(data=Path("d"), run=Path("r"))
    check(translator.split, translator.val_split)
    detector = TrainDetector(run=Path("r"), real=Path("d"))
    check(detector.real_split, detector.val_split)
    with goes_red():
        check("train.txt", "train.txt")


def test_fault_structure_maps_know_whole_pixels_only() -> None:
    """docs/paper_map.md 2.8, 8 (and 1.3): a landmark that moves by 0.4 px must move its drawing by 0.4 px."""

    def centre(maps: torch.Tensor) -> float:
        row = maps[0, 0].sum(dim=0)
        return float((row * torch.arange(32)).sum() / row.sum())

    def check(render) -> None:
        at = [centre(render(torch.tensor([[[10.0 + step, 15.0]] * 5]))) for step in (0.0, 0.4, 0.8)]
        assert np.allclose(np.diff(at), 0.4, atol=0.02)

    check(lambda points: structure_maps(points, 32, "points", FIVE))
    with goes_red():
        check(lambda points: structure_maps(points, 32, "points", FIVE, integer_centres=True))


def test_fault_part_of_the_style_encoder_computes_for_nobody() -> None:
    """docs/paper_map.md 2.8, 9: one block and one upsampling without a gradient."""

    class Original(VUNet):
        def __init__(self) -> None:
            super().__init__(PRESETS["tiny32"])
            self.dead = nn.Conv2d(3, 8, 3)

        def forward(self, picture, structure, generator=None):
            self.dead(picture)
            return super().forward(picture, structure, generator)

    def check(model: VUNet) -> None:
        picture, maps = torch.rand(4, 3, 32, 32), torch.rand(4, 3, 32, 32)
        initialise(model, picture, maps)
        out = model.train()(picture, maps)
        kl = sum(((q - p) ** 2).sum() for q, p in zip(out.posterior, out.prior, strict=True))
        (out.image.square().sum() + kl).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name

    torch.manual_seed(0)
    check(VUNet(PRESETS["tiny32"]))
    with goes_red():
        check(Original())


def test_fault_vgg_sees_the_wrong_colours_and_stops_before_the_relu() -> None:
    """docs/paper_map.md 2.8, 10: BGR means taken from RGB grey levels and fed to weights that expect
    normalised RGB; "relu5_2" is not one."""
    torch.manual_seed(0)
    vgg = VGG19Features("torchvision")
    picture = torch.rand(1, 3, 32, 32) * 2 - 1
    expected = ((picture + 1) / 2 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)

    def seen(network: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        inputs: list[torch.Tensor] = []
        hook = vgg.convs["1_1"].register_forward_hook(lambda module, args, out: inputs.append(args[0]))
        last = network(x)[-1]
        hook.remove()
        return inputs[0], last

    def check(network) -> None:
        first, last = seen(network, picture)
        assert torch.allclose(first, expected, atol=1e-5)
        assert last.min() >= 0

    def original(x: torch.Tensor) -> list[torch.Tensor]:
        x = (x + 1) * 127.5 - torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1)  # BGR means, RGB picture
        return [vgg.convs["1_1"](x)]  # no ReLU

    check(vgg)
    with goes_red():
        check(original)
    caffe = VGG19Features("caffe")
    level = caffe(picture)[0]  # the input on the scale of caffe weights: BGR, and red is its last channel
    assert torch.allclose(level[:, 2], (picture[:, 0] + 1) * 127.5 - 123.68, atol=1e-3)


def test_fault_resampling_relies_on_a_default_that_changed() -> None:
    """docs/paper_map.md 2.8, 12: written for torch 0.4, whose grid_sample aligned corners; every
    call of ours says which it means."""

    def check(texts: list[str]) -> None:
        for text in texts:
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
                    "grid_sample",
                    "affine_grid",
                ):
                    assert "align_corners" in {k.arg for k in node.keywords}, ast.unparse(node)

    texts = [path.read_text(encoding="utf-8") for path in SOURCES]
    assert any("grid_sample(" in text for text in texts)
    check(texts)
    with goes_red():
        check(["import torch.nn.functional as F\nout = F.grid_sample(image, grid)\n"])


def test_fault_data_dependent_initialisation_blows_up() -> None:
    """docs/paper_map.md 2.8, 13: with gains set from activations that were not yet normalised, a deep
    network starts far from unit scale."""
    picture = torch.rand(8, 4, 16, 16, generator=torch.Generator().manual_seed(0))

    def network() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(
            *(layer for _ in range(6) for layer in (WeightNormConv2d(4, 4), nn.ELU())), WeightNormConv2d(4, 4)
        )

    def check(start) -> None:
        model = network()
        start(model)
        out = model(picture)
        std, mean = torch.std_mean(out, dim=(0, 2, 3))
        assert torch.allclose(mean, torch.zeros(4), atol=0.02)
        assert torch.allclose(std, torch.ones(4), atol=0.02)

    def ours(model: nn.Module) -> None:
        with data_dependent_init(model), torch.no_grad():
            model(picture)

    @torch.no_grad()
    def original(model: nn.Module) -> None:
        """All statistics from one pass of the network as it was constructed."""
        found = {}
        hooks = [
            m.register_forward_hook(
                lambda module, args, out: found.__setitem__(module, torch.std_mean(out, dim=(0, 2, 3)))
            )
            for m in model.modules()
            if isinstance(m, WeightNormConv2d)
        ]
        model(picture)
        for hook in hooks:
            hook.remove()
        for module, (std, mean) in found.items():
            module.gain.copy_(1 / std)
            module.bias.copy_(-mean / std)

    check(ours)
    with goes_red():
        check(original)


def test_fault_the_synthetic_run_trains_with_a_learning_rate_of_nothing() -> None:
    """docs/paper_map.md 2.8, 14: 0.0000 for 100 epochs, in a schedule whose last step is at epoch 45."""

    def check(rate, steps: int) -> None:
        rates = np.array([rate(step, steps) for step in range(steps)])
        assert rates.max() > 0
        assert (rates[:-1] > 0).all()  # every update but perhaps the last one learns
        assert rates[-1] < rates[steps // 2] < rates.max() * 1.0001  # and the fall lasts to the end
        assert rates[-1] < 0.05 * rates.max()

    for steps in (50, 400):
        check(lambda step, steps: 3e-3 * cosine(step, steps), steps)
        for preset in ("released", "small"):
            check(lambda step, steps, preset=preset: learning_rate(step, steps, LEARNING_RATE_PRESETS[preset]), steps)
    with goes_red():
        check(lambda step, steps: 0.0, 100)
    with goes_red():
        check(lambda step, steps: 5e-5 * 0.5 ** sum(step >= at for at in (30, 35, 40, 45)), 100)


def test_every_row_and_item_has_a_test() -> None:
    """docs/faults.md has 14 rows, docs/paper_map.md 2.8 has 14 items; this file's docstrings name them all."""
    texts = [inspect.getdoc(value) or "" for name, value in globals().items() if name.startswith("test_fault_")]
    rows = {int(n) for text in texts for n in re.findall(r"docs/faults\.md F(\d+)", text)}
    items = {
        int(n)
        for text in texts
        for part in re.findall(r"docs/paper_map.md 2\.8,([^:;.]*)", text)
        for n in re.findall(r"\b(\d+)\b", part)
    }
    assert rows == set(range(1, 15))
    assert items == set(range(1, 15))
