import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from builders.dots import dots
from builders.painted import untrained_translator
from builders.places import DATA
from builders.tiny import detector_job, drawn, metrics_of, tree
from stylealign.batches.augment import NO_AUGMENTATION, AugmentConfig
from stylealign.batches.batch import to_float
from stylealign.batches.crops import crop_sample
from stylealign.batches.shards import pack
from stylealign.config import from_dict, to_dict
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.formats.missing import without
from stylealign.data.shards import ShardConfig
from stylealign.detectors import learning as learning_module
from stylealign.detectors.loaded import load_detector
from stylealign.detectors.resnet import ResNet18, ResNetConfig
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.crop import CropConfig
from stylealign.face.sample import FaceSample, Provenance
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.train_detector.job import TrainDetector, main
from stylealign.jobs.train_detector.opened import open_faces
from stylealign.predicting.on_datasets import answer_dataset
from stylealign.styling.chain import ArmConfig, StyleConfig, trained_arms
from stylealign.training.faces import DataSource, resolve_data
from stylealign.training.loop import LoopConfig, start_engine
from stylealign.training.run import Run
from stylealign.training.weights import read_card, read_tensors


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    """12 faces: 8 train (4 of them in the budget `few`), 4 val."""
    few = ("real0", "real1", "real3", "real4")
    return dots(tmp_path_factory.mktemp("data") / "real", 12, name="real", attributes={"few": few})


@pytest.fixture(scope="module")
def synthetic(real: FaceDataset, tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    """16 faces, two from each training face of `real`."""
    contents = real.select("train").ids()
    return dots(
        tmp_path_factory.mktemp("data") / "synthetic",
        16,
        seed=1,
        splits=("train",),
        name="synthetic",
        made_from=contents,
    )


def job(run: Path, real: FaceDataset | None, **changes: Any) -> TrainDetector:
    loop = LoopConfig(steps=6, batch_size=8, log_every=2, checkpoint_every=3, preview_every=3, accelerator="cpu")
    config = TrainDetector(run=run, real=real and real.folder, crop=CropConfig(size=32), resnet=ResNetConfig(width=4),
        loop=loop, data=changes.pop("data", ()),
                           synthetic=changes.pop("synthetic", None))  # fmt: skip
    loop = dataclasses.replace(loop, **changes.pop("loop", {}))
    return dataclasses.replace(config, loop=loop, **changes)


@pytest.fixture(scope="module")
def trained(real: FaceDataset, synthetic: FaceDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run long enough to beat the mean shape."""
    run = tmp_path_factory.mktemp("runs") / "trained"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLEALIGN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        loop = {
            "steps": 180,
            "batch_size": 16,
            "log_every": 10,
            "checkpoint_every": 90,
            "preview_every": 90,
            "ema_decay": 0.9,
        }
        gentle = AugmentConfig(rotation=0, scale=0, shift=0.05, flip=False, occlusion_prob=0, blur_prob=0, grey_prob=0)
        main(
            job(run, real, synthetic=synthetic.folder, resnet=ResNetConfig(width=8), augment=gentle, lr=0.01, loop=loop)
        )
    return run


# --------------------------------------------------------------------------------------------------------------------
# What a run leaves behind


def test_a_run_leaves_its_card_numbers_and_pictures(trained: Path, real: FaceDataset, synthetic: FaceDataset) -> None:
    card = read_card(trained, "detector")
    assert card["model"] == "resnet18"
    assert card["crop"] == {"size": 32, "scale": 1.4, "box": "landmarks"}
    assert card["schema"] == real.schema.to_dict()
    assert [(d["name"], d["faces"], d["share"]) for d in card["data"]] == [("real", 8, 0.5), ("synthetic", 16, 0.5)]
    assert card["data"][1]["content_hash"] == synthetic.content_hash
    assert card["step"] == 180
    assert card["val"]["faces"] == 4
    assert card["val"]["denominator"] == "inter_pupil"
    logged = metrics_of(trained)
    assert logged[-1] == {"step": 180, "evaluate/nme": card["val"]["nme"]}
    assert sorted(p.name for p in (trained / "previews").iterdir()) == ["step_00000090.png", "step_00000180.png"]
    assert not trained.with_name("trained.partial").exists()


def test_a_trained_detector_beats_the_mean_face(trained: Path, real: FaceDataset) -> None:
    val, loaded = real.select("val"), load_detector(trained)
    truth = val.landmarks_array()
    home = [geometry.invert(crop_sample(sample, loaded.crop)[2]) for sample in val]
    mean_face = np.stack([geometry.apply(affine, loaded.model.mean_shape.numpy()) for affine in home])  # type: ignore[union-attr,operator]
    ours, theirs = (
        np.linalg.norm(p - truth, axis=-1).mean() for p in (answer_dataset(trained, val).landmarks, mean_face)
    )
    assert ours < 0.8 * theirs


def test_a_finished_run_is_left_alone(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (trained / "card.json").stat().st_mtime_ns
    config = from_dict(TrainDetector, json.loads(json.dumps(to_dict(read_card(trained)["config"]))))
    main(config)
    assert "already trained with this configuration" in capsys.readouterr().err
    assert (trained / "card.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"lr: 0.01 there, 0.1 now"):
        main(dataclasses.replace(config, lr=0.1))


# --------------------------------------------------------------------------------------------------------------------
# Prediction


def test_predictions_equal_those_made_one_face_at_a_time(trained: Path, real: FaceDataset) -> None:
    loaded = load_detector(trained)
    assert not loaded.model.training
    faces = real.take([3, 0, 7])
    found = answer_dataset(trained, faces, batch_size=2).landmarks
    assert found.shape == (3, 5, 2)
    assert found.dtype == np.float64
    for sample, landmarks in zip(faces, found, strict=True):
        pixels, _, affine = crop_sample(sample, loaded.crop)
        with torch.no_grad():
            single = loaded.model(to_float(torch.from_numpy(pixels)[None])).landmarks[0].double().numpy()
        np.testing.assert_allclose(landmarks, geometry.apply(geometry.invert(affine), single), atol=1e-3)


def test_predictions_agree_with_the_nme_of_the_card(trained: Path, real: FaceDataset) -> None:
    val = real.select("val")
    truth = val.landmarks_array().astype(np.float64)
    error = np.linalg.norm(answer_dataset(trained, val).landmarks - truth, axis=-1).mean(axis=1)
    pupils = np.linalg.norm(truth[:, 0] - truth[:, 1], axis=-1)
    assert float((error / pupils).mean()) == pytest.approx(read_card(trained)["val"]["nme"], rel=1e-6)


def test_the_mirror_average_is_the_mean_of_both_views(trained: Path, real: FaceDataset) -> None:
    sample = real[0]
    loaded = load_detector(trained)
    pixels, _, affine = crop_sample(sample, loaded.crop)
    with torch.no_grad():
        plain, mirrored = (
            loaded.model(to_float(torch.from_numpy(view.copy())[None])).landmarks[0].double().numpy()
            for view in (pixels, pixels[:, ::-1])
        )
    back = geometry.apply(geometry.flip_affine(32), mirrored)[real.schema.flip_permutation]
    expected = geometry.apply(geometry.invert(affine), (plain + back) / 2)
    np.testing.assert_allclose(
        answer_dataset(trained, real.take([0]), flip_average=True).landmarks[0], expected, atol=1e-3
    )


def test_what_is_no_detector_is_refused(tmp_path: Path, trained: Path) -> None:
    with pytest.raises(UserError, match="no such run"):
        load_detector(tmp_path / "nothing")
    copy = tmp_path / "copy"
    copy.mkdir()
    card = json.loads((trained / "card.json").read_text())
    (copy / "model.safetensors").write_bytes((trained / "model.safetensors").read_bytes())
    for change, sentence in (
        ({"model": "hourglass"}, "unknown detector 'hourglass'"),
        ({"network": {**card["network"], "width": 4}}, "weight 'conv1.weight' has shape"),
        ({"kind": "translator"}, "expected a detector"),
    ):
        (copy / "card.json").write_text(json.dumps({**card, **change}))
        with pytest.raises(UserError, match=sentence):
            load_detector(copy)


# --------------------------------------------------------------------------------------------------------------------
# Resume


def test_a_killed_training_continued_is_bitwise_the_same(
    tmp_path: Path, real: FaceDataset, synthetic: FaceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {
        "synthetic": synthetic.folder,
        "resnet": ResNetConfig(width=4, dropout=0.2),
        "augment": AugmentConfig(occlusion_prob=0.5, noise=0.1),
    }
    main(job(tmp_path / "whole", real, **changes))
    calls = []

    def failing(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 5:  # one update after the checkpoint of step 3
            raise KeyboardInterrupt
        return original(*arguments)

    original = learning_module.landmark_loss
    monkeypatch.setattr(learning_module, "landmark_loss", failing)
    with pytest.raises(KeyboardInterrupt):
        main(job(tmp_path / "killed", real, **changes))
    monkeypatch.setattr(learning_module, "landmark_loss", original)
    with pytest.raises(UserError, match="has not finished"):
        load_detector(tmp_path / "killed")
    main(job(tmp_path / "killed", real, **changes))
    assert metrics_of(tmp_path / "killed") == metrics_of(tmp_path / "whole")
    assert (tmp_path / "killed" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()


# --------------------------------------------------------------------------------------------------------------------
# The mix


def shares(config: TrainDetector) -> list[tuple[str, int, float]]:
    return [(part.faces.name, len(part.faces), pytest.approx(part.share)) for part in resolve_data(config)]


def test_shares_presets_and_budgets(
    tmp_path: Path, real: FaceDataset, synthetic: FaceDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    both: dict[str, Any] = {"synthetic": synthetic.folder}
    run = tmp_path / "run"
    assert shares(job(run, real)) == [("real", 8, 1.0)]
    assert shares(job(run, real, **both, synthetic_share=0.25)) == [("real", 8, 0.75), ("synthetic", 16, 0.25)]
    assert shares(job(run, real, **both, synthetic_share=0.0)) == [("real", 8, 1.0)]
    assert shares(job(run, real, **both, mix="concatenate")) == [("real", 8, 1 / 3), ("synthetic", 16, 2 / 3)]
    assert shares(job(run, None, **both)) == [("synthetic", 16, 1.0)]
    assert shares(job(run, real, subset="few")) == [("real", 4, 1.0)]
    data = (DataSource(path=real.folder, split=None, share=3), DataSource(path=synthetic.folder))
    assert shares(job(run, None, data=data)) == [("real", 12, 0.75), ("synthetic", 16, 0.25)]
    assert capsys.readouterr().err == ""
    assert shares(job(run, real, **both, subset="few")) == [
        ("real", 4, 0.5),
        ("synthetic", 8, 0.5),
    ]  # labels outside the budget stay out
    assert "8 of 16 faces made from faces of few" in capsys.readouterr().err


def test_a_recipe_of_several_data_sets_guards_the_labels_of_the_one_another_was_made_from(
    tmp_path: Path, real: FaceDataset
) -> None:
    """As `real` and `synthetic` do: what was made from a held-out face brings its label in."""

    def mix(made_from: list[str], **source: Any) -> list[int]:
        folder = tmp_path / f"made{len(list(tmp_path.iterdir()))}"
        dots(folder, 8, seed=2, splits=("train",), name="leak", made_from=made_from)
        meta = yaml.safe_load((folder / "dataset.yaml").read_text())
        meta["how"] = {"inputs": {"data": {"content_hash": real.content_hash}}}
        (folder / "dataset.yaml").write_text(yaml.safe_dump(meta))
        data = (DataSource(path=real.folder, **source), DataSource(path=folder))
        return [len(part.faces) for part in resolve_data(job(tmp_path / "run", None, data=data))]

    train, val = real.select("train").ids(), real.select("val").ids()
    assert mix(train) == [8, 8]
    assert mix(train, subset="few") == [4, 4]
    assert mix([*train[:7], val[0]], split=None) == [12, 8]
    with pytest.raises(UserError, match=f"was made from '{val[0]}' of split val"):
        mix([*train[:7], val[0]])


@pytest.mark.parametrize(
    ("how", "role"),
    [
        (None, "real"),
        ({"command": "prepare"}, "real"),
        ({"command": "prepare", "inputs": {"data": {"made_from": ["a"]}}}, "real"),
        ({"verb": "trust", "inputs": {"faces": {"content_hash": "a"}, "detectors": [{"data": []}]}}, "real"),
        ({"verb": "trust", "inputs": {"data": {"content_hash": "a"}}}, "synthetic"),
        ({"verb": "trust", "inputs": {"data": {"labelled_by": [{"data": []}]}}}, "synthetic"),
        ({"verb": "turn-heads", "inputs": {"data": {"content_hash": "a"}}}, "synthetic"),
        ({"verb": "pseudo-label", "inputs": {"detectors": [{"data": []}]}}, "synthetic"),
    ],
)
def test_a_recipe_s_data_set_counts_as_real_where_people_placed_its_labels(
    tmp_path: Path, real: FaceDataset, how: dict[str, Any] | None, role: str
) -> None:
    told = write_dataset(
        tmp_path / "told", list(real), schema=real.schema, name="t", image_root=real.image_root, how=how
    )
    (part,) = resolve_data(job(tmp_path / "run", None, data=(DataSource(path=told.folder),)))
    assert part.described["role"] == role


def test_synthetic_faces_made_from_held_out_faces_are_refused(tmp_path: Path, real: FaceDataset) -> None:
    leak = dots(
        tmp_path / "leak",
        4,
        splits=("train",),
        name="leak",
        made_from=[*real.select("train").ids()[:3], *real.select("val").ids()[:1]],
    )
    with pytest.raises(UserError, match=r"face 'leak3' was made from 'real2' of split val"):
        resolve_data(job(tmp_path / "run", real, synthetic=leak.folder))
    strangers = dots(tmp_path / "strangers", 4, splits=("train",), name="strangers", made_from=["somebody"])
    assert len(resolve_data(job(tmp_path / "run", real, synthetic=strangers.folder))) == 2
    with pytest.raises(UserError, match="no face made from one of subset few"):
        resolve_data(job(tmp_path / "run", real, synthetic=strangers.folder, subset="few"))


def test_a_training_that_is_measured_on_faces_it_learns_from_is_warned_of(
    tmp_path: Path, real: FaceDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    """`real` has 4 faces in `val`."""
    val, how = real.select("val"), {"inputs": {"data": {"content_hash": real.content_hash}}}
    samples = [
        dataclasses.replace(
            face, id=f"of_{face.id}", split=split,
            provenance=Provenance(content_id=face.id, style_id=None, translator="t", seed=0),
        )
        for split, some in (("train", real.select("train")), ("leak", val))
        for face in list(some)[:3]
    ]  # fmt: skip
    made = write_dataset(
        tmp_path / "made", samples, schema=real.schema, name="made", image_root=real.image_root, how=how
    )
    copied = write_dataset(
        tmp_path / "copied", list(real), schema=real.schema, name="other", image_root=real.image_root, how={"x": 1}
    )
    assert copied.content_hash == real.content_hash  # what it holds, wherever it lies
    again = write_dataset(
        tmp_path / "again", [dataclasses.replace(face, id=f"again_{face.id}") for face in list(val)[:2]],
        schema=real.schema, name="again", image_root=real.image_root,
    )  # fmt: skip
    here, others = real.folder, made.folder

    def said(**changes: Any) -> str:
        config = job(tmp_path / "run", None, **changes)
        open_faces(config, start_engine(config.loop))
        return "".join(line for line in capsys.readouterr().err.splitlines(True) if "must not be measured" in line)

    def warning(count: int, *where: Path) -> str:
        return (
            f"warning: {count} of 4 faces of {here}, split val, are learnt from, themselves, their pictures or what "
            f"was made from them ({', '.join(map(str, where))}): a detector trained on them must not be measured "
            "there\n"
        )

    assert said(data=(DataSource(path=here, split=None),)) == warning(4, here)
    assert said(data=(DataSource(path=here), DataSource(path=here, split="val"))) == warning(4, here)
    assert said(data=(DataSource(path=here, split="val"),), val=copied.folder).count("4 of 4 faces") == 1
    assert said(data=(DataSource(path=again.folder, split="val"),), val=here) == warning(2, again.folder)
    leak, fine = DataSource(path=others, split="leak"), DataSource(path=others)
    assert said(data=(leak,), val=here) == warning(3, others)
    assert said(data=(leak, DataSource(path=here, split=None)), val=here) == warning(4, others, here)
    assert said(data=(DataSource(path=here), fine)) == said(data=(fine,), val=here) == ""
    shards = tmp_path / "shards"
    shards.mkdir()
    pack(real, shards, 4, ShardConfig(crop=job(tmp_path / "run", real).crop))
    assert said(data=(DataSource(path=shards, split=None),), val=here) == warning(4, shards)
    assert said(data=(DataSource(path=shards),), val=here) == ""
    # What is measured on was made from what is learnt from.
    assert "3 of 3 faces" in said(data=(DataSource(path=here),), val=others, val_split="train")
    assert said(data=(DataSource(path=here),), val=others, val_split="leak") == ""


def test_a_style_arm_whose_translator_saw_more_labels_is_warned_of(
    tmp_path: Path, real: FaceDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    run = untrained_translator(tmp_path / "translator", real.schema)
    card = read_card(run)
    card["data"] = [{"name": "d", "content_hash": real.content_hash, "split": "train", "subset": None}]
    (run / "card.json").write_text(json.dumps(card))
    style = StyleConfig(arms=(ArmConfig(kind="translator", run=run), ArmConfig(kind="translator", run=Path("warp"))))
    assert trained_arms(style) == [run]
    said = f"style arm {run} learnt from split train, subset all of d, expected split train, subset few"
    for subset, warned in ((None, False), ("few", True)):
        config = job(tmp_path / "run", real, subset=subset, style=style)
        open_faces(config, start_engine(config.loop))
        assert (said in capsys.readouterr().err) == warned


def test_balancing_by_pose_repeats_rare_faces_under_any_detector(
    tmp_path: Path, real: FaceDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    from stylealign.face.pose import BalanceConfig, repeats
    from stylealign.training.faces import epoch_of

    config = job(tmp_path / "run", real, balance=BalanceConfig(bins=3))
    faces = real.select("train")
    times = repeats(faces.landmarks_array(), config.balance)
    (order,) = epoch_of(resolve_data(config), config.balance)
    assert np.bincount(order, minlength=len(faces)).tolist() == times.tolist()
    assert len(order) > len(faces)
    main(config)
    assert f"shows {len(faces)} faces {len(order)} times an epoch" in capsys.readouterr().err
    with pytest.raises(UserError, match="8 training faces for 9 bins"):
        main(job(tmp_path / "other", real, balance=BalanceConfig(bins=9)))
    assert not (tmp_path / "other").exists()
    gone = np.arange(5) == 2
    samples = [dataclasses.replace(s, **without(s.landmarks, gone, None)) if i == 3 else s for i, s in enumerate(faces)]
    some = write_dataset(tmp_path / "some", samples, schema=faces.schema, name="some", image_root=faces.image_root)
    (order,) = epoch_of(resolve_data(job(tmp_path / "run", some)), config.balance)
    times = repeats(np.delete(faces.landmarks_array(), 3, axis=0), config.balance)
    assert np.bincount(order, minlength=len(faces)).tolist() == np.insert(times, 3, 1).tolist()
    assert "; 1 face without some landmarks once" in capsys.readouterr().err


def test_mark_ups_that_differ_and_empty_selections_are_refused(tmp_path: Path, real: FaceDataset) -> None:
    three = LandmarkSchema(name="three", num_points=3)
    sample = dataclasses.replace(real[0], landmarks=real[0].landmarks[:3])  # type: ignore[index]
    other = write_dataset(
        tmp_path / "other", [sample, FaceSample(id="bare", image=sample.image)], schema=three, name="other"
    )
    with pytest.raises(UserError, match=r"other is annotated with three \(3 points\), .*real with five \(5 points\)"):
        resolve_data(job(tmp_path / "run", real, synthetic=other.folder))
    with pytest.raises(UserError, match="annotated with three, the training faces with five"):
        main(job(tmp_path / "run", real, val=other.folder))
    with pytest.raises(UserError, match="no face with split 'test'"):
        resolve_data(job(tmp_path / "run", real, real_split="test"))
    assert (
        len(resolve_data(job(tmp_path / "run", other, real_split="train"))[0][0]) == 1
    )  # the unlabelled face is no training face


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"real": Path("a"), "data": (DataSource(path=Path("b")),)}, "one way of naming"),
        ({"real": Path("a"), "synthetic_share": 1.5}, "expected 0 to 1"),
        ({"real": Path("a"), "lr": 0.0}, "above 0"),
    ],
)
def test_configurations_without_meaning_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TrainDetector(run=Path("run"), **changes)


def test_data_may_come_after_the_recipe_but_must_come(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no data: give --real, --synthetic or both"):
        resolve_data(TrainDetector(run=tmp_path / "run"))


# --------------------------------------------------------------------------------------------------------------------
# Variants


def test_any_data_set_trains_without_validation_ema_or_motion(
    tmp_path: Path, real: FaceDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    train_only = dots(tmp_path / "train", 4, splits=("train",))
    main(job(tmp_path / "run", train_only, augment=NO_AUGMENTATION, loop={"steps": 2, "ema_decay": 0.0}))
    assert "no split val; training goes without evaluation" in capsys.readouterr().err
    card = read_card(tmp_path / "run", "detector")
    assert "val" not in card
    assert answer_dataset(tmp_path / "run", real.take([0])).landmarks.shape == (1, 5, 2)
    main(job(tmp_path / "elsewhere", train_only, val=real.folder, loop={"steps": 2}))
    assert read_card(tmp_path / "elsewhere")["val"]["name"] == "real"


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_pretrained_files_load_or_are_refused_by_name(tmp_path: Path, real: FaceDataset, suffix: str) -> None:
    import safetensors.torch

    torch.manual_seed(0)
    state = {
        k: v for k, v in ResNet18(500, 64, ResNetConfig(width=8, head="pool")).state_dict().items() if k != "mean_shape"
    }
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        safetensors.torch.save_file(state, path)
    still = {"steps": 1, "ema_decay": 0.0}
    main(
        job(
            tmp_path / "run",
            real,
            pretrained=path,
            resnet=ResNetConfig(width=8),
            lr=1e-12,
            weight_decay=0.0,
            loop=still,
        )
    )
    loaded = load_detector(tmp_path / "run").model.state_dict()
    torch.testing.assert_close(loaded["layer4.1.conv2.weight"], state["layer4.1.conv2.weight"])
    with pytest.raises(UserError, match=r"weights\..*'conv1.weight' has shape"):
        main(job(tmp_path / "other", real, pretrained=path))
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"weights\.(pth|safetensors)"):
        main(job(tmp_path / "third", real, pretrained=path))


def test_mixed_precision_stays_close_to_fp32(tmp_path: Path, real: FaceDataset) -> None:
    for precision in ("32-true", "bf16-mixed"):
        main(job(tmp_path / precision, real, loop={"steps": 3, "precision": precision}))
    exact, rough = (answer_dataset(tmp_path / p, real.select("val")).landmarks for p in ("32-true", "bf16-mixed"))
    assert float(np.abs(exact - rough).max()) < 1.0
    assert load_detector(tmp_path / "bf16-mixed").model.conv1.weight.dtype == torch.float32  # type: ignore[union-attr]


@pytest.mark.slow
def test_real_faces_reach_the_error_a_small_budget_allows(tmp_path: Path) -> None:
    from stylealign.jobs.prepare import Prepare
    from stylealign.jobs.prepare import main as prepare

    folder = DATA / "300w"
    if not folder.exists():
        pytest.skip("no real faces: STYLEALIGN_DATA names the folder of 300w/")
    prepare(
        Prepare(
            out=tmp_path / "data", reader="ibug", path=folder, splits=("train=splits/train.txt", "val=splits/val.txt")
        )
    )
    config = TrainDetector(
        run=tmp_path / "run",
        real=tmp_path / "data",
        crop=CropConfig(size=64),
        resnet=ResNetConfig(width=16),
        loop=LoopConfig(steps=1500, accelerator="cpu"),
    )
    main(config)
    assert read_card(tmp_path / "run")["val"]["nme"] < 0.063


# --------------------------------------------------------------------------------------------------------------------
# Longer than it was


def test_a_finished_run_goes_on_to_more_steps_and_keeps_what_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faces = drawn(tmp_path / "faces").folder
    loop = {"steps": 4, "checkpoint_every": 2, "evaluate_every": 2, "preview_every": 0, "log_every": 1}
    short = detector_job(tmp_path / "run", faces, loop)
    main(short)
    before = tree(tmp_path / "run")
    longer = detector_job(tmp_path / "run", faces, {**loop, "steps": 6})
    faces.rename(tmp_path / "gone")
    with pytest.raises(UserError, match="faces: not a dataset"):  # refused: nothing is left, nothing is changed
        main(longer)
    (tmp_path / "gone").rename(faces)
    assert tree(tmp_path / "run") == before
    assert not (tmp_path / "run.partial").exists()
    main(longer)
    assert "had finished after 4 steps and goes on to 6; from here the learning rate" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("run")] == ["run"]
    run = tmp_path / "run"
    assert read_card(run)["step"] == 6
    assert [line["step"] for line in metrics_of(run) if "lr" in line] == [1, 2, 3, 4, 5, 6]
    now = tree(run)
    for name in ("model.safetensors", "card.json"):
        assert now[f"checkpoints/finished_00000004/{name}"] == before[name]
    assert now["metrics.jsonl"].startswith(before["metrics.jsonl"])  # nothing was begun anew
    with pytest.raises(UserError, match=r"another configuration \(loop.steps: 6 there, 4 now\)"):
        main(short)
    main(longer)
    assert tree(run) == now


def test_a_longer_training_that_is_stopped_leaves_the_finished_run_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = drawn(tmp_path / "faces").folder
    loop = {"steps": 2, "checkpoint_every": 2, "preview_every": 0, "log_every": 1}
    for name in ("run", "whole"):
        main(detector_job(tmp_path / name, faces, loop))
    before = tree(tmp_path / "run")
    longer = {name: detector_job(tmp_path / name, faces, {**loop, "steps": 6}) for name in ("run", "whole")}
    main(longer["whole"])
    log = Run.log

    def stop(self: Run, step: int, values: Any) -> None:
        if step == 5:
            raise KeyboardInterrupt
        log(self, step, values)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", stop)
        with pytest.raises(KeyboardInterrupt):
            main(longer["run"])
    assert tree(tmp_path / "run") == before
    assert (tmp_path / "run.partial" / "checkpoints" / "step_00000004").exists()
    main(longer["run"])
    assert not (tmp_path / "run.partial").exists()
    whole, run = (read_tensors(tmp_path / name / "model.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(whole[name], run[name]) for name in whole)


def test_a_training_of_some_minutes_does_not_go_on_to_more_places_of_its_schedule(tmp_path: Path) -> None:
    faces = drawn(tmp_path / "faces").folder
    main(detector_job(tmp_path / "run", faces, {"steps": 6}, minutes=0.01))
    before = tree(tmp_path / "run")
    with pytest.raises(UserError, match=r"another configuration \(loop.steps: 6 there, 9 now\)"):
        main(detector_job(tmp_path / "run", faces, {"steps": 9}, minutes=0.01))
    assert tree(tmp_path / "run") == before
    assert not (tmp_path / "run.partial").exists()


def test_a_longer_training_without_the_state_it_needs_is_refused(tmp_path: Path) -> None:
    faces = drawn(tmp_path / "faces").folder
    main(detector_job(tmp_path / "run", faces, {"steps": 2}))
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(UserError, match=r"finished after 2 steps, and .*step_00000002, .* is gone"):
        main(detector_job(tmp_path / "run", faces, {"steps": 4}))
    assert not (tmp_path / "run.partial").exists()
    assert (tmp_path / "run" / "card.json").exists()
