"""The translator report: every figure against a hand-worked or planted truth, then the whole verb on a translator
that leaks."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from builders.tiny import detector_job, translator_job
from stylealign.batches.augment import NO_AUGMENTATION
from stylealign.batches.batch import Batch
from stylealign.batches.crops import CropCache, crop_sample
from stylealign.data.dataset import FaceDataset
from stylealign.data.image import image_size
from stylealign.detectors.output import DetectorOutput
from stylealign.detectors.resnet import ResNetConfig
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.schema import FIVE
from stylealign.jobs.assess import images as likeness
from stylealign.jobs.assess import style
from stylealign.jobs.assess.drawn import face_region, true_swaps
from stylealign.jobs.assess.images import FeatureNetwork
from stylealign.jobs.assess.job import Assess, main
from stylealign.jobs.assess.measure import latent, leakage, measure, retrieval
from stylealign.jobs.assess.opening import held_out, open_styled
from stylealign.jobs.assess.plots import arrows, keep_curve_plot
from stylealign.jobs.assess.probes import aligned_shapes, poses, probe, ridge_r2
from stylealign.jobs.assess.structure import drift, gap_matrix, structure_gap
from stylealign.jobs.assess.subject import Subject, subject_of_arm, swapped
from stylealign.jobs.assess.tables import protocol
from stylealign.jobs.draw_faces import DrawFaces
from stylealign.jobs.draw_faces import main as draw_faces
from stylealign.jobs.report.job import Report, report
from stylealign.jobs.train_detector.job import main as train_detector
from stylealign.jobs.train_translator.job import main as train_translator
from stylealign.styling.arms import names_without_run
from stylealign.translators.judge import verdict
from stylealign.translators.kl import KLConfig, kl_warning
from stylealign.translators.reconstruction import RECONSTRUCTION_PRESETS

SIZE = 32


def flat(value: float, count: int = 1, size: int = SIZE) -> Tensor:
    """Pictures of one grey, whose value in [0, 1] is given."""
    return torch.full((count, 3, size, size), 2 * value - 1)


def noise(count: int, seed: int = 0, size: int = SIZE) -> Tensor:
    return torch.rand((count, 3, size, size), generator=torch.Generator().manual_seed(seed)) * 2 - 1


# --------------------------------------------------------------------------------------------------------------------
# Likeness of pictures


def test_psnr_of_an_error_of_a_tenth_is_twenty_decibels() -> None:
    assert float(likeness.psnr(flat(0.4), flat(0.5))) == pytest.approx(20.0, abs=1e-4)  # -10 log10(0.1^2)
    assert float(likeness.psnr(flat(0.5), flat(0.5))) == likeness.MAX_PSNR
    half = flat(0.5)
    half[..., : SIZE // 2] = 2 * 0.4 - 1  # an error of 0.1 on half of the picture: half the squared error, 3.01 dB more
    assert float(likeness.psnr(half, flat(0.5))) == pytest.approx(20 + 10 * math.log10(2), abs=1e-4)
    mask = torch.zeros(1, 1, SIZE, SIZE)
    mask[..., : SIZE // 2] = 1
    assert float(likeness.psnr(half, flat(0.5), mask)) == pytest.approx(20.0, abs=1e-4)
    assert float(likeness.psnr(flat(7.0), flat(1.0))) == likeness.MAX_PSNR  # clamped as when saved


def test_ssim_of_equal_pictures_is_one_and_of_shifted_greys_is_their_luminance_term() -> None:
    assert float(likeness.ssim(noise(1), noise(1))) == pytest.approx(1.0, abs=1e-9)
    # No variance: the contrast term is C2 / C2 = 1, the luminance term (2 ab + C1) / (a^2 + b^2 + C1) with C1 = 0.01^2.
    expected = (2 * 0.4 * 0.6 + 1e-4) / (0.4**2 + 0.6**2 + 1e-4)
    assert float(likeness.ssim(flat(0.4), flat(0.6))) == pytest.approx(expected, abs=1e-6)
    assert likeness.ssim_map(noise(1), noise(1, 1)).shape == (1, 3, SIZE - 10, SIZE - 10)


def test_ssim_is_the_formula_of_its_window() -> None:
    a, b = (x.double() for x in (noise(1, 3, 11), noise(1, 4, 11)))
    g = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    w = np.outer(g, g) / np.outer(g, g).sum()
    values = []
    for x, y in zip(((a[0] + 1) / 2).numpy(), ((b[0] + 1) / 2).numpy(), strict=True):
        mx, my = (w * x).sum(), (w * y).sum()
        vx, vy, vxy = (w * (x - mx) ** 2).sum(), (w * (y - my) ** 2).sum(), (w * (x - mx) * (y - my)).sum()
        values.append((2 * mx * my + 1e-4) * (2 * vxy + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))
    assert float(likeness.ssim(a, b)) == pytest.approx(np.mean(values), abs=1e-9)


def test_a_feature_distance_is_that_of_unit_vectors() -> None:
    a = torch.tensor([[3.0, 0.0]])[..., None, None].expand(1, 2, 4, 4)
    b = torch.tensor([[0.0, 7.0]])[..., None, None].expand(1, 2, 4, 4)
    assert float(likeness.feature_distance([a], [2 * a])) == pytest.approx(0.0, abs=1e-12)
    assert float(likeness.feature_distance([a], [b])) == pytest.approx(2.0)  # at right angles
    assert float(likeness.feature_distance([a, a], [-a, a])) == pytest.approx(2.0)  # the mean of 4 and 0


def test_the_kernel_distance_is_the_double_sum_without_its_diagonals() -> None:
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64) + 0.5

    def k(a: Tensor, b: Tensor) -> float:
        return (float(a @ b) / 3 + 1) ** 3

    within_x = sum(k(x[i], x[j]) for i in range(5) for j in range(5) if i != j) / 20
    within_y = sum(k(y[i], y[j]) for i in range(4) for j in range(4) if i != j) / 12
    between = sum(k(a, b) for a in x for b in y) / 20
    assert float(likeness.polynomial_mmd2(x, y)) == pytest.approx(within_x + within_y - 2 * between)


def test_the_kernel_distance_of_one_distribution_is_nothing_on_average_and_of_two_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = [torch.randn(60, 8, generator=generator) for _ in range(60)]
    same = torch.stack([likeness.polynomial_mmd2(a, b) for a, b in zip(draws[::2], draws[1::2], strict=True)])
    assert abs(float(same.mean())) < 3 * float(same.std()) / math.sqrt(len(same))  # unbiased
    value, sd = likeness.kid(draws[0], draws[1] + 1, seed=0)
    assert value > 5 * float(same.std())
    assert sd > 0


# --------------------------------------------------------------------------------------------------------------------
# Structure


def test_a_planted_displacement_is_what_the_drift_says_and_the_arrows_show() -> None:
    truth = np.array([[[8.0, 10], [24, 10], [16, 16], [10, 24], [22, 24]]] * 6)  # eyes 16 px apart
    real = truth + np.random.default_rng(0).normal(0, 1, truth.shape)
    moved = real.copy()
    moved[:, 3] += (1.6, -0.8)
    lengths = np.full(6, 16.0)
    found = drift(real, moved, lengths)
    np.testing.assert_allclose(found[3], (0.1, -0.05))
    np.testing.assert_allclose(np.delete(found, 3, axis=0), 0, atol=1e-12)
    shafts, times = arrows(found, 16.0, truth[0])
    assert times == 1  # 1.79 px long, and 1.92 px (12 % of the face's 16 px) is the most
    np.testing.assert_allclose(shafts[3], (1.6, -0.8))
    assert arrows(found / 10, 16.0, truth[0])[1] == 10
    assert arrows(0 * found, 16.0, truth[0])[1] == 1


def test_the_gap_is_what_the_swap_costs_per_part_and_per_point() -> None:
    truth = np.array([[[8.0, 10], [24, 10], [16, 16], [10, 24], [22, 24]]] * 8)
    real, swapped = truth.copy(), truth.copy()
    swapped[:, 2, 0] += 4.0  # a quarter of the eye distance, on one of five points
    swapped[0, :, 1] += 16.0  # one face far off
    figures = structure_gap(real, swapped, truth, np.roll(truth, 1, axis=0), FIVE, seed=0)
    per_face = np.array([(4 * 16 + math.hypot(4, 16)) / 5] + [4 / 5] * 7) / 16
    assert figures["real_nme"] == 0
    assert figures["gap"]["mean"] == pytest.approx(per_face.mean())
    assert figures["gap"]["low"] < figures["gap"]["mean"] < figures["gap"]["high"]
    assert (figures["share_above_10"], figures["real_share_above_10"]) == (1 / 8, 0)
    assert figures["parts"]["eyes"]["gap"]["mean"] == pytest.approx(1 / 8)  # one face of eight, by a whole eye distance
    assert figures["per_point"][2] == pytest.approx((7 * 4 + math.hypot(4, 16)) / 16 / 8)
    assert figures["style_nme"] == pytest.approx(figures["swap_nme"])  # here all faces are alike
    answers = np.stack([[truth[0], truth[0] + (0, 1.6)], [truth[1] + (3.2, 0), truth[1]]])
    found = gap_matrix(real[:2], answers, truth[:2], FIVE)
    np.testing.assert_allclose(found, [[0, 0.1], [0.2, 0]], atol=1e-12)


# --------------------------------------------------------------------------------------------------------------------
# Style


def styled_faces(count: int, seed: int = 0) -> Batch:
    """Pictures of a colour and a grain each, with five landmarks that have nothing to do with them."""
    rng = np.random.default_rng(seed)
    colours = torch.from_numpy(rng.uniform(-0.8, 0.8, (count, 3, 1, 1))).float()
    grain = (
        noise(count, seed, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
        * torch.from_numpy(rng.uniform(0.02, 0.2, (count, 3, 1, 1))).float()
    )
    truth = (
        torch.tensor([[8.0, 10], [24, 10], [16, 16], [10, 24], [22, 24]])
        + torch.from_numpy(rng.normal(0, 1.5, (count, 5, 2))).float()
    )
    image, visible = (colours + grain).clamp(-1, 1), torch.ones(count, 5, dtype=torch.bool)
    return Batch(image, truth, visible, torch.zeros(count, 2, 3), torch.arange(count), torch.ones(count))


def tiny_network() -> FeatureNetwork:
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 6, 3).requires_grad_(False), nn.Conv2d(6, 8, 3, stride=2).requires_grad_(False)

    def levels(x: Tensor) -> list[Tensor]:
        one = first(x).relu()
        return [one, second(one).relu()]

    return FeatureNetwork("two random convolutions", levels, SIZE)


def made_by(translate, **more) -> Subject:
    return Subject("made", "0", FIVE, CropConfig(size=SIZE), translate, **more)


PERFECT = made_by(lambda images, landmarks, style_images, style_landmarks: style_images)
IDENTITY = made_by(lambda images, landmarks, style_images, style_landmarks: images)


def test_a_translator_that_wears_the_donor_s_style_finds_it_and_one_that_changes_nothing_does_not() -> None:
    batch, network = styled_faces(100), tiny_network()
    found = retrieval(PERFECT, batch, network, 100, seed=1)
    assert found["donors"] == 50  # a hundred faces give fifty donors and fifty others
    for feature in ("statistics", "colour", "network"):
        assert found[feature]["translator"] == {"top1": 1.0, "top5": 1.0, "mean_place": 1.0}
        assert found[feature]["ceiling"]["top1"] > 0.9
        assert found[feature]["floor"]["top1"] <= 0.1  # 1 in 50 by chance
        assert found[feature]["floor"]["mean_place"] == pytest.approx(25.5, abs=8)  # 50 / sqrt(12) / sqrt(50) is 2
    floor = retrieval(IDENTITY, batch, network, 100, seed=1)
    assert floor["statistics"]["translator"] == floor["statistics"]["floor"]


def test_ties_do_not_count_as_found() -> None:
    gallery = torch.randn(10, 4, dtype=torch.float64)
    assert style.ranks(gallery, gallery).tolist() == [0] * 10
    alike = gallery[torch.arange(10) // 2]  # every donor has a twin
    assert style.ranks(alike, alike).tolist() == [1] * 10


def test_style_statistics_are_blind_to_where_and_see_colour_and_grain() -> None:
    image = noise(1, 5)
    one, turned = style.style_statistics(image), style.style_statistics(image.flip(0))
    assert one.shape == (1, 144)
    assert len(style.COLOURS) == 27
    assert torch.equal(one, turned)
    plain = style.style_statistics(flat(0.25))
    assert torch.allclose(plain[0, :3], torch.tensor(2 * 64 / 255 - 1).double(), atol=1e-6)  # 0.25 in 8 bits is 64
    assert plain[0, 3:48].abs().max() < 1e-9  # no variance anywhere


def test_a_set_of_equal_pictures_has_no_diversity() -> None:
    same = [torch.ones(4, 3, 5, 5)]
    angles = [torch.eye(2)[[0, 1]][..., None, None]]
    assert style.diversity([same, angles]) == {"mean": pytest.approx(1.0), "sd": pytest.approx(1.0), "sets": 2}


# --------------------------------------------------------------------------------------------------------------------
# Leakage


def test_a_planted_dependence_is_read_whole_and_noise_not_at_all() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 20))
    y = x @ rng.normal(size=(20, 3)) + 5
    found = probe(x, y, seed=0)
    assert found["r2"] > 0.98
    assert abs(found["shuffled"]) <= 0.1
    assert found["dimensions"] == 20
    assert abs(probe(x, rng.normal(size=(120, 3)), seed=0)["r2"]) <= 0.1
    # More numbers than faces: still found, and still nothing where there is nothing.
    wide = rng.normal(size=(120, 600))
    assert abs(ridge_r2(wide, rng.normal(size=(120, 3)), seed=1)) <= 0.1
    low = rng.normal(size=(120, 4))
    assert ridge_r2(low @ rng.normal(size=(4, 600)), low, seed=1) > 0.95
    assert ridge_r2(np.ones((120, 7)), y, seed=1) == 0.0  # a code that says the same of every face
    # Numbers that are nearly always 0 and then 1 say nothing, and must not be taken at their word.
    rare = (rng.random((120, 50)) < 0.02) + 1e-6 * rng.normal(size=(120, 50))
    assert abs(ridge_r2(rare, rng.normal(size=(120, 3)), seed=1)) <= 0.1


def test_with_many_faces_and_one_number_the_regression_is_ordinary_least_squares() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 1))
    y = x + rng.normal(size=(400, 1))
    order = np.random.default_rng((3, 0xB0)).permutation(400)
    fit, score = order[:200], order[200:]
    slope, offset = np.polyfit(x[fit, 0], y[fit, 0], 1)
    unexplained = ((y[score, 0] - slope * x[score, 0] - offset) ** 2).sum()
    expected = 1 - unexplained / ((y[score, 0] - y[fit, 0].mean()) ** 2).sum()
    assert 0.2 < expected < 0.7
    assert ridge_r2(x, y, seed=3) == pytest.approx(expected, abs=0.01)


def test_shapes_are_read_without_place_size_and_turn_and_poses_with_the_turn() -> None:
    rng = np.random.default_rng(2)
    base = np.array([[8.0, 10], [24, 10], [16, 16], [10, 24], [22, 24]]) + rng.normal(0, 1, (40, 5, 2))
    angle = rng.uniform(-0.4, 0.4, 40)
    turn = np.stack([np.stack([np.cos(angle), -np.sin(angle)], 1), np.stack([np.sin(angle), np.cos(angle)], 1)], 1)
    moved = rng.uniform(0.5, 2, (40, 1, 1)) * (base @ turn.transpose(0, 2, 1)) + rng.normal(0, 9, (40, 1, 2))
    shapes, same = aligned_shapes(base), aligned_shapes(moved)
    # The mean shape's own direction is arbitrary: compare what does not depend on it.
    np.testing.assert_allclose(shapes @ shapes.T, same @ same.T, rtol=1e-6)
    assert abs(np.corrcoef(poses(moved)[:, 0], angle)[0, 1]) > 0.8
    assert poses(moved).std(axis=0) == pytest.approx([1, 1])


def test_a_code_that_carries_the_landmarks_is_called_leaking_and_one_of_colours_is_not() -> None:
    batch = styled_faces(80)

    def layout(images: Tensor, landmarks: Tensor) -> list[Tensor]:
        return [landmarks.flatten(1), torch.zeros(len(images), 4, 2, 2)]

    def looks(images: Tensor, landmarks: Tensor) -> list[Tensor]:
        return [style.style_statistics(images)]

    leaking = made_by(PERFECT.translate, style=layout, structure=looks, nats=lambda images, landmarks: 7.0)
    sound = made_by(PERFECT.translate, style=lambda i, p: [i.mean((2, 3))], structure=lambda i, p: layout(i, p))
    bad, good = leakage(leaking, batch, seed=0), leakage(sound, batch, seed=0)
    assert bad["shape_from_style"]["r2"] > 0.7  # places and turns bend it: not all is linear
    assert bad["style_from_structure"]["r2"] > 0.3
    assert good["shape_from_style"]["r2"] < 0.1
    assert good["style_from_structure"]["r2"] < 0.1
    assert good["shape_from_statistics"]["r2"] < 0.1
    known = latent(leaking, batch)
    assert (known["units"], known["active"], known["kl_nats"]) == (26, 10, 7.0)
    assert 1 <= known["directions"] <= 10
    assert latent(PERFECT, batch) == {}


# --------------------------------------------------------------------------------------------------------------------
# All of it, on an arm and on a translator that leaks


class Reader(nn.Module):
    """A judge that knows the face of each picture by its colours, and a perfect one at that."""

    def __init__(self, batch: Batch):
        super().__init__()
        self.known, self.truth = batch.image.mean((2, 3)), batch.landmarks

    def forward(self, image: Tensor) -> DetectorOutput:
        return DetectorOutput(self.truth[torch.cdist(image.mean((2, 3)), self.known).argmin(1)])


def test_an_arm_gets_the_same_report_and_one_that_changes_nothing_keeps_everything() -> None:
    batch = styled_faces(24, seed=4)
    calls = []

    def nothing(content: Batch, donors: Batch, strength: Tensor, draws: Tensor) -> Batch:
        calls.append((len(content.image), float(strength[0]), float(draws.sum())))
        return content

    subject = subject_of_arm(nothing, "nothing", FIVE, CropConfig(size=SIZE), seed=3, strength=0.5)
    network = tiny_network()
    found, pictures = measure(subject, batch, Reader(batch), SIZE, network, gallery=10, styles=3, sheet=2)
    assert calls[0] == calls[2]  # sixteen faces at a time: the same draws for the same pictures
    assert {strength for _, strength, _ in calls} == {0.5}
    assert found["structure"]["gap"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert found["structure"]["drift"] == [[0.0, 0.0]] * 5
    assert found["reconstruction"]["translator"]["psnr"]["mean"] > 60
    assert found["reconstruction"]["stranger"]["psnr"]["mean"] < 20
    assert found["distance"]["colour"]["to_content"] < 0.01 < found["distance"]["colour"]["to_style"]
    assert found["diversity"]["translator"]["mean"] == pytest.approx(0, abs=1e-9)
    assert found["diversity"]["real"]["mean"] > 0.001
    assert "shape_from_style" not in found["leakage"]
    assert pictures.matrix.shape == (2, 2, 3, SIZE, SIZE)
    taker = subject_of_arm(lambda c, d, s, u: c._replace(image=d.image), "taker", FIVE, CropConfig(size=SIZE))
    figures, _ = measure(taker, batch, Reader(batch), SIZE, network, gallery=10, styles=3, sheet=2)
    assert figures["structure"]["gap"]["mean"] > 0.05
    assert figures["structure"]["style_nme"] == pytest.approx(0, abs=1e-6)
    assert figures["retrieval"]["statistics"]["translator"]["top1"] == 1.0


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    folder = tmp_path_factory.mktemp("data") / "drawn"
    draw_faces(DrawFaces(out=folder, count=12, size=64, val_frac=0, test_frac=0, png=True))
    return FaceDataset.open(folder)


@pytest.fixture(scope="module")
def leaking(faces: FaceDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VUNet whose nats cost next to nothing, and a judge that knows its dozen faces by heart."""
    folder = tmp_path_factory.mktemp("runs")
    loop = {"log_every": 20, "checkpoint_every": 1000, "preview_every": 0}
    crop = CropConfig(size=SIZE, scale=1.6)
    resnet = ResNetConfig(width=8, head="flatten", max_pool=False)
    train_detector(
        detector_job(
            folder / "judge", faces.folder, {"steps": 50, "batch_size": 12, **loop}, crop=crop, augment=NO_AUGMENTATION,
            lr=1e-2, resnet=resnet,
        )
    )  # fmt: skip
    config = translator_job(
        folder / "weak", faces.folder, {"steps": 80, "batch_size": 6, **loop}, augment=NO_AUGMENTATION,
        kl=KLConfig(target_nats=None, start=1e-4, weight=1e-4), reconstruction=RECONSTRUCTION_PRESETS["pixels"],
        judge=folder / "judge",
    )  # fmt: skip
    train_translator(config)
    return folder / "weak"


def test_a_vunet_of_weak_kl_on_drawn_faces_is_reported_as_leaking(leaking: Path) -> None:
    figures = json.loads((leaking / "judge.json").read_text())
    assert figures["real_nme"] < 0.03
    assert figures["gap"] > 0.05
    assert figures["style_nme"] < 0.8 * figures["swap_nme"]  # laid out like the face that gave the style
    said = verdict(figures)
    assert "LEAKING" in said
    assert "learn wrong labels" in said
    first = json.loads((leaking / "metrics.jsonl").read_text().splitlines()[0])
    assert first["kl_weight_per_nat"] == pytest.approx(1e-4)
    assert figures["kl_nats"] > 300
    assert kl_warning(501, SIZE) is not None


def test_the_verb_leaves_figures_tables_and_pictures_that_the_page_shows(
    leaking: Path, faces: FaceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Assess(translator=leaking, data=faces.folder, split="train", sheet_size=3, styles=3, accelerator="cpu")
    main(config)
    said = capsys.readouterr().err
    assert "not of held-out faces" in said
    assert "structure gap, NME points: +" in said
    out = leaking / "assessment"
    assert {p.name for p in out.iterdir()} == {"assessment.json", "assessment.md", "drift.png", "matrix.png", "sheets"}
    assert {p.name for p in (out / "sheets").iterdir()} == {
        "swaps.png",
        "styles.png",
        "reconstructions.png",
        "truth.png",
        "pairs.png",
        "worst.png",
    }
    assert min(image_size(out / "sheets" / "swaps.png")) > 4 * SIZE
    found = json.loads((out / "assessment.json").read_text())
    judged = json.loads((leaking / "judge.json").read_text())
    # The same faces, partners and judge as at the end of the training.
    assert found["structure"]["gap"]["mean"] == pytest.approx(judged["gap"], rel=1e-3)
    assert found["structure"]["style_nme"] == pytest.approx(judged["style_nme"], rel=1e-3)
    assert found["held_out"] is False
    assert found["latent"]["units"] == 8 * (4 * 4 + 8 * 8)
    assert found["latent"]["kl_nats"] > 300
    assert found["features"].startswith("layer1, layer2, layer3 of detector")
    assert "which is the judge" in found["features"]
    # A translator that draws the donor whole is as far from the true answer as the donor's picture.
    truth = found["drawn"]
    assert truth["translator"]["face"]["psnr"] == pytest.approx(truth["donor"]["face"]["psnr"], abs=4)
    text = report(Report(inputs=(leaking, out), out=tmp_path / "page.html")).read_text(encoding="utf-8")
    assert text.count("Distance to the true answer of each swap") == 2  # in the run, and on its own
    assert "NOT held out" in text
    assert text.count("data:image/png") >= 12
    with pytest.raises(UserError, match="assessment: already there"):
        main(config)


def test_what_cannot_be_assessed_is_refused_with_what_was_expected(
    leaking: Path, faces: FaceDataset, tmp_path: Path
) -> None:
    good = {
        "translator": leaking,
        "data": faces.folder,
        "split": "train",
        "out": tmp_path / "out",
        "accelerator": "cpu",
    }
    with pytest.raises(UserError, match="no face with split 'val'"):
        main(Assess(**{**good, "split": "val"}))
    with pytest.raises(UserError, match="holds a translator, expected a detector"):
        main(Assess(**good, judge=leaking))
    with pytest.raises(ValueError, match="faces is 3, expected at least 8"):
        Assess(**good, faces=3)
    with pytest.raises(ValueError, match="expected one"):
        Assess(**good, vgg19=Path("a"), feature_detector=Path("b"))
    assert not (tmp_path / "out").exists()
    card = {"data": [{"content_hash": faces.content_hash, "split": "train"}]}
    assert [held_out(card, faces, s) for s in ("train", "val")] == [False, True]
    assert held_out({"data": [{"content_hash": "other", "split": "train"}]}, faces, "val") is None
    everything = {"data": [{"content_hash": faces.content_hash, "split": None}]}
    assert [held_out(everything, faces, s) for s in ("train", "val")] == [False, False]


@pytest.fixture(scope="module")
def newborn(faces: FaceDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge of one update."""
    run = tmp_path_factory.mktemp("runs") / "judge"
    train_detector(
        detector_job(run, faces.folder, {"steps": 1, "preview_every": 0}, crop=CropConfig(size=SIZE, scale=1.6))
    )
    return run


@pytest.mark.parametrize("name", names_without_run())
def test_every_arm_can_be_assessed(name: str, faces: FaceDataset, newborn: Path) -> None:
    subject = open_styled(name, newborn, 0, torch.device("cpu")).subject
    batch = CropCache(faces, subject.crop).batch(np.arange(6))
    made = swapped(subject, batch, torch.arange(6), torch.arange(6).roll(1))
    assert made.shape == batch.image.shape
    assert float((made - batch.image).abs().max()) > 0.02
    assert subject.schema == faces.schema
    assert subject.by_fit == (name == "warp"), "whose donors are chosen by shape, as in a training"
    assert torch.equal(made, swapped(subject, batch, torch.arange(6), torch.arange(6).roll(1)))


def test_an_arm_made_for_a_mark_up_gets_the_whole_report(
    faces: FaceDataset, newborn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    given = {"data": faces.folder, "split": "train", "judge": newborn, "out": out, "accelerator": "cpu"}
    main(Assess(arm="make_up", sheet_size=2, styles=2, **given))
    found = json.loads((out / "assessment.json").read_text())
    assert found["translator"]["model"] == "arm make_up"
    assert "it has nothing to learn" in protocol(found)
    assert "drawn" in found
    assert "structure gap" in capsys.readouterr().err
    with pytest.raises(ValueError, match="arm translator is a trained network: name its run with --translator"):
        Assess(arm="translator", **given)
    with pytest.raises(ValueError, match="no style arm is called 'makeup'; there are jitter, "):
        Assess(arm="makeup", **given)
    with pytest.raises(ValueError, match="expected --judge and --out"):
        Assess(arm="make_up", data=faces.folder)


def test_the_true_answer_of_no_swap_is_the_face_itself_and_of_a_swap_has_its_landmarks(faces: FaceDataset) -> None:
    crop = CropConfig(size=SIZE, scale=1.6)
    same = true_swaps(faces, np.array([2, 5]), np.array([2, 5]), crop)
    for made, i in zip(same, (2, 5), strict=True):
        assert np.array_equal(made, crop_sample(faces[i], crop)[0])  # kept as PNG: to the bit
    swapped = true_swaps(faces, np.array([2]), np.array([5]), crop)
    assert not np.array_equal(swapped[0], same[0])
    region = face_region(np.array([[[4.0, 4], [12, 4], [12, 12], [4, 12]]]), 16)
    assert 8 * 8 <= int(region.sum()) <= 10 * 10
    assert region[0, 0, 8, 8] == 1
    assert region[0, 0, 1, 1] == 0


def test_the_keep_rate_curve_is_drawn_and_shown_with_its_data_set(faces: FaceDataset, tmp_path: Path) -> None:
    rows = [{"kept": k / 10, "max_disagreement": 0.01 * k, "mean_error": 0.02 + 0.001 * k} for k in range(1, 11)]
    with_error, without = io.BytesIO(), io.BytesIO()
    keep_curve_plot(rows, with_error)
    keep_curve_plot([{k: v for k, v in row.items() if k != "mean_error"} for row in rows], without)
    assert with_error.getvalue()[:4] == without.getvalue()[:4] == b"\x89PNG"
    assert with_error.getvalue() != without.getvalue()
    (tmp_path / "dataset.yaml").write_text((faces.folder / "dataset.yaml").read_text())
    (tmp_path / "trust.json").write_text(json.dumps({"curve": rows}))
    text = report(Report(inputs=(tmp_path,), out=tmp_path / "page.html")).read_text(encoding="utf-8")
    assert "Keep-rate curve" in text
    (tmp_path / "trust.json").write_text(json.dumps({"curve": [{"kept": 1}]}))
    with pytest.raises(UserError, match="not a keep-rate curve of this version"):
        report(Report(inputs=(tmp_path,), out=tmp_path / "page.html"))
