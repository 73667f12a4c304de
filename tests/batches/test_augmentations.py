"""What operation.py asks of every augmentation of the table, and what they become together."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from builders.arm_contract import centroid, far_apart
from builders.dots import PLACES, paint
from stylealign.batches.augment import AUGMENTATIONS, PRESETS, AugmentConfig, OperationConfig, apply, augment
from stylealign.batches.augment import motion as motions
from stylealign.batches.augment.motion import Motion, carried, carried_back, evened, move, resample, still
from stylealign.batches.augment.operation import NUM_DRAWS
from stylealign.batches.batch import Batch, take_faces, to_float
from stylealign.batches.camera import resample_matrix
from stylealign.batches.structure_maps import gaussians
from stylealign.config import from_dict, to_dict
from stylealign.errors import UserError
from stylealign.face.schema import FIVE, WFLW98, LandmarkSchema
from stylealign.toyfaces import draw_face, random_structure, random_style

NUM, SIZE = 4, 80
MOVES, LOOKS, COVERS = (
    [name for name, entry in AUGMENTATIONS.items() if entry.kind == kind]
    for kind in ("geometric", "photometric", "occluding")
)
# Random numbers at every pixel leave a dot's centre less certain, not elsewhere: these are asked for the median alone.
NOISY = {
    "gaussian_noise", "colour_noise", "shot_noise", "speckle", "grain", "salt_and_pepper", "jpeg", "posterise", "rain",
    "snow", "solarise",
}  # fmt: skip


def draws_of(seed: int = 0, count: int = NUM) -> Tensor:
    return torch.rand(count, NUM_DRAWS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch_of(images: np.ndarray, landmarks: np.ndarray) -> Batch:
    count, points = landmarks.shape[:2]
    return Batch(
        image=to_float(torch.from_numpy(images)),
        landmarks=torch.from_numpy(landmarks).float(),
        visible=torch.ones(count, points, dtype=torch.bool),
        crop_from_source=torch.eye(2, 3, dtype=torch.float64).repeat(count, 1, 1),
        index=torch.arange(count),
        weight=torch.ones(count),
    )


@pytest.fixture(scope="module")
def faces() -> Batch:
    drawn = []
    for i in range(NUM):
        rng = np.random.default_rng(i)
        drawn.append(draw_face(random_structure(rng, max_yaw=20), random_style(rng), SIZE))
    images, landmarks, _ = (np.stack(column) for column in zip(*drawn, strict=True))
    return batch_of(images, landmarks)


def dot_faces(seed: int, scale: float = 1.2) -> tuple[Batch, Batch]:
    """Pictures of five dots, and the same without dots."""
    rng = np.random.default_rng(seed)
    landmarks = np.stack([PLACES * scale + rng.uniform(-1, 1, (5, 2)) + (SIZE - 1) / 2 for _ in range(NUM)])
    ground = np.array([20, 20, 20])
    dotted = np.stack([paint(each, SIZE, SIZE, ground) for each in landmarks])
    plain = np.broadcast_to(ground.astype(np.uint8), dotted.shape)
    return batch_of(dotted, landmarks), batch_of(plain.copy(), landmarks)


def changed(name: str, batch: Batch, strength: float = 1.0, seed: int = 0) -> Batch:
    return apply(name, batch, torch.full((len(batch.image),), strength), draws_of(seed), WFLW98)


def same(a: Batch, b: Batch, atol: float = 0.0) -> bool:
    return all(
        torch.equal(x.isnan(), y.isnan()) and torch.allclose(x.nan_to_num(), y.nan_to_num(), rtol=0, atol=atol)
        if x.is_floating_point()
        else torch.equal(x, y)
        for x, y in zip(a, b, strict=True)
    )


# --------------------------------------------------------------------------------------------------------------------
# The contract


def test_there_are_at_least_thirty_of_every_kind_that_was_asked_for() -> None:
    assert len(AUGMENTATIONS) >= 30
    assert min(len(MOVES), len(LOOKS), len(COVERS)) >= 10
    assert all(entry.summary and entry.full for entry in AUGMENTATIONS.values())


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_strength_0_is_the_identity(name: str, faces: Batch) -> None:
    found = changed(name, faces, 0.0)
    assert same(found, faces, atol=3e-5)
    some = apply(name, faces, torch.tensor([0.0, 1.0] * (NUM // 2)), draws_of(), WFLW98)
    torch.testing.assert_close(some.image[::2], faces.image[::2], rtol=0, atol=3e-5)
    torch.testing.assert_close(some.landmarks[::2], faces.landmarks[::2], rtol=0, atol=3e-5)
    assert bool(some.visible[::2].all())


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_operation_changes_pictures_and_nothing_else(name: str, faces: Batch) -> None:
    found = changed(name, faces)
    assert found.image.shape == faces.image.shape
    assert bool(torch.isfinite(found.image).all())
    assert -1 <= float(found.image.min()) <= float(found.image.max()) <= 1
    assert float((found.image - faces.image).abs().mean(dim=(1, 2, 3)).max()) > 0.01
    kept = found._replace(image=faces.image)
    if name in COVERS:
        assert bool(
            found.visible.any(),
        )
        assert not bool(changed(name, faces._replace(visible=torch.zeros_like(faces.visible))).visible.any())
        kept = kept._replace(visible=faces.visible)
    if name in MOVES:
        kept = kept._replace(landmarks=faces.landmarks, crop_from_source=faces.crop_from_source)
    assert same(kept, faces)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_batch_is_its_faces_one_by_one_and_the_draws_decide(name: str, faces: Batch) -> None:
    before = Batch(*(t.clone() for t in faces))
    strength, draws = torch.tensor([0.2, 1.0, 0.6, 0.9]), draws_of()
    together = apply(name, faces, strength, draws, WFLW98)
    for i in range(NUM):
        row = torch.tensor([i])
        single = apply(name, take_faces(faces, row), strength[row], draws[row], WFLW98)
        assert same(single, take_faces(together, row), atol=1e-4)
    assert same(before, faces), "the arguments are left alone"
    assert torch.equal(draws, draws_of())
    torch.manual_seed(1)
    assert same(apply(name, faces, strength, draws, WFLW98), together)
    if name not in ("flip", "grey", "sharpen", "local_contrast", "posterise", "solarise", "equalise", "auto_contrast",
                    "gaussian_blur", "defocus_blur", "few_pixels", "jpeg", "washed_colour"):  # fmt: skip
        assert not same(apply(name, faces, strength, draws_of(1), WFLW98), together), "no draw has a say"


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_unlabelled_faces_and_flat_pictures_do_no_harm(name: str, faces: Batch) -> None:
    nobody = faces._replace(landmarks=torch.full_like(faces.landmarks, math.nan))
    found = changed(name, nobody)
    assert bool(torch.isfinite(found.image).all())
    assert bool(found.landmarks.isnan().all())
    some = faces._replace(landmarks=faces.landmarks.clone())
    some.landmarks[:, 7] = math.nan
    found = changed(name, some)
    assert found.landmarks.isnan().any(dim=2).sum() == NUM
    for value in (-1.0, 0.3, 1.0):
        flat = faces._replace(image=torch.full_like(faces.image, value))
        assert bool(torch.isfinite(changed(name, flat).image).all())


# --------------------------------------------------------------------------------------------------------------------
# The dots: image and label agree to a tenth of a pixel


def dots_found(dotted: Batch, plain: Batch) -> Tensor:
    """How far each dot that is well inside the picture lies from its label (n, 2).

    A bent dot is no Gaussian any more, but its brightest place is where the dot's middle went: the top, to 0.01 px, of
    a cubic fitted to the logarithms of the pixels near the label.
    """
    off = []
    size = dotted.image.shape[-1]
    y, x = torch.meshgrid(*[torch.arange(size, dtype=torch.float64)] * 2, indexing="ij")
    fine = torch.cartesian_prod(*[torch.arange(-50, 51, dtype=torch.float64) / 100] * 2)

    def terms(u: Tensor, v: Tensor) -> Tensor:
        return torch.stack([u**i * v**j for i in range(4) for j in range(4 - i)], dim=1)

    finely = terms(*fine.T)
    for face in range(len(dotted.image)):
        difference = (dotted.image[face] - plain.image[face]).norm(dim=0).double()
        for where in dotted.landmarks[face].double():
            if bool(((where > 6) & (where < size - 7)).all()):
                u, v = x - where[0], y - where[1]
                near = (torch.hypot(u, v) < 3) & (difference > 0)
                fitted = torch.linalg.lstsq(terms(u[near], v[near]), difference[near].log()[:, None]).solution
                off.append(fine[(finely @ fitted)[:, 0].argmax()])
    return torch.stack(off)


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_dots_painted_on_landmarks_are_found_on_the_moved_landmarks(name: str, strength: float) -> None:
    found = []
    for seed in range(4):
        dotted, plain = (
            apply(name, batch, torch.full((NUM,), strength), draws_of(seed), FIVE) for batch in dot_faces(seed)
        )
        found.append(dots_found(dotted, plain))
    off = torch.cat(found)
    assert len(off) > 40
    assert float(off.norm(dim=1).median()) < 0.05
    assert float(off.norm(dim=1).quantile(0.9)) < 0.1
    assert float(off.norm(dim=1).max()) < 0.15, "bilinear reading leaves 0.09 of a dot that is only made larger"
    assert float(off.mean(dim=0).norm()) < 0.03


@pytest.mark.parametrize("name", [*LOOKS, *COVERS])
def test_dots_painted_on_landmarks_stay_there_or_are_said_to_be_hidden(name: str, faces: Batch) -> None:
    """As the style arms are tested: a face with dots and the same without, flat under the dots."""
    off, asked = [], 0
    for seed in range(2):
        flat, marked = faces.image.clone(), faces.image.clone()
        chosen = [far_apart(points, SIZE) for points in faces.landmarks]
        for i, some in enumerate(chosen):
            for j in some:
                dot, wide = (gaussians(faces.landmarks[i : i + 1, j : j + 1], SIZE, s)[0, 0] for s in (1.0, 2.0))
                ground = (wide * faces.image[i]).sum(dim=(1, 2), keepdim=True) / wide.sum()
                under = (dot > 0) | (wide > 0.1)
                flat[i] = torch.where(under, ground, flat[i])
                colour = ground + dot * (torch.where(ground > 0, -0.9, 0.9) - ground)
                marked[i] = torch.where(under, colour, marked[i])
        strength = 1.0 if name in COVERS else 0.2 if name == "few_pixels" else 0.5  # coarser, a dot leaves its window
        plain, dotted = (changed(name, faces._replace(image=image), strength, seed) for image in (flat, marked))
        assert torch.equal(plain.visible, dotted.visible)
        assert name in COVERS or bool(dotted.visible.all())
        for i, some in enumerate(chosen):
            before, after = marked[i] - flat[i], dotted.image[i] - plain.image[i]
            for j in some:
                where = faces.landmarks[i, j]
                x, y = (int(v) for v in where.round())
                here = (slice(None), slice(y - 1, y + 2), slice(x - 1, x + 2))
                left = float(after[here].norm()) / float(before[here].norm())
                asked += 1
                if name in COVERS and not 0.3 < left < 0.7:  # near a half, a dot is wider than its place
                    another = name == "transplant" and left > 0.5  # another dot may have come to lie there
                    assert another or bool(dotted.visible[i, j]) == (left > 0.5), f"{left:.2f} of the dot is left"
                whole = (slice(None), slice(y - 3, y + 4), slice(x - 3, x + 4))
                clear = torch.allclose(after[whole], before[whole], atol=0.05) if name in COVERS else left > 0.2
                if clear:
                    off.append(centroid(after, where) - centroid(before, where))
    off = torch.stack(off)
    assert len(off) > 0.1 * asked, "too few dots survive to say anything"
    assert float(off.norm(dim=1).median()) < 0.1
    assert float(off.mean(dim=0).norm()) < (0.05 if name in NOISY else 0.03)
    if name not in NOISY:
        assert float(off.norm(dim=1).quantile(0.9)) < 0.12


def test_a_spot_of_a_picture_of_few_pixels_keeps_its_place() -> None:
    at = torch.arange(float(SIZE))
    for factor in (1.7, 3.5, 6.0):
        for tents, most in ((True, 0.1), (False, factor)):
            spots = resample_matrix(torch.tensor([factor]), SIZE, tents)[0]  # a column: what becomes of one pixel
            places = (at[:, None] * spots).sum(dim=0) / spots.sum(dim=0)
            off = (places - at)[15:-15].abs().max()
            assert off < most
            assert tents or off > 0.25, "the mean of each stretch moves it"


@pytest.mark.parametrize("name", MOVES)
def test_the_inverse_map_takes_moved_landmarks_back(name: str, faces: Batch) -> None:
    motion = AUGMENTATIONS[name].function(faces, torch.ones(NUM), draws_of(2))
    assert isinstance(motion, Motion)
    points = torch.rand(NUM, 50, 2, generator=torch.Generator().manual_seed(0)) * (SIZE - 1)
    there = carried(motion, points, SIZE)
    assert float((there - points).norm(dim=2).max()) > 0.5
    torch.testing.assert_close(carried_back(motion, there, SIZE), points, rtol=0, atol=2e-3)


def test_a_bend_that_would_fold_the_picture_is_made_smaller() -> None:
    random = 30 * torch.randn(2, 2, 21, 21, generator=torch.Generator().manual_seed(0))
    random[1] *= 0.001
    even = evened(random, SIZE)
    assert torch.equal(even[1], random[1]), "a gentle one stays as it is"
    motion = Motion(still(2), even)
    points = torch.rand(2, 200, 2, generator=torch.Generator().manual_seed(1)) * (SIZE - 1)
    torch.testing.assert_close(carried_back(motion, carried(motion, points, SIZE), SIZE), points, rtol=0, atol=1e-2)


def test_a_turned_head_s_nose_goes_further_than_its_ears(faces: Batch) -> None:
    draws = torch.zeros(NUM, NUM_DRAWS, dtype=torch.float64)  # to one side
    moved = apply("turn", faces, torch.full((NUM,), 0.6), draws, WFLW98).landmarks - faces.landmarks
    nose, left, right = moved[:, 54, 0], moved[:, 3, 0], moved[:, 29, 0]
    assert bool((nose > 1.0).all())
    assert bool((nose > left + 1.5).all() & (nose > right + 1.5).all())
    assert float(moved[..., 1].abs().max()) < 0.5


# --------------------------------------------------------------------------------------------------------------------
# Together


def test_many_motions_are_one_resampling_and_the_labels_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(motions, "resample", lambda *args: calls.append(1) or resample(*args))
    names = [name for name in MOVES if name not in ("scale", "rotate")]
    ops = tuple(OperationConfig(name=name, prob=0.6, strength=(0.1, 0.5)) for name in names)
    found = []
    for seed in range(6):
        dotted, plain = dot_faces(seed, scale=0.8)
        config = AugmentConfig(colour=0, grey_prob=0, blur_prob=0, occlusion_prob=0, ops=ops)
        moved, ground = (
            augment(batch, 64, config, torch.Generator().manual_seed(seed), FIVE) for batch in (dotted, plain)
        )
        assert moved.image.shape == (NUM, 3, 64, 64)
        found.append(dots_found(moved, ground))
    assert len(calls) == 12
    off = torch.cat(found)
    assert len(off) > 60
    assert float(off.norm(dim=1).median()) < 0.05
    assert float(off.norm(dim=1).max()) < 0.15
    assert float(off.mean(dim=0).norm()) < 0.03


def test_the_affine_of_a_tilted_crop_is_that_of_its_middle(faces: Batch) -> None:
    moved = changed("perspective", faces)
    middle = torch.full((NUM, 1, 2), (SIZE - 1) / 2)
    motion = AUGMENTATIONS["perspective"].function(faces, torch.ones(NUM), draws_of())
    for step in (0.0, 0.01):
        there = carried(motion, middle.double() + step, SIZE)
        by_affine = moved.crop_from_source @ torch.tensor([*[(SIZE - 1) / 2 + step] * 2, 1.0], dtype=torch.float64)
        torch.testing.assert_close(there[:, 0], by_affine, rtol=0, atol=1e-4)


def test_switching_an_operation_off_changes_none_of_the_others(faces: Batch) -> None:
    off = {"colour": 0.0, "grey_prob": 0.0, "blur_prob": 0.0, "occlusion_prob": 0.0}
    names = ("elastic", "shift", "shadow", "rectangle")

    def found(*chosen: str, noise: float = 0.0) -> Batch:
        ops = tuple(OperationConfig(name=name, prob=0.5) for name in chosen)
        config = AugmentConfig(**off, noise=noise, ops=ops)
        return augment(faces, SIZE, config, torch.Generator().manual_seed(4), WFLW98)

    whole = found(*names)
    assert torch.equal(found("elastic", "shift").landmarks, whole.landmarks)
    assert torch.equal(found("shift", "elastic", "hue").landmarks, whole.landmarks)
    assert torch.equal(found("rectangle").visible.all(dim=1), whole.visible.all(dim=1))
    assert not torch.equal(found("shift").landmarks, whole.landmarks)
    noisy = found(*names, noise=0.1)  # the usual key `noise` moves none of theirs
    assert torch.equal(noisy.landmarks, whole.landmarks)
    assert torch.equal(noisy.visible, whole.visible)
    assert not torch.equal(noisy.image, whole.image)
    # The usual keys' numbers do not move either: without operations all is as it was.
    plain = augment(faces, SIZE, AugmentConfig(noise=0.1), torch.Generator().manual_seed(4), WFLW98)
    ops = (OperationConfig(name="hue", prob=1.0, strength=(0.0, 0.0)),)
    assert same(
        augment(faces, SIZE, AugmentConfig(noise=0.1, ops=ops), torch.Generator().manual_seed(4), WFLW98), plain
    )
    never = AugmentConfig(noise=0.1, ops=(OperationConfig(name="turn", prob=0.0),))
    assert same(augment(faces, SIZE, never, torch.Generator().manual_seed(4), WFLW98), plain)


def test_the_same_operation_twice_draws_twice(faces: Batch) -> None:
    shift = OperationConfig(name="shift", prob=1.0, strength=(0.5, 0.5))
    still_config = {"rotation": 0.0, "scale": 0.0, "shift": 0.0, "flip": False}
    once, twice = (
        augment(faces, SIZE, AugmentConfig(**still_config, ops=ops), torch.Generator().manual_seed(4), WFLW98)
        for ops in ((shift,), (shift, shift))
    )
    ways = [(batch.landmarks - faces.landmarks)[:, 0] for batch in (once, twice)]
    torch.testing.assert_close(ways[0].norm(dim=1), torch.full((NUM,), 0.125 * SIZE))
    assert float((ways[1] - 2 * ways[0]).norm(dim=1).min()) > 0.5


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_functions_of_the_generator(preset: str, faces: Batch) -> None:
    config = AugmentConfig(preset=preset)
    many = take_faces(faces, torch.arange(NUM).repeat(8))
    before = many.image.clone()
    a, b = (augment(many, 64, config, torch.Generator().manual_seed(1), WFLW98) for _ in range(2))
    other = augment(many, 64, config, torch.Generator().manual_seed(2), WFLW98)
    assert same(a, b)
    assert not torch.equal(a.image, other.image)
    assert torch.equal(before, many.image)
    assert bool(torch.isfinite(a.image).all() & torch.isfinite(a.landmarks).all())
    assert float(a.image.abs().max()) <= 1 + 1e-6
    assert bool(a.visible.all()) == (preset == "standard")


def test_any_roll_turns_faces_all_round(faces: Batch) -> None:
    many = take_faces(faces, torch.arange(NUM).repeat(64))
    found = augment(many, 64, AugmentConfig(preset="any_roll", flip=False), torch.Generator().manual_seed(1), WFLW98)
    down = found.landmarks[:, 16] - found.landmarks[:, 51]  # from the bridge to the chin
    angles = torch.atan2(down[:, 1], down[:, 0])
    counts = torch.histc(angles, 8, -math.pi, math.pi)
    assert float(counts.min()) >= 5


def test_a_flip_of_the_table_renumbers_and_needs_mirror_twins(faces: Batch) -> None:
    ops = (OperationConfig(name="flip", prob=1.0, strength=(1.0, 1.0)),)
    config = AugmentConfig(rotation=0, scale=0, shift=0, flip=False, colour=0, grey_prob=0, blur_prob=0,
                           occlusion_prob=0, ops=ops)  # fmt: skip
    found = augment(faces, SIZE, config, torch.Generator().manual_seed(1), WFLW98)
    order = torch.as_tensor(WFLW98.flip_permutation.copy())
    expected = faces.landmarks[:, order].clone()
    expected[..., 0] = SIZE - 1 - expected[..., 0]
    torch.testing.assert_close(found.landmarks, expected)
    plain = LandmarkSchema(name="plain", num_points=98)
    assert same(augment(faces, SIZE, config, torch.Generator().manual_seed(1), plain), faces, atol=3e-5)


def test_motions_alone_leave_looks_out() -> None:
    config = AugmentConfig(preset="strong", noise=0.1).motions_alone()
    kinds = {AUGMENTATIONS[op.name].kind for op in config.operations}
    assert kinds == {"geometric"}
    assert config.colour == config.noise == config.occlusion_prob == 0
    assert config.rotation == AugmentConfig().rotation
    still_config = AugmentConfig(rotation=0, scale=0, shift=0)
    assert not still_config.is_geometric
    assert AugmentConfig(rotation=0, scale=0, shift=0, ops=(OperationConfig(name="turn"),)).is_geometric


def test_a_recipe_names_operations() -> None:
    values = {"ops": [{"name": "elastic", "prob": 0.3, "strength": [0.2, 1]}, {"name": "jpeg"}]}
    config = from_dict(AugmentConfig, values, "augment")
    assert config.operations == (
        OperationConfig(name="elastic", prob=0.3, strength=(0.2, 1.0)), OperationConfig(name="jpeg")
    )  # fmt: skip
    assert from_dict(AugmentConfig, to_dict(config), "augment") == config
    assert all(op.name in AUGMENTATIONS for ops in PRESETS.values() for op in ops)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ops": [{"name": "elastik"}]}, r"augment.ops\[0\]: no augmentation is called 'elastik'; there are rotate"),
        ({"ops": [{"name": "jpeg", "prob": 1.5}]}, r"augment.ops\[0\]: augmentation jpeg of prob 1.5 and strength"),
        ({"ops": [{"name": "jpeg", "strength": [0.5, 0.2]}]}, "expected a share of 0 to 1, and a range in 0 to 1"),
        ({"ops": [{"name": "jpeg"}], "preset": "strong"}, "has the preset 'strong' and ops of its own"),
        ({"preset": "wild"}, "augment.preset: found 'wild', expected one of 'standard'"),
    ],
)
def test_operations_without_meaning_are_one_sentence(values: dict, said: str) -> None:
    with pytest.raises(UserError, match=said) as found:
        from_dict(AugmentConfig, values, "augment")
    assert len(str(found.value)) < 2000


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_numbers_are_drawn_on_the_cpu_and_used_on_the_device(name: str, faces: Batch) -> None:
    """On the device "meta" there are shapes and no numbers: a tensor of another device is refused there."""
    there = faces.to("meta")
    strength = torch.ones(NUM)
    entry = AUGMENTATIONS[name]
    try:
        found = entry.function(there, strength if entry.kind == "geometric" else strength.to("meta"), draws_of())
    except (RuntimeError, NotImplementedError) as error:
        if "meta" in str(error) and "item" in str(error):
            pytest.skip("asks for a number")
        raise
    if isinstance(found, Motion):
        assert found.matrix.device.type == "cpu"
        assert found.bend is None or found.bend.device.type == "meta"
    else:
        assert found.image.device.type == "meta"


def test_where_an_operation_moves_is_where_the_picture_shows_it(faces: Batch) -> None:
    """`move` reads once, where the motion says: at a place of the answer, the picture of the place it came from."""
    ramp = torch.linspace(-1, 1, SIZE).expand(NUM, 3, SIZE, SIZE)
    motion = AUGMENTATIONS["elastic"].function(faces, torch.ones(NUM), draws_of())
    tilt = AUGMENTATIONS["perspective"].function(faces, 0.5 * torch.ones(NUM), draws_of(1))
    both = Motion(tilt.matrix, motion.bend)
    shown = move(faces._replace(image=ramp), both, SIZE).image[:, 0]
    axis = torch.arange(20.0, 60.0, 5.0)
    places = torch.cartesian_prod(axis, axis).expand(NUM, -1, 2)
    x = carried_back(both, places, SIZE)[..., 0]
    read = shown[torch.arange(NUM)[:, None], places[..., 1].long(), places[..., 0].long()]
    inside = (x > 1) & (x < SIZE - 2)
    torch.testing.assert_close(read[inside], (2 * x / (SIZE - 1) - 1)[inside], rtol=0, atol=1e-3)
