"""Arms that keep the face's own pixels: what they may do is measured on the pictures, by other means than their own."""

import math

import cv2
import numpy as np
import pytest
import torch

from stylealign.batches import camera, pixels
from stylealign.batches.batch import Batch, take_faces, to_float, to_uint8
from stylealign.errors import UserError
from stylealign.face.schema import FIVE, WFLW98
from stylealign.styling import alignment, degrade, light
from stylealign.styling.arm import NUM_DRAWS, Arm
from stylealign.styling.context import context
from stylealign.styling.make_up import make_up
from stylealign.styling.occlude import occlude, occlude_aligned
from stylealign.toyfaces import draw_face, random_structure, random_style

SIZE, COUNT = 64, 6
MOVES_NOTHING = (light.relight, light.shadow, degrade.degrade, degrade.degrade_like)


def drawn_batch(first: int) -> Batch:
    faces = []
    for i in range(first, first + COUNT):
        rng = np.random.default_rng(i)
        faces.append(draw_face(random_structure(rng, max_yaw=30), random_style(rng), SIZE))
    images, landmarks, visible = (np.stack(column) for column in zip(*faces, strict=True))
    return Batch(
        image=to_float(torch.from_numpy(images)),
        landmarks=torch.from_numpy(landmarks),
        visible=torch.from_numpy(visible),
        crop_from_source=torch.eye(2, 3, dtype=torch.float64).repeat(COUNT, 1, 1),
        index=torch.arange(COUNT),
        weight=torch.ones(COUNT),
    )


@pytest.fixture(scope="module")
def faces() -> tuple[Batch, Batch]:
    return drawn_batch(0), drawn_batch(100)


def uniform(seed: int = 0, count: int = COUNT) -> torch.Tensor:
    return torch.rand(count, NUM_DRAWS, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rows(batch: Batch, chosen: list[int]) -> Batch:
    return take_faces(batch, torch.tensor(chosen))


def unlabelled(batch: Batch) -> Batch:
    return batch._replace(landmarks=torch.full_like(batch.landmarks, math.nan))


def test_faces_without_landmarks_are_left_alone_and_so_are_those_of_donors_without_where_they_are_needed(
    faces: tuple[Batch, Batch],
) -> None:
    content, donors = faces
    nobody = unlabelled(content)
    for arm in (context, occlude_aligned):
        answer = arm(nobody, unlabelled(donors), torch.ones(COUNT), uniform())
        assert torch.equal(answer.image, content.image)
        assert torch.equal(answer.visible, content.visible)
    answer = context(content, unlabelled(donors), torch.ones(COUNT), uniform())
    assert not torch.equal(answer.image, content.image), "the donor's picture is used as it lies"


def measured_motion(before: np.ndarray, after: np.ndarray, at: np.ndarray, radius: int = 8) -> np.ndarray:
    """(N, 2) px by which patches round `at` moved, by phase correlation of the grey pictures' slopes."""
    moved = []
    window = cv2.createHanningWindow((2 * radius + 1, 2 * radius + 1), cv2.CV_64F)
    for x, y in np.rint(at).astype(int):
        cut = np.s_[y - radius : y + radius + 1, x - radius : x + radius + 1]
        a, b = (cv2.Laplacian(cv2.GaussianBlur(g, (0, 0), 1.5), cv2.CV_64F)[cut] for g in (before, after))
        moved.append(cv2.phaseCorrelate(a, b, window)[0])
    return np.array(moved)


@pytest.mark.parametrize("arm", MOVES_NOTHING)
def test_landmarks_stay_in_the_picture_where_they_were(arm: Arm, faces: tuple[Batch, Batch]) -> None:
    content, donors = faces
    strength = torch.full((COUNT,), 0.5 if arm is degrade.degrade else 1.0)
    answer = arm(content, donors, strength, uniform(1))
    motions = []
    for i in range(COUNT):
        grey = [
            cv2.cvtColor(to_uint8(b.image[i : i + 1])[0].numpy(), cv2.COLOR_RGB2GRAY).astype(np.float64)
            for b in (content, answer)
        ]
        features = content.landmarks[i, 33:].numpy()  # not the contour: an edge's place along itself cannot be measured
        inside = ((features > 9) & (features < SIZE - 10)).all(axis=1) & content.visible[i, 33:].numpy()
        motions.append(np.median(measured_motion(*grey, features[inside]), axis=0))
    # A shadow's edge or noise near a landmark misleads the measure on single faces; an arm that moves faces would move
    # all of them.
    assert np.median(np.abs(motions)) < 0.1
    assert np.abs(motions).max() < 0.25
    assert np.abs(np.mean(motions, axis=0)).max() < 0.07


def test_the_measure_of_motion_sees_a_third_of_a_pixel(faces: tuple[Batch, Batch]) -> None:
    grey = cv2.cvtColor(to_uint8(faces[0].image[:1])[0].numpy(), cv2.COLOR_RGB2GRAY).astype(np.float64)
    moved = cv2.warpAffine(grey, np.array([[1, 0, 0.33], [0, 1, 0.0]]), (SIZE, SIZE), flags=cv2.INTER_CUBIC)
    features = faces[0].landmarks[0, 51:].numpy()
    features = features[((features > 9) & (features < SIZE - 10)).all(axis=1)]
    assert np.median(measured_motion(grey, moved, features), axis=0) == pytest.approx([0.33, 0.0], abs=0.1)


def test_the_face_itself_is_left_alone_by_context(faces: tuple[Batch, Batch]) -> None:
    content, donors = faces
    answer = context(content, donors, torch.ones(COUNT), uniform())
    difference = (answer.image - content.image).abs().amax(dim=1).numpy()
    for i in range(COUNT):
        hull = cv2.convexHull(content.landmarks[i].numpy())
        inside = np.array(
            [[cv2.pointPolygonTest(hull, (float(x), float(y)), True) for x in range(SIZE)] for y in range(SIZE)]
        )
        assert difference[i][inside > 1].max() < 0.02
        assert difference[i][:, [0, -1]].mean() > 0.05  # and the background is another


def test_the_hull_is_the_convex_hull_of_the_landmarks(faces: tuple[Batch, Batch]) -> None:
    landmarks = faces[0].landmarks.clone()
    landmarks[0, 40:60] = math.nan  # some unknown points
    distance = alignment.hull_distance(landmarks, SIZE, forehead=0.0)[:, 0].numpy()
    higher = alignment.hull_distance(landmarks, SIZE)[:, 0].numpy()
    for i, points in enumerate(landmarks.numpy()):
        hull = cv2.convexHull(points[np.isfinite(points).all(axis=1)])
        truth = -np.array(
            [[cv2.pointPolygonTest(hull, (float(x), float(y)), True) for x in range(SIZE)] for y in range(SIZE)]
        )
        sure = np.abs(truth) > 1.5  # of a hull 30 px wide, 1 / cos(pi / 24) is a quarter of a pixel, and its grid half
        assert ((distance[i] < 0) == (truth < 0))[sure].all()
        near = (truth > -8) & (truth < -1.5)
        assert np.abs(distance[i] - truth)[near].max() < 1.2
        assert (higher[i] <= distance[i] + 1e-3).all()
        # The forehead: the topmost landmark moved up by 0.8 of the rise lies inside, by 1.2 outside.
        known = points[np.isfinite(points).all(axis=1)]
        (left, top), (right, chin) = known.min(axis=0), known.max(axis=0)
        apex = known[known[:, 1].argmin()]
        x = round((left + right) / 2 + 0.85 * (apex[0] - (left + right) / 2))
        inside, outside = (round(top - share * alignment.FOREHEAD * (chin - top)) for share in (0.8, 1.2))
        if outside >= 0:
            assert higher[i, inside, x] < 0 < higher[i, outside, x]


def test_the_donor_is_bent_so_that_its_landmarks_lie_on_the_contents(faces: tuple[Batch, Batch]) -> None:
    content, donors = faces
    where, aligned = alignment.donor_places(content.landmarks, donors.landmarks, SIZE)
    assert aligned.all()
    for i in range(COUNT):
        errors = []
        for mine, theirs in zip(content.landmarks[i].numpy(), donors.landmarks[i].numpy(), strict=True):
            if mine.min() > 2 and mine.max() < SIZE - 3:
                found = cv2.remap(where[i].numpy(), mine[None, None, :1], mine[None, None, 1:], cv2.INTER_LINEAR)[0, 0]
                errors.append(np.linalg.norm(found - theirs))
        assert np.mean(errors) < 0.8
        assert max(errors) < 4


def test_the_affine_of_two_faces_is_the_one_that_made_them() -> None:
    """Undone exactly where the motion is a similarity, and drawn towards one by a tenth where it is a squeeze."""
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.uniform(10, 50, (1, 20, 2)))
    turn = torch.tensor([[[0.8, -0.5], [0.5, 0.8]]], dtype=torch.float64)
    moved = points @ turn.transpose(1, 2) + torch.tensor([3.0, -4.0])
    moved[0, 3] = math.nan
    affine, ok = alignment.donor_affine(points, moved)
    assert ok.all()
    torch.testing.assert_close(affine, torch.cat([turn, torch.tensor([[[3.0], [-4.0]]])], dim=2), atol=1e-9, rtol=0)
    squeezed = points * torch.tensor([0.6, 1.0])
    affine, _ = alignment.donor_affine(points, squeezed)
    assert 0.6 < affine[0, 0, 0] < 0.65
    assert 0.95 < affine[0, 1, 1] < 1
    few = torch.full_like(points, math.nan)
    few[0, :2] = points[0, :2]
    affine, ok = alignment.donor_affine(points, few)
    assert not ok.any()
    assert torch.equal(affine, torch.eye(2, 3, dtype=torch.float64)[None])


def test_relight_takes_the_side_that_the_donor_is_lit_from() -> None:
    """A face of even skin, its donor dark on the right, turned by 90 degrees: the content darkens at its own right."""
    circle = torch.tensor([[math.cos(t), math.sin(t)] for t in np.linspace(0, 2 * math.pi, 16, endpoint=False)])
    circle[0] *= 1.2  # the face's right; tells how it is turned
    points = 31.5 + 20 * circle
    turned = 31.5 + 20 * torch.stack([-circle[:, 1], circle[:, 0]], dim=1)
    ramp = torch.linspace(0.4, -0.6, SIZE)
    batch = rows(drawn_batch(0), [0])
    content = batch._replace(
        image=torch.zeros(1, 3, SIZE, SIZE), landmarks=points[None], visible=torch.ones(1, 16, dtype=torch.bool)
    )
    donor = content._replace(
        image=ramp[None, None, :, None].expand(1, 3, SIZE, SIZE).contiguous(), landmarks=turned[None]
    )
    image = light.relight(content, donor, torch.ones(1), uniform(0, 1)).image[0].mean(dim=0)
    row, column = image[32, 18:46], image[18:46, 32]
    assert row.diff().max() < 0.002
    assert row[0] - row[-1] > 0.3
    assert np.ptp(column.numpy()) < 0.1
    unaligned = light.relight(content, unlabelled(donor), torch.ones(1), uniform(0, 1)).image[0].mean(dim=0)
    assert unaligned[18, 32] - unaligned[46, 32] > 0.3  # as the donor's picture lies


def test_a_shift_of_logits_keeps_black_white_and_order() -> None:
    values = torch.linspace(-1, 1, 101).view(1, 1, 1, -1).expand(1, 3, 1, -1)
    for amount in (-2.0, 0.7):
        shifted = pixels.shift_logits(values, torch.full((1, 3, 1, 1), amount))
        assert shifted[0, 0, 0, 0] == -1
        assert shifted[0, 0, 0, -1] == pytest.approx(1.0)
        assert (shifted[0, 0, 0].diff() > 0).all()
    # p = 1/2 has odds 1; log 3 makes them 3, which is p = 3/4.
    assert pixels.shift_logits(torch.zeros(1, 3, 1, 1), torch.full((1, 3, 1, 1), math.log(3.0)))[
        0, 0, 0, 0
    ] == pytest.approx(0.5)


def test_shadows_darken_and_their_edges_are_where_the_draws_say(faces: tuple[Batch, Batch]) -> None:
    content, donors = faces
    flat = content._replace(image=torch.zeros_like(content.image))
    draws = uniform()
    draws[:, 0], draws[:, 1], draws[:, 2], draws[:, 5], draws[:, 6] = (
        0.0,
        0.0,
        0.5,
        0.0,
        1.0,
    )  # an upright edge in the middle, sharp, dark
    draws[:, 7:10], draws[:, 10] = 0.5, 0.0
    image = light.shadow(flat, donors, torch.ones(COUNT), draws).image
    # The dark half is 2 logits down: p = 1 / (1 + e^2) = 0.119, which is -0.762.
    assert torch.allclose(image[..., : SIZE // 2 - 1], torch.tensor(-0.7616), atol=1e-3)
    assert torch.allclose(image[..., SIZE // 2 + 1 :], torch.tensor(0.0), atol=1e-6)


def test_the_cosine_transform_and_one_block_worked_by_hand() -> None:
    """A block of 16 levels above the middle is one coefficient: 8 x 16 = 128, in steps of 16 at quality 50 exactly 8
    of them; a block of 11 gives 88 = 5.5 steps, rounded to the even 6 = 96, which is 12 levels.
    """
    transform = camera.dct_matrix(16)
    torch.testing.assert_close(transform @ transform.T, torch.eye(16), atol=1e-5, rtol=0)
    block = torch.rand(8, 8)
    torch.testing.assert_close(
        transform[:8, :8] @ block @ transform[:8, :8].T, torch.from_numpy(cv2.dct(block.numpy())), atol=1e-5, rtol=0
    )
    steps = camera.quantisation(camera.LUMINANCE, torch.tensor([50.0]))
    assert torch.equal(steps[0], torch.tensor(camera.LUMINANCE).float())
    plane = torch.tensor([16.0, 11.0]).repeat_interleave(8).expand(1, 1, 8, 16)
    back = camera._quantise(plane, steps)
    torch.testing.assert_close(
        back, torch.tensor([16.0, 12.0]).repeat_interleave(8).expand(1, 1, 8, 16), atol=1e-4, rtol=0
    )
    # Quality 25 doubles the steps, 75 halves them: the scale is 5000 / 25 = 200 % and 200 - 150 = 50 %.
    assert camera.quantisation(camera.LUMINANCE, torch.tensor([25.0, 75.0]))[:, 0, 0].tolist() == [32.0, 8.0]


@pytest.mark.parametrize("quality", [10, 40, 90])
def test_jpeg_loses_what_a_jpeg_file_loses(quality: int, faces: tuple[Batch, Batch]) -> None:
    images = to_uint8(faces[0].image)
    ours = to_uint8(camera.jpeg(to_float(images), torch.full((COUNT,), float(quality)))).numpy().astype(int)
    for image, mine in zip(images.numpy(), ours, strict=True):
        code = cv2.imencode(
            ".jpg",
            image[..., ::-1],
            [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420],
        )[1]
        file = cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1].astype(int)
        loss = np.abs(file - image).mean()
        assert np.abs(file - mine).mean() < 0.25 * loss + 1.0  # rounding at other places, not another loss


def test_blur_motion_and_resampling_keep_a_dots_centre() -> None:
    axis = torch.arange(48.0)
    dot = torch.exp(-((axis[None, :] - 21.3) ** 2 + (axis[:, None] - 25.6) ** 2) / (2 * 3.0**2)).expand(2, 3, 48, 48)
    blurred = camera.both_ways(dot, camera.gaussian_matrix(torch.tensor([1.0, 2.0]), 48))
    fewer = camera.both_ways(dot, camera.resample_matrix(torch.tensor([1.6, 3.0]), 48))
    smeared = camera.smear(dot, camera.motion_kernels(torch.tensor([3.0, 5.0]), torch.tensor([0.3, 2.0]), 4))
    for changed in (blurred, fewer, smeared):
        mass = changed[:, 0].double()
        x, y = (
            (mass.sum(dim=1) * axis).sum(-1) / mass.sum(dim=(1, 2)),
            (mass.sum(dim=2) * axis).sum(-1) / mass.sum(dim=(1, 2)),
        )
        assert x == pytest.approx([21.3] * 2, abs=0.05)
        assert y == pytest.approx([25.6] * 2, abs=0.05)
        assert (changed.amax(dim=(1, 2, 3)) < dot.max()).all()
    # Variances add: a Gaussian of 3 px blurred by 2 px is one of the square root of 13.
    spread = (blurred[1, 0].sum(dim=0) * (axis - 21.3) ** 2).sum() / blurred[1, 0].sum()
    assert float(spread) == pytest.approx(13.0, rel=0.02)


def test_degrade_like_goes_down_to_the_donor_and_never_up(faces: tuple[Batch, Batch]) -> None:
    content, _ = faces
    grey = to_uint8(content.image).numpy()
    soft = np.stack([cv2.GaussianBlur(g, (0, 0), 1.3) for g in grey])
    blurry = content._replace(image=to_float(torch.from_numpy(soft)))
    ones, draws = torch.ones(COUNT), uniform()
    answer = degrade.degrade_like(content, blurry, ones, draws).image
    # The content after the same blur is the right answer: the arm should come most of the way to it.
    before, after = ((x - blurry.image).abs().mean(dim=(1, 2, 3)) for x in (content.image, answer))
    assert (after < 0.5 * before).all()
    assert torch.equal(degrade.degrade_like(content, content, ones, draws).image, content.image)
    back = degrade.degrade_like(
        blurry, content, ones, draws
    ).image  # a sharper donor may still be noisier, never less sharp
    assert (back - blurry.image).abs().mean() < 0.02
    noise = 0.1 * torch.randn(content.image.shape, generator=torch.Generator().manual_seed(0))
    noisy = content._replace(image=(content.image + noise).clamp(-1, 1))
    answer = degrade.degrade_like(content, noisy, ones, draws).image
    added = (answer - content.image).std(dim=(1, 2, 3))
    assert ((added > 0.05) & (added < 0.13)).all()


def test_what_an_object_covers_is_marked_hidden(faces: tuple[Batch, Batch]) -> None:
    """A plain upright bar, placed by its draws: landmarks well inside are hidden, those well outside as visible as
    before."""
    content, donors = faces
    draws = uniform()
    draws[:, 0], draws[:, 1], draws[:, 2], draws[:, 3], draws[:, 5] = (
        0.5,
        0.5,
        0.5,
        0.5,
        0.5,
    )  # a level bar across the middle
    draws[:, 6], draws[:, 7] = 0.0, 0.0  # with a sharp edge, plain
    answer = occlude(content, donors, torch.ones(COUNT), draws)
    changed = ((answer.image - content.image).abs().amax(dim=1) > 0.02).float()
    for i in range(COUNT):
        box = content.landmarks[i].min(dim=0).values, content.landmarks[i].max(dim=0).values
        middle, half = (box[0] + box[1]) / 2, (box[1] - box[0]) / 2
        away = (content.landmarks[i, :, 1] - middle[1]).abs() / half.mean()  # the bar is 2 x 0.21 half boxes thick
        hidden = content.visible[i] & ~answer.visible[i]
        assert hidden[(away < 0.17) & content.visible[i]].all()
        assert (away < 0.17).any()
        assert not hidden[away > 0.25].any()
        inside = changed[i, int(middle[1]), :]
        assert inside.mean() > 0.8  # the bar crosses the whole picture
    assert not (answer.visible & ~content.visible).any()  # nothing hidden comes to light


def test_every_kind_of_object_and_region_hides_something(faces: tuple[Batch, Batch]) -> None:
    content, donors = faces
    for arm in (occlude, occlude_aligned):
        for kind in (0.1, 0.3, 0.5, 0.65, 0.8, 0.95):
            draws = uniform(2)
            draws[:, 0] = kind
            answer = arm(content, donors, torch.ones(COUNT), draws)
            assert not torch.equal(answer.image, content.image), (arm, kind)
            hidden = content.visible & ~answer.visible
            # What is marked hidden lies where the picture changed.
            spots = content.landmarks.round().long().clamp(0, SIZE - 1)
            change = (answer.image - content.image).abs().amax(dim=1)
            at = change[torch.arange(COUNT)[:, None], spots[..., 1], spots[..., 0]]
            assert hidden.sum() == 0 or float((at[hidden] > 0.01).float().mean()) > 0.8, (arm, kind)


def test_make_up_paints_lips_lids_and_cheeks_and_nothing_else(faces: tuple[Batch, Batch]) -> None:
    content, donors = faces
    arm = make_up(WFLW98)
    draws = uniform(5)
    draws[:, 3:12] = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).repeat(3)  # red, wherever it goes
    ones = torch.ones(COUNT)
    answer = arm(content, donors, ones, draws)
    assert torch.equal(arm(content, donors, 0 * ones, draws).image, content.image)
    nobody = unlabelled(content)
    assert torch.equal(arm(nobody, donors, ones, draws).image, content.image)
    change = (answer.image - content.image).numpy()
    for i, points in enumerate(content.landmarks.numpy()):
        lower_lip = np.rint((points[85] + points[94]) / 2).astype(int)
        brow, chin = np.rint(points[[35, 16]]).astype(int)
        if max(lower_lip) < SIZE:
            red, green, blue = change[i, :, lower_lip[1], lower_lip[0]]
            assert red > -0.01
            assert min(green, blue) < -0.05
        if max(chin) < SIZE - 3:
            assert np.abs(change[i, :, chin[1], chin[0]]).max() < 0.1
        assert np.abs(change[i, :, max(brow[1] - 6, 0), brow[0]]).max() < 0.1
    single = arm(rows(content, [2]), rows(donors, [2]), ones[:1], draws[2:3])
    torch.testing.assert_close(single.image, answer.image[2:3], atol=1e-4, rtol=0)
    with pytest.raises(UserError, match="five: has no curve outer_upper_lip"):
        make_up(FIVE)
