"""Arms put together: chains, donors, trainings that restyle on the fly, translators as arms, MixStyle."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from builders import tiny
from builders.dots import dots
from builders.networks import job as detector_job
from stylealign.batches.augment import invert, transform
from stylealign.batches.batch import Batch
from stylealign.batches.crops import CropCache
from stylealign.cli import main as cli
from stylealign.config import from_dict, to_dict
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.image import read_image
from stylealign.detectors import DETECTORS
from stylealign.detectors.mixstyle import MixStyle, MixStyleConfig, mix_styles
from stylealign.detectors.resnet import ResNet18, ResNetConfig
from stylealign.errors import UserError
from stylealign.evaluation.draw import flipped
from stylealign.face.crop import CropConfig
from stylealign.face.geometry import apply
from stylealign.face.sample import FaceSample, Provenance
from stylealign.face.schema import SCHEMAS
from stylealign.jobs.train_detector.job import TrainDetector, main
from stylealign.styling.arms import ARMS, ArmEntry, names_without_run
from stylealign.styling.chain import PRESETS, ArmConfig, ChainConfig, StyleConfig, draw_arms, open_chain, restyle
from stylealign.styling.donors import DonorPool, donor_faces, to_planes
from stylealign.styling.learned import translator_arm, translator_from_crop
from stylealign.styling.on_the_fly import Styling, open_styling
from stylealign.training.weights import read_card
from stylealign.translators.warp.fit import descriptors, reference_shape

FIVE, CPU, CROP = SCHEMAS["five"], torch.device("cpu"), CropConfig(size=32)


def batch_of(num: int, seed: int = 0, size: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        image=torch.rand(num, 3, size, size, generator=generator) - 0.5,
        landmarks=torch.rand(num, 5, 2, generator=generator) * size, visible=torch.ones(num, 5, dtype=torch.bool),
        crop_from_source=torch.eye(2, 3, dtype=torch.float64).expand(num, 2, 3),
        index=torch.arange(num), weight=torch.ones(num),
    )  # fmt: skip


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def opened(config: ChainConfig, prob: float = 1.0):
    return open_chain(config, prob, CROP, FIVE, CPU)


def changed(a: Batch, b: Batch) -> Tensor:
    """(B,) whether a face's picture is another."""
    return (a.image != b.image).flatten(1).any(dim=1)


# --------------------------------------------------------------------------------------------------------------- chains


def test_the_share_of_restyled_faces_is_prob_and_the_others_are_untouched() -> None:
    batch, donors = batch_of(400), batch_of(400, 1)
    found = restyle(batch, donors, opened(ChainConfig(preset="adain"), 0.6), seeded(0))
    assert abs(float(changed(found, batch).float().mean()) - 0.6) < 0.08  # standard error 0.024


def test_a_chain_is_a_function_of_its_generator_s_state() -> None:
    batch, donors, chain = batch_of(8), batch_of(8, 1), opened(ChainConfig(preset="free_jitter"), 0.7)
    torch.manual_seed(1)
    first = restyle(batch, donors, chain, seeded(5))
    torch.manual_seed(2)
    assert torch.equal(restyle(batch, donors, chain, seeded(5)).image, first.image)
    assert not torch.equal(restyle(batch, donors, chain, seeded(6)).image, first.image)


def test_one_draws_an_arm_a_batch_by_weight_and_groups_follow_one_another() -> None:
    arms = (
        ArmConfig(kind="adain", prob=3), ArmConfig(kind="fda", prob=1, group=2), ArmConfig(kind="histogram", prob=1),
        ArmConfig(kind="jitter", prob=0, group=2),
    )  # fmt: skip
    chain = opened(ChainConfig(arms=arms))
    assert [link.kinds for link in chain] == [("adain", "histogram"), ("fda", "jitter")]
    drawn = np.array([draw_arms(chain, seeded(i)) for i in range(400)])
    assert abs((drawn[:, 0] == 0).mean() - 0.75) < 0.08
    assert (drawn[:, 1] == 0).all(), "an arm of weight 0 is never drawn"
    # As many batches, done one arm after another by hand.
    batch, donors = batch_of(3), batch_of(3, 1)
    found = restyle(batch, donors, chain, seeded(9))
    generator = seeded(9)
    for link, which in zip(chain, draw_arms(chain, generator), strict=True):
        draws = torch.rand(3, 18, generator=generator, dtype=torch.float64)
        batch = link.arms[which](batch, donors, (0.5 + 0.5 * draws[:, 1]).float(), draws[:, 2:])
    assert torch.equal(found.image, batch.image)


def test_all_puts_every_arm_on_its_own_share_of_the_faces() -> None:
    arms = (ArmConfig(kind="jitter", prob=0.25), ArmConfig(kind="adain", prob=0.5))
    chain = opened(ChainConfig(arms=arms, choose="all"), 0.5)
    assert [(link.kinds, link.prob) for link in chain] == [(("jitter",), 0.125), (("adain",), 0.25)]


def test_presets_are_chains_of_known_arms_and_every_arm_is_one() -> None:
    for name in [*PRESETS, *names_without_run()]:
        groups = StyleConfig(preset=name).groups()
        assert all(arm.kind in ARMS for group in groups for arm in group)
        assert (name == "none") == (not groups)
    assert StyleConfig(preset="jitter").needs_donors() is False
    assert StyleConfig(preset="free").needs_donors() is True


def test_bent_photographs_are_restyled_by_the_whole_mixture() -> None:
    first, *then = StyleConfig(preset="warp_mixture").groups()
    assert [arm.kind for arm in first] == ["warp"]
    links = [[(arm.kind, arm.prob, arm.strength) for arm in group] for group in then]
    mixture = StyleConfig(preset="mixture").groups()
    assert links == [[(arm.kind, arm.prob, arm.strength) for arm in group] for group in mixture]


def test_a_recipe_s_style_comes_back_from_its_own_text() -> None:
    values = {
        "arms": [{"kind": "adain"}, {"kind": "jitter", "prob": 0.5, "strength": [0.2, 0.4], "group": 1}],
        "prob": 0.5,
        "donors": ["x"],
    }
    config = from_dict(StyleConfig, values)
    assert config.arms[1] == ArmConfig(kind="jitter", prob=0.5, strength=(0.2, 0.4), group=1)
    assert from_dict(StyleConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"preset": "fre"}, "no style preset is called 'fre'; there are none, free, free_jitter, mixture, "
                            "warp_mixture"),
        ({"arms": [{"kind": "adian"}]}, "no style arm is called 'adian'; there are jitter, histogram"),
        ({"arms": [{"kind": "mixstyle"}]}, r"a layer of the detector, not an arm: set resnet\.mixstyle\.prob"),
        ({"arms": [{"kind": "translator"}]}, "arm translator: needs a run folder"),
        ({"arms": [{"kind": "fda", "run": "x"}]}, "arm fda: takes no run folder"),
        ({"arms": [{"kind": "fda", "strength": [0.6, 0.5]}]}, r"strength 0\.6 to 0\.5"),
        ({"arms": [{"kind": "fda", "prob": 0}]}, "the arms fda all have prob 0"),
        ({"arms": [{"kind": "fda"}], "preset": "free"}, "expected one of the two"),
        ({"prob": 1.5}, r"style\.prob is 1\.5, expected 0 to 1"),
        ({"donor_split": "val"}, "without style.donors"),
    ],
)  # fmt: skip
def test_a_wrong_style_is_refused_in_a_sentence(values: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        from_dict(StyleConfig, values, "style")


# --------------------------------------------------------------------------------------------------------------- donors


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    """24 drawn faces: train, val and test."""
    folder = tmp_path_factory.mktemp("styling")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLEALIGN_CACHE", str(folder / "cache"))
    return tiny.drawn(folder / "drawn")


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, faces: FaceDataset) -> None:
    monkeypatch.setenv("STYLEALIGN_CACHE", str(faces.folder.parent / "cache"))


def copied(folder: Path, faces: FaceDataset, split: str = "train", schema=None, labelled: bool = False) -> FaceDataset:
    """Another data set of the same pictures, unlabelled and without boxes."""
    samples = [
        FaceSample(id=f"copy/{s.id}", image=s.image, split=split, landmarks=s.landmarks if labelled else None)
        for s in faces
    ]
    return write_dataset(folder, samples, schema=schema or faces.schema, name=folder.name)


def test_donors_of_the_training_data_set_are_its_training_split_and_no_other_may_be_asked_for(
    faces: FaceDataset,
) -> None:
    train = faces.select("train")
    # Trained on a label budget: the rest of the split may be donors.
    (found,) = donor_faces([faces.folder], None, [train.take([0, 1])], None)
    assert found.ids() == train.ids()
    for split in ("val", "test"):
        with pytest.raises(UserError, match=f"split {split} of .* is not trained on"):
            donor_faces([faces.folder], split, [train], None)


def test_unlabelled_faces_of_the_training_data_set_may_be_donors(tmp_path: Path, faces: FaceDataset) -> None:
    train = list(faces.select("train"))
    samples = [s if i % 2 else dataclasses.replace(s, split="street", landmarks=None) for i, s in enumerate(train)]
    mixed = write_dataset(tmp_path / "mixed", samples, schema=faces.schema, name="mixed")
    (found,) = donor_faces([mixed.folder], "street", [mixed.select("train")], None)
    assert found.ids() == [s.id for s in samples if s.split == "street"]


def test_pictures_of_held_out_faces_are_no_donors_under_another_name_either(
    tmp_path: Path, faces: FaceDataset, capsys
) -> None:
    train = faces.select("train")
    copied(tmp_path / "copy", faces)
    (found,) = donor_faces([tmp_path / "copy"], None, [train], faces.select("val"))
    assert found.ids() == [f"copy/{name}" for name in train.ids()]
    assert (
        f"{len(faces) - len(train)} of {len(faces)} donors left out: pictures that the training holds out"
        in capsys.readouterr().err
    )
    copied(tmp_path / "test", faces.select("test"))
    with pytest.raises(UserError, match=r"all .* donors left out, pictures that the training holds out"):
        donor_faces([tmp_path / "test"], None, [train], None)


def test_pictures_made_from_held_out_faces_are_no_donors(
    tmp_path: Path, faces: FaceDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor those in which a held-out face gave the style."""
    train, ids = faces.select("train"), {split: faces.select(split).ids() for split in ("train", "val", "test")}
    pairs = [
        (ids["train"][0], ids["train"][1]), (ids["val"][0], ids["train"][1]), (ids["train"][2], ids["val"][0]),
        (ids["train"][3], f"{ids['train'][0]} + {ids['test'][0]}"), (ids["test"][1], None), (ids["train"][4], None),
    ]  # fmt: skip
    made = [
        dataclasses.replace(
            train[i], id=f"made{i}", provenance=Provenance(content_id=one, style_id=other, translator="t", seed=0)
        )
        for i, (one, other) in enumerate(pairs)
    ]

    def chosen(name: str, **inputs: dict[str, str]) -> list[str]:
        data = write_dataset(
            tmp_path / name, made, schema=faces.schema, name=name, image_root=faces.image_root,
            how={"verb": "generate", "inputs": inputs},
        )  # fmt: skip
        (found,) = donor_faces([data.folder], None, [train], faces.select("val"))
        return found.ids()

    same, other = {"content_hash": faces.content_hash}, {"content_hash": "another"}
    assert chosen("both", data=same, donors=same) == ["made0", "made5"]
    assert "4 of 6 donors left out: pictures that the training holds out" in capsys.readouterr().err
    assert chosen("styles", data=other, donors=same) == ["made0", "made1", "made4", "made5"]
    assert chosen("chain", data={**other, "made_from": [faces.content_hash]}, donors=other) == ["made0", "made5"]
    assert chosen("neither", data=other, donors=other) == [face.id for face in made]  # ids may be alike by chance


def test_other_data_sets_give_their_training_split_or_all_and_a_test_split_is_warned_of(
    tmp_path: Path, faces: FaceDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    training = [faces.select("train")]

    def chosen(name: str, splits: tuple[str, ...], donor_split: str | None = None) -> list[str]:
        folder = tmp_path / name
        if not folder.exists():
            dots(folder, 6, splits=splits, name=name)
        return [name for found in donor_faces([folder], donor_split, training, None) for name in found.ids()]

    assert chosen("a", ("photographs", "films")) == [f"a{i}" for i in range(6)]
    assert capsys.readouterr().err == ""
    assert chosen("b", ("train", "val", "test")) == ["b0", "b3"]
    assert "2 faces of split train taken as donors, the other 4 left alone" in capsys.readouterr().err
    assert chosen("b", (), donor_split="test") == ["b2", "b5"]
    assert "warning: pictures of split test of" in capsys.readouterr().err
    with pytest.raises(UserError, match="no face with split 'films'; it has splits"):
        chosen("b", (), donor_split="films")


def test_a_pool_gives_faces_donors_of_their_own_shape_where_they_are_chosen_by_fit(
    tmp_path: Path, faces: FaceDataset
) -> None:
    train = faces.select("train")
    cache = CropCache(train, CROP)
    pool, own = DonorPool([cache], train.schema), torch.arange(len(train))
    like = torch.from_numpy(cache.landmarks)
    chosen = pool.draw((0, 1), len(pool), own, like)
    assert not bool((chosen.index == own).any())
    assert torch.equal(chosen.index, pool.draw((0, 1), len(pool), own, like).index)
    reference = reference_shape(cache.landmarks)
    shapes = descriptors(cache.landmarks, reference, train.schema)
    away = np.linalg.norm(shapes[chosen.index.numpy()] - shapes, axis=1).mean()
    by_chance = [np.linalg.norm(shapes[pool.draw((0, k), len(pool), own).index.numpy()] - shapes, axis=1).mean()
                 for k in range(20)]  # fmt: skip
    assert away < min(by_chance)
    # A turned and smaller picture of donor 3 finds donor 3; a face without landmarks finds somebody.
    turned = like[3:4].flip(-1) * torch.tensor([0.5, -0.5]) + 90
    nobody = torch.full_like(turned, float("nan"))
    found = [int(pool.draw((0, k), 1, None, turned).index) for k in range(8)]
    assert found.count(3) >= 6, "the nearest of those drawn, and 20 draws seldom miss one of a few"
    assert 0 <= int(pool.draw((0, 0), 1, None, nobody).index) < len(pool)


def test_a_pool_that_mirrors_finds_a_face_turned_to_the_other_side(faces: FaceDataset) -> None:
    train = faces.select("train")
    cache = CropCache(train, CROP)
    pool, plain = DonorPool([cache], train.schema, mirrored=True), DonorPool([cache], train.schema)
    order = train.schema.flip_permutation
    wanted = torch.from_numpy(cache.landmarks[:, order] * (-1, 1)).float()  # nobody's own shape, everybody's mirrored
    own, drawn = torch.arange(len(pool)), pool.draw((0, 1), len(pool), None, wanted)
    where = drawn.index.numpy()
    assert (where == own.numpy()).mean() > 0.6, "the nearest of those drawn, and 20 draws seldom miss one of a few"
    as_they_are, away = plain.batch(where), 0
    for i, sample in enumerate(where):
        image, points = drawn.image[i], drawn.landmarks[i].numpy()
        if torch.equal(image, as_they_are.image[i]):
            assert (points == as_they_are.landmarks[i].numpy()).all()
            continue
        away += 1
        seen, there = flipped(cache.images[sample], cache.landmarks[sample], train.schema)
        assert torch.equal(image, to_planes(seen[None])[0])
        assert np.abs(points - there).max() < 1e-4
        of_source = apply(drawn.crop_from_source[i].numpy(), np.asarray(train[int(sample)].landmarks))
        assert np.abs(of_source[order] - points).max() < 1e-3
    assert away > 0.6 * len(pool)
    reference = reference_shape(cache.landmarks)
    shapes = descriptors(wanted.numpy(), reference, train.schema)
    gaps = [
        np.linalg.norm(descriptors(each.landmarks.numpy(), reference, train.schema) - shapes, axis=1).mean()
        for each in (drawn, plain.draw((0, 1), len(pool), None, wanted))
    ]
    assert gaps[0] < 0.5 * gaps[1]
    without_twins = dataclasses.replace(train.schema, flip_pairs=(), boundaries={})
    assert not DonorPool([cache], without_twins, mirrored=True).mirrored


def test_where_nothing_can_be_mirrored_it_is_said(
    tmp_path: Path, faces: FaceDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    train = faces.select("train")
    own = dataclasses.replace(train.schema, name="own", flip_pairs=(), boundaries={})
    without_twins = write_dataset(tmp_path / "own", list(train), schema=own, name="own", image_root=faces.folder)

    def said(preset: str, data: FaceDataset, mirror: bool = True) -> str:
        style = StyleConfig(preset=preset, mirror=mirror)
        open_styling(style, CROP, 0.0, [[CropCache(data, CROP)]], [data.schema], None, CPU)
        return capsys.readouterr().err

    for preset in ("jitter", "adain"):
        assert "style.mirror: no arm of this chain bends donors; none are mirrored" in said(preset, train)
    assert "style.mirror: own does not say which landmarks are twins" in said("warp", without_twins)
    assert "mirror" not in said("warp", train) + said("jitter", without_twins, mirror=False)


def test_a_pool_gives_each_face_another_and_is_a_function_of_its_key(tmp_path: Path, faces: FaceDataset) -> None:
    train = faces.select("train")
    cache = CropCache(train, CROP)
    pool = DonorPool([cache, cache], train.schema)
    own = torch.arange(len(pool))
    seen = np.stack([pool.draw((0, step), len(pool), own).index.numpy() for step in range(300)])
    assert not (seen == np.arange(len(pool))).any()
    assert len(np.unique(seen[:, 0])) == len(pool) - 1
    one, again = pool.draw((0, 7), 4), pool.draw((0, 7), 4)
    assert torch.equal(one.image, again.image)
    expected = cache.batch(one.index.numpy() % len(cache))
    assert torch.equal(one.image, expected.image)
    assert torch.equal(one.landmarks, expected.landmarks)
    assert bool(torch.isnan(DonorPool([cache], FIVE).batch(np.array([0])).landmarks).all()), (
        "another mark-up's are unknown"
    )


# ------------------------------------------------------------------------------------------------------------ trainings


def losses(run: Path) -> list[float]:
    return [row["total"] for row in tiny.metrics_of(run) if "total" in row]


def test_a_training_with_style_is_repeatable_resumable_and_another_one(
    tmp_path: Path, faces: FaceDataset, monkeypatch
) -> None:
    mixing = ResNetConfig(width=4, mixstyle=MixStyleConfig(prob=0.5))
    jobs = {
        name: tiny.detector_job(tmp_path / name, faces.folder, style=style, resnet=mixing)
        for name, style in (
            ("plain", StyleConfig()),
            ("one", StyleConfig(preset="free")),
            ("two", StyleConfig(preset="free")),
        )
    }
    main(jobs["plain"])
    main(jobs["one"])
    assert losses(tmp_path / "plain") != losses(tmp_path / "one")
    # Stopped after a checkpoint, continued by the same command.
    restyled, steps = Styling.restyled, []

    def stops(self, batches, *key):
        steps.append(key[1])
        if len(steps) == 5:
            raise KeyboardInterrupt
        return restyled(self, batches, *key)

    monkeypatch.setattr(Styling, "restyled", stops)
    with pytest.raises(KeyboardInterrupt):
        main(jobs["two"])
    monkeypatch.setattr(Styling, "restyled", restyled)
    main(jobs["two"])
    assert tiny.metrics_of(tmp_path / "one") == tiny.metrics_of(tmp_path / "two")
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == (
        tmp_path / "two" / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("model", DETECTORS)
def test_every_detector_s_faces_are_restyled(
    model: str, tmp_path: Path, faces: FaceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each head's faces go through the arms, in its own mark-up, before its way of learning sees them."""
    seen = []

    def spy(content: Batch, donors: Batch, strength: Tensor, draws: Tensor) -> Batch:
        seen.append((content.landmarks.shape[1], donors.landmarks.shape[1]))
        return content

    monkeypatch.setitem(ARMS, "spy", ArmEntry(summary="nothing, and is looked at", arm=spy))
    config = detector_job(model, tmp_path / "run", faces, steps=1, batch_size=8)
    if model == "dvln":
        config = dataclasses.replace(config, other=(dots(tmp_path / "dots", 6).folder,))
    main(dataclasses.replace(config, style=StyleConfig(preset="spy", prob=1.0)))
    heads = [(98, 98), (5, 5)] if model == "dvln" else [(98, 98)]
    assert seen == [*heads, *heads]  # for a sheet to look at, and for the update
    assert read_image(config.run / "previews" / "styles.png").shape[1] > 4 * 96


def test_donors_are_bent_by_landmarks_that_are_trusted_alone(
    tmp_path: Path, faces: FaceDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    train = faces.select("train")
    trusts = [0.9 if i % 2 else 0.2 for i in range(len(train))]
    mixed = write_dataset(
        tmp_path / "mixed", [dataclasses.replace(face, trust=t) for face, t in zip(train, trusts, strict=True)],
        schema=train.schema, name="mixed", image_root=Path("/"),
    )  # fmt: skip
    pool = DonorPool([CropCache(mixed, CROP)], mixed.schema)
    like = pool.batch(np.arange(len(mixed))).landmarks  # each face's own shape is there, and not always trusted
    drawn = pool.draw((0,), len(mixed), None, like)
    assert all(trusts[i] > 0.5 for i in drawn.index.tolist())
    assert bool(torch.isfinite(drawn.landmarks).all())
    nobody = write_dataset(
        tmp_path / "nobody", [dataclasses.replace(face, trust=0.2) for face in train], schema=train.schema,
        name="nobody", image_root=Path("/"),
    )  # fmt: skip
    bare = [dataclasses.replace(f, landmarks=None, visible=None, point_trust=None, trust=1.0) for f in train]
    unlabelled, some = (
        write_dataset(tmp_path / name, these, schema=train.schema, name=name, image_root=Path("/"))
        for name, these in (("unlabelled", bare), ("some", [*list(train)[:2], *bare[2:]]))
    )
    for donors, said in (
        (mixed, "of {n} donors are not trusted: they are not bent"), (nobody, "larger --half"),
        (unlabelled, "{n} of {n} donors without landmarks of wflw98, and an arm bends donors by theirs"),
        (some, "donors without landmarks of wflw98: they are not bent"),
    ):  # fmt: skip
        job = tiny.detector_job(
            tmp_path / donors.name / "run", faces.folder, {"steps": 1},
            style=StyleConfig(preset="warp", donors=(donors.folder,)),
        )  # fmt: skip
        try:
            main(job)
            text = capsys.readouterr().err
        except UserError as error:
            text = str(error)
        assert said.format(n=len(train)) in text, text


def test_unlabelled_donors_of_another_mark_up_restyle_and_are_on_the_card(tmp_path: Path, faces: FaceDataset) -> None:
    donors = copied(tmp_path / "photographs", faces.select("train"), schema=FIVE)
    main(
        tiny.detector_job(
            tmp_path / "run", faces.folder, {"steps": 1}, style=StyleConfig(preset="free", donors=(donors.folder,))
        )
    )
    assert read_card(tmp_path / "run")["donors"] == [
        {"name": "photographs", "content_hash": donors.content_hash, "faces": len(donors)}
    ]


def test_one_donor_is_warned_of_and_one_face_without_donors_refused(tmp_path: Path, faces: FaceDataset, capsys) -> None:
    one = copied(tmp_path / "one", faces.select("train").take([0]), labelled=True)
    job = tiny.detector_job(
        tmp_path / "run", one.folder, {"steps": 1, "batch_size": 2}, style=StyleConfig(preset="free")
    )
    with pytest.raises(UserError, match=r"style: 1 face to take styles from, .* expected at least 2"):
        main(job)
    main(dataclasses.replace(job, style=StyleConfig(preset="jitter")))
    main(dataclasses.replace(job, run=tmp_path / "two", style=StyleConfig(preset="free", donors=(one.folder,))))
    assert "every restyled face takes the style of 'copy/" in capsys.readouterr().err


def test_flags_choose_a_preset(faces: FaceDataset, capsys) -> None:
    given = [
        "train-detector",
        "--real",
        str(faces.folder),
        "--run",
        "x",
        "--style.preset",
        "free",
        "--style.prob",
        "0.5",
        "--dry-run",
    ]
    assert cli([*given, "--style.donors", "a", "b"]) == 0
    assert "preset: free" in capsys.readouterr().out
    assert cli([*given[:-5], "--style.preset", "fre"]) == 2
    assert "no style preset is called 'fre'" in capsys.readouterr().err


def test_arms_of_a_study_are_styles(tmp_path: Path) -> None:
    from stylealign.jobs.study.plan import Study, plan

    arms = {
        "none": {},
        "free": {"style": {"preset": "free"}},
        "two": {"style": {"arms": [{"kind": "adain"}, {"kind": "fda"}], "donors": ["y"]}},
    }
    study = from_dict(Study, {"data": "x", "out": str(tmp_path), "detectors": {"A": {}}, "arms": arms})
    none, free, two = (cell.config for cell in plan(study))
    assert isinstance(none, TrainDetector)
    assert [len(c.style.groups()) for c in (none, free, two)] == [0, 1, 1]
    assert two.style.donors == (Path("y"),)


# -------------------------------------------------------------------------------------------------- learned translators


class Painter:
    """Draws a dot of the donor's mean colour at each landmark, on the ground of that colour negated: exact about
    places."""

    schema, card, hash = FIVE, {}, "f" * 64
    needs_content, pairs_a_pass = False, 32

    def __init__(self, crop: CropConfig):
        self.crop = crop

    def encode_style(self, image, landmarks=None):
        return [image.mean((2, 3))[..., None, None]]

    def encode_structure(self, landmarks):
        from stylealign.batches.structure_maps import gaussians

        return [gaussians(landmarks, self.crop.size, 1.5).amax(dim=1, keepdim=True)]

    def decode(self, features, style):
        return style[0] * (2 * features[0] - 1)


@pytest.mark.parametrize(
    "crop", [CropConfig(size=48, scale=1.6), CropConfig(size=32, scale=1.2), CropConfig(size=64, scale=2.4)]
)
def test_a_translator_s_picture_is_laid_where_the_landmarks_are(crop: CropConfig, faces: FaceDataset) -> None:
    five = [
        (60, 61, 62, 63, 64, 65, 66, 67),
        (68, 69, 70, 71, 72, 73, 74, 75),
        (54,),
        (76,),
        (82,),
    ]  # wflw98: eyes, nose, corners of the mouth
    cache = CropCache(faces, CropConfig(size=64), 1.25)
    batch, donors = cache.batch(np.arange(3)), cache.batch(np.arange(3, 6))
    batch, donors = (
        b._replace(landmarks=torch.stack([b.landmarks[:, list(p)].mean(dim=1) for p in five], dim=1))
        for b in (batch, donors)
    )
    donors = donors._replace(image=torch.full_like(donors.image, 0.8))
    found = translator_arm(Painter(crop), CropConfig(size=64))(batch, donors, torch.ones(3), torch.rand(3, 16))
    frames = translator_from_crop(batch, CropConfig(size=64), crop)
    corners = transform(invert(frames), torch.tensor([[[0.0, 0.0], [crop.size - 1.0] * 2]]).expand(3, 2, 2))
    for i in range(3):
        low, high = corners[i].round().int().tolist()
        outside = torch.ones(80, 80, dtype=torch.bool)
        outside[max(low[1], 0) : max(high[1], 0) + 1, max(low[0], 0) : max(high[0], 0) + 1] = False
        assert torch.equal(found.image[i][:, outside], batch.image[i][:, outside]), (
            "the photograph stays outside the square"
        )
        for x, y in batch.landmarks[i].tolist():
            if min(x - low[0], y - low[1], high[0] - x, high[1] - y) < 7:
                continue  # in the seam
            px, py = round(x), round(y)
            part = (found.image[i, 0, py - 2 : py + 3, px - 2 : px + 3] + 0.8).clamp_min(0)
            pixel = torch.arange(-2.0, 3.0)
            place = [
                px + float((part.sum(0) * pixel).sum() / part.sum()),
                py + float((part.sum(1) * pixel).sum() / part.sum()),
            ]
            assert np.hypot(place[0] - x, place[1] - y) < 0.5
    still = translator_arm(Painter(crop), CropConfig(size=64))(batch, donors, torch.zeros(3), torch.rand(3, 16))
    assert torch.equal(still.image, batch.image)
    unknown = batch._replace(landmarks=torch.full_like(batch.landmarks, float("nan")))
    kept = translator_arm(Painter(crop), CropConfig(size=64))(unknown, donors, torch.ones(3), torch.rand(3, 16))
    assert torch.equal(kept.image, batch.image), "without landmarks a face stays as it is"
    some = batch._replace(landmarks=batch.landmarks.clone())
    some.landmarks[1, 2] = torch.nan  # the nose, which is not what the box is made of
    some.landmarks[2, :3] = torch.nan
    partly = translator_arm(Painter(crop), CropConfig(size=64))(some, donors, torch.ones(3), torch.rand(3, 16))
    assert bool(torch.isfinite(partly.image).all())
    assert torch.equal(partly.image[0], found.image[0])
    x, y = batch.landmarks[1].T
    for point, drawn in enumerate([True, True, False, True, True]):
        px, py = round(float(x[point])), round(float(y[point]))
        same = torch.equal(partly.image[1, :, py, px], found.image[1, :, py, px])
        assert same == drawn, "a landmark that nobody placed is not drawn, the others are where they were"
    assert torch.equal(partly.image[2], batch.image[2]), "two landmarks are too few"


def test_the_translator_s_square_is_the_one_it_was_trained_on(faces: FaceDataset) -> None:
    """Cut from the picture by the translator's protocol, or found again in a margin crop: the same landmarks in
    the square."""
    wide, theirs = CropCache(faces, CropConfig(size=64), 1.25), CropConfig(size=48, scale=1.6)
    batch = wide.batch(np.arange(len(faces)))
    frames = translator_from_crop(batch, CropConfig(size=64), theirs)
    expected = torch.from_numpy(CropCache(faces, theirs).landmarks)
    torch.testing.assert_close(transform(frames, batch.landmarks), expected, rtol=0, atol=1e-2)
    unlabelled = batch._replace(landmarks=torch.full_like(batch.landmarks, float("nan")))
    torch.testing.assert_close(translator_from_crop(unlabelled, CropConfig(size=64), theirs), frames, rtol=0, atol=1e-3)


def test_a_trained_translator_is_an_arm_of_a_training_and_of_generate(tmp_path: Path, faces: FaceDataset) -> None:
    from stylealign.jobs.train_translator.job import main as train_translator

    train_translator(tiny.translator_job(tmp_path / "translator", faces.folder, {"steps": 1}))
    recipe = {"arms": [{"kind": "translator", "run": str(tmp_path / "translator")}], "prob": 1.0}
    main(tiny.detector_job(tmp_path / "run", faces.folder, {"steps": 2}, style=from_dict(StyleConfig, recipe)))
    (tmp_path / "generate.yaml").write_text(
        json.dumps({"style": {"arms": recipe["arms"]}, "crop": {"size": 40, "scale": 1.75}})
    )
    given = [
        "--data",
        faces.folder,
        "--out",
        tmp_path / "out",
        "--styles-per-face",
        1,
        "--sheets",
        0,
        "--accelerator",
        "cpu",
    ]
    assert cli(["generate", str(tmp_path / "generate.yaml"), *map(str, given)]) == 0
    found = FaceDataset.open(tmp_path / "out")
    assert {found[i].provenance.translator for i in range(len(found))} == {"translator"}
    with pytest.raises(UserError, match="a translator of wflw98 faces, but the training faces are annotated with five"):
        open_chain(ChainConfig(arms=from_dict(StyleConfig, recipe).arms), 1.0, CROP, FIVE, CPU)


# ------------------------------------------------------------------------------------------------------------- MixStyle


def test_mixed_maps_have_the_mixed_statistics() -> None:
    generator = torch.Generator().manual_seed(0)
    spread, middle = (torch.rand(4, 5, 1, 1, generator=generator) for _ in range(2))
    x = torch.randn(4, 5, 9, 9, generator=generator) * (0.1 + spread) + middle
    partner, share = torch.tensor([1, 2, 3, 0]), torch.tensor([0.0, 0.3, 0.8, 1.0])
    found = mix_styles(x, partner, share)
    for i in range(4):
        for statistic in (lambda v: v.mean(dim=(1, 2)), lambda v: v.std(dim=(1, 2))):
            expected = share[i] * statistic(x[i]) + (1 - share[i]) * statistic(x[partner[i]])
            torch.testing.assert_close(statistic(found[i]), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found[3], x[3], rtol=1e-4, atol=1e-4)


def test_mixstyle_is_the_identity_in_evaluation_and_follows_the_seed_in_training() -> None:
    layer, x = MixStyle(MixStyleConfig(prob=1.0)), torch.randn(6, 2, 4, 4)
    assert layer.eval()(x) is x
    layer.train()
    torch.manual_seed(3)
    first = layer(x)
    assert not torch.equal(first, x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)
    assert torch.equal(layer(x[:1]), x[:1])
    assert list(layer.state_dict()) == []


def test_prob_is_the_share_of_updates_that_mix() -> None:
    layer, x = MixStyle(MixStyleConfig(prob=0.3)).train(), torch.randn(4, 2, 3, 3)
    torch.manual_seed(0)
    assert abs(np.mean([layer(x) is not x for _ in range(600)]) - 0.3) < 0.06  # standard error 0.019


def test_a_resnet_mixes_after_its_first_two_stages_and_has_the_same_weights() -> None:
    torch.manual_seed(0)
    model, plain = (ResNet18(5, 32, ResNetConfig(width=4, mixstyle=MixStyleConfig(prob=p))) for p in (1.0, 0.0))
    plain.load_state_dict(model.state_dict())
    image, calls = torch.randn(4, 3, 32, 32), []
    model.mixstyle.register_forward_hook(lambda _m, _i, out: calls.append(out.shape[1]))
    torch.testing.assert_close(model.eval()(image).landmarks, plain.eval()(image).landmarks)
    calls.clear()
    torch.manual_seed(0)
    mixed = model.train().features(image)
    unmixed = plain.train().features(image)
    assert calls == [4, 8]
    assert torch.equal(mixed[0], unmixed[0])
    assert not torch.equal(mixed[1], unmixed[1])
    with pytest.raises(ValueError, match=r"mixstyle of prob 2 and alpha 0\.1"):
        MixStyleConfig(prob=2)
