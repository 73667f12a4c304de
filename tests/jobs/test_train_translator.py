"""`train-translator`: what a run leaves, what its judge's figures mean, its options, and the same bytes after a
stop."""

import dataclasses
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from builders import translator_contract
from builders.dots import dots
from builders.places import GOLDEN
from builders.tiny import detector_job, drawn, metrics_of, translator_job
from stylealign.batches.batch import Batch
from stylealign.batches.structure_maps import StructureConfig
from stylealign.cli import parse
from stylealign.config import from_dict, to_dict
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.image import image_size
from stylealign.detectors.output import DetectorOutput
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.sample import Provenance
from stylealign.face.schema import FIVE, LandmarkSchema
from stylealign.jobs.train_detector.job import main as train_detector
from stylealign.jobs.train_translator.job import TrainTranslator, main, weights_warning
from stylealign.training.weights import read_card
from stylealign.translators import perceptual
from stylealign.translators.judge import judge_swaps, leaks, swap_partners, verdict
from stylealign.translators.kl import KL_PRESETS
from stylealign.translators.loaded import load_translator
from stylealign.translators.reconstruction import RECONSTRUCTION_PRESETS
from stylealign.translators.vunet import learning as learning_module
from stylealign.translators.vunet.config import PRESETS


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    return drawn(tmp_path_factory.mktemp("data") / "drawn")


@pytest.fixture(scope="module")
def trained(faces: FaceDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "trained"
    main(translator_job(run, faces.folder))
    return run


def variant(run: Path, faces: FaceDataset, trained: Path, **changes: Any) -> TrainTranslator:
    """Two steps, with the features and the judge of the trained run."""
    given = {"judge": trained / "judge", "feature_detector": trained / "features", "loop": {"steps": 2}}
    return translator_job(run, faces.folder, **{**given, **changes})


# --------------------------------------------------------------------------------------------------------------------
# What a run leaves behind


def test_a_run_leaves_its_card_numbers_pictures_and_verdict(trained: Path, faces: FaceDataset) -> None:
    assert {p.name for p in trained.iterdir()} == {
        "card.json", "checkpoints", "config.yaml", "environment.json", "features", "judge", "judge.json",
        "metrics.csv", "metrics.jsonl", "model.safetensors", "previews",
    }  # fmt: skip
    assert not trained.with_name("trained.partial").exists()
    assert [p.name for p in sorted((trained / "checkpoints").iterdir())] == ["step_00000003", "step_00000006"]
    previews = sorted((trained / "previews").iterdir())
    assert [p.name for p in previews] == ["step_00000003.png", "step_00000006.png"]
    assert min(image_size(previews[0])) > 6 * 32  # structures x styles, with the real faces at the edges
    card = read_card(trained, "translator")
    assert (card["model"], card["step"]) == ("vunet", 6)
    assert card["schema"] == faces.schema.to_dict()
    assert card["crop"] == {"size": 32, "scale": 1.6, "box": "landmarks"}
    assert card["config"]["vunet"]["structure_channels_in"] == 3
    assert card["perceptual"] == "layers of a landmark detector trained on the same split (3 levels)"
    train = faces.select("train")
    assert [(d["name"], d["faces"], d["content_hash"], d["split"]) for d in card["data"]] == [
        ("drawn", len(train), faces.content_hash, "train")
    ]
    logged = metrics_of(trained)
    assert [line["step"] for line in logged] == list(range(1, 7))
    assert {"pixel", "gradient", "feature", "gram", "kl", "reconstruction", "total", "kl_weight_per_nat"} <= set(
        logged[0]
    )


def test_features_and_judge_are_different_detectors_of_real_faces_only(trained: Path, faces: FaceDataset) -> None:
    cards = [read_card(trained / name, "detector") for name in ("features", "judge")]
    assert cards[0]["model_hash"] != cards[1]["model_hash"]
    assert cards[0]["config"]["loop"]["seed"] != cards[1]["config"]["loop"]["seed"]
    for card in cards:
        assert [d["content_hash"] for d in card["data"]] == [faces.content_hash]
        assert card["crop"] == read_card(trained)["crop"]


def test_the_judge_s_figures_are_finite_and_stand_in_the_card(trained: Path, faces: FaceDataset) -> None:
    figures = json.loads((trained / "judge.json").read_text())
    assert read_card(trained)["judge"] == figures
    assert figures["faces"] == len(faces.select("val"))
    assert figures["held_out"] is True
    numbers = [
        figures[k]
        for k in ("real_nme", "swap_nme", "style_nme", "gap", "share_above_10", "real_share_above_10", "kl_nats")
    ]
    numbers += [v for part in figures["parts"].values() for v in part.values()] + list(
        figures["style_distance"].values()
    )
    assert all(math.isfinite(n) for n in numbers)
    assert figures["gap"] == pytest.approx(figures["swap_nme"] - figures["real_nme"])
    assert figures["kl_nats"] == metrics_of(trained)[-1]["kl"]
    assert set(figures["parts"]) == set(faces.schema.parts)


def test_a_finished_run_is_left_alone(trained: Path, faces: FaceDataset, capsys: pytest.CaptureFixture[str]) -> None:
    before = (trained / "card.json").stat().st_mtime_ns
    config = translator_job(trained, faces.folder)
    main(config)
    assert "already trained with this configuration; nothing to do" in capsys.readouterr().err
    assert (trained / "card.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"kl.target_nats: 120.0 there, 60.0 now\); choose another --run"):
        main(dataclasses.replace(config, kl=dataclasses.replace(config.kl, target_nats=60.0)))


def test_a_trained_translator_opens_and_translates_without_gradients(trained: Path, faces: FaceDataset) -> None:
    translator = load_translator(trained)
    assert translator.hash == read_card(trained)["model_hash"]
    assert not translator.model.training
    assert not any(p.requires_grad for p in translator.model.parameters())
    landmarks = torch.rand(2, 98, 2) * 32
    images = translator.decode(
        translator.encode_structure(landmarks), translator.encode_style(torch.zeros(2, 3, 32, 32))
    )
    assert images.shape == (2, 3, 32, 32)
    assert bool(images.isfinite().all())


def test_what_is_no_translator_is_refused(tmp_path: Path, trained: Path) -> None:
    with pytest.raises(UserError, match=r"judge: holds a detector, expected a translator"):
        load_translator(trained / "judge")
    with pytest.raises(UserError, match="no such run"):
        load_translator(tmp_path / "nothing")
    copy = Path(shutil.copytree(trained, tmp_path / "copy", ignore=shutil.ignore_patterns("checkpoints")))
    (copy / "model.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(UserError, match=r"model\.safetensors: not a safetensors file, or cut short"):
        load_translator(copy)
    safetensors.torch.save_file({"w": torch.zeros(1)}, copy / "model.safetensors")
    with pytest.raises(UserError, match="hash differs"):
        load_translator(copy)
    card = read_card(trained)
    card["config"]["vunet"]["latent_channels"] = 4
    (copy / "card.json").write_text(json.dumps(card))
    (copy / "model.safetensors").write_bytes((trained / "model.safetensors").read_bytes())
    with pytest.raises(UserError, match=r"weight 'style_encoder.*' has shape"):
        load_translator(copy)


# --------------------------------------------------------------------------------------------------------------------
# The judge


@given(num=st.integers(2, 60), seed=st.integers(0, 2**31))
@settings(max_examples=40)
def test_every_face_gets_one_partner_and_never_itself(num: int, seed: int) -> None:
    partners = swap_partners(num, seed)
    assert sorted(partners) == list(range(num))
    assert (partners != np.arange(num)).all()
    assert (partners == swap_partners(num, seed)).all()


class Numbered(nn.Module):
    """A perfect judge of pictures of one grey: face k is drawn as grey k / 10, and its landmarks are known."""

    def __init__(self, truth: Tensor, size: int):
        super().__init__()
        self.truth, self.size = truth, size

    def forward(self, image: Tensor) -> DetectorOutput:
        assert image.shape[-1] == self.size
        face = (image.mean(dim=(1, 2, 3)) * 10).round().long()
        return DetectorOutput((self.truth[face] + 0.5) * (self.size / 32) - 0.5)


class Copier:
    """A translator that draws the style picture whole (`leaks`), or the content's own picture."""

    def __init__(self, leaks: bool):
        self.leaks = leaks

    def translate(self, content: Tensor, landmarks: Tensor, style: Tensor, style_landmarks: Tensor) -> Tensor:
        return style if self.leaks else content


@pytest.mark.parametrize("judge_size", [32, 16])
def test_a_translator_that_keeps_structure_has_no_gap_and_one_that_leaks_has_one(
    judge_size: int,
) -> None:
    rng = np.random.default_rng(3)
    truth = torch.from_numpy(
        np.array([[8.0, 10], [24, 10], [16, 16], [10, 24], [22, 24]]) + rng.normal(0, 2, (6, 5, 2))
    ).float()
    grey = (torch.arange(6) / 10)[:, None, None, None].expand(6, 1, 32, 32).contiguous()
    image = grey.expand(6, 3, 32, 32).contiguous()
    batch = Batch(
        image, truth, torch.ones(6, 5, dtype=torch.bool), torch.zeros(6, 2, 3), torch.arange(6), torch.ones(6)
    )
    judge = Numbered(truth, judge_size)
    copiers: tuple[Any, ...] = (Copier(leaks=False), Copier(leaks=True))
    kept, leaked = (judge_swaps(copier, batch, judge, judge_size, FIVE, seed=4) for copier in copiers)
    for figures in (kept, leaked):
        assert figures["real_nme"] == pytest.approx(0, abs=1e-6)
        assert figures["gap"] == pytest.approx(figures["swap_nme"] - figures["real_nme"])
    assert kept["swap_nme"] == pytest.approx(0, abs=1e-6)
    assert kept["share_above_10"] == 0
    partners = swap_partners(6, 4)
    pupils = (truth[:, 0] - truth[:, 1]).norm(dim=-1)
    expected = ((truth[partners] - truth).norm(dim=-1).mean(dim=1) / pupils).numpy()
    assert leaked["swap_nme"] == pytest.approx(expected.mean(), rel=1e-4)
    assert leaked["share_above_10"] == pytest.approx((expected > 0.1).mean())
    # What leaks lies on the landmarks of the face that gave the style, what does not as far from them as faces from
    # each other.
    assert leaked["style_nme"] == pytest.approx(0, abs=1e-6)
    assert kept["style_nme"] == pytest.approx(expected.mean(), rel=1e-4)
    assert leaks(leaked)
    assert not leaks(kept)
    assert "LEAKING" in verdict(leaked)
    assert "LEAKING" not in verdict(kept)
    # What looks like the style is at no distance from it, what looks like the content at none from that.
    assert leaked["style_distance"]["to_style"] == pytest.approx(0, abs=1e-6)
    assert kept["style_distance"]["to_content"] == pytest.approx(0, abs=1e-6)
    assert kept["style_distance"]["to_style"] == pytest.approx(float((grey[partners] - grey).abs().mean()), rel=1e-4)


@pytest.mark.parametrize(
    ("swap", "share", "words"),
    [
        (0.055, 0.02, "Keeps its labels"),
        (0.061, 0.02, "learn wrong labels"),
        (0.055, 0.11, "learn wrong labels"),
        (0.044, 0.0, "lost variety"),
        (float("nan"), 0.0, "learn wrong labels"),
    ],
)
def test_the_verdict_follows_the_gap_and_the_share_of_bad_faces(swap: float, share: float, words: str) -> None:
    text = verdict(
        {"swap_nme": swap, "real_nme": 0.05, "gap": swap - 0.05, "share_above_10": share, "real_share_above_10": 0.0}
    )
    assert words in text
    assert f"structure gap {100 * (swap - 0.05):+.2f} points" in text


# --------------------------------------------------------------------------------------------------------------------
# Variants


@pytest.mark.parametrize(
    ("structure", "channels"),
    [
        (StructureConfig(kind="points", integer_centres=True, sigma=1.5), 3),
        (StructureConfig(kind="boundaries"), 15),
        (StructureConfig(kind="landmarks"), 98),
    ],
    ids=lambda v: getattr(v, "kind", None),
)
def test_every_structure_map_trains_and_comes_back_from_the_card(
    structure: StructureConfig, channels: int, tmp_path: Path, faces: FaceDataset, trained: Path
) -> None:
    main(variant(tmp_path / "run", faces, trained, structure=structure, loop={"steps": 1, "ema_decay": 0.0}))
    translator = load_translator(tmp_path / "run")
    assert translator.structure == structure
    landmarks = torch.full((1, 98, 2), 7.6)
    assert translator.structure_maps(landmarks).shape == (1, channels, 32, 32)
    if structure.integer_centres:
        assert translator.structure_maps(landmarks)[0, 0].argmax() == 7 * 32 + 7
    assert read_card(tmp_path / "run")["config"]["vunet"]["structure_channels_in"] == channels


def test_the_conditional_posterior_sees_the_structure_map_too(
    tmp_path: Path, faces: FaceDataset, trained: Path
) -> None:
    main(variant(tmp_path / "run", faces, trained, vunet=dataclasses.replace(PRESETS["tiny32"], posterior="xy")))
    translator = load_translator(tmp_path / "run")
    image, landmarks = torch.zeros(1, 3, 32, 32), torch.full((1, 98, 2), 9.0)
    one, other = translator.encode_style(image, landmarks), translator.encode_style(image, landmarks + 5)
    assert not torch.equal(one[0], other[0])
    with pytest.raises(UserError, match=r"q\(z\|x,y\): style samples need landmarks"):
        translator.encode_style(image)


def test_the_released_losses_take_a_vgg_file(
    tmp_path: Path, faces: FaceDataset, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perceptual, "_WIDTHS", {"1": 2, "2": 2, "3": 2, "4": 2, "5": 2})  # the real one has 80 MB
    generator, state, channels = torch.Generator().manual_seed(0), {}, 3
    for index in perceptual._TORCHVISION_INDEX.values():
        state[f"features.{index}.weight"] = torch.randn(2, channels, 3, 3, generator=generator) / 3
        state[f"features.{index}.bias"], channels = torch.zeros(2), 2
    safetensors.torch.save_file(state, tmp_path / "vgg19.safetensors")
    config = variant(
        tmp_path / "run", faces, trained, vgg19=tmp_path / "vgg19.safetensors", feature_detector=None,
        reconstruction=RECONSTRUCTION_PRESETS["released"], kl=KL_PRESETS["released"],
    )  # fmt: skip
    main(config)
    assert read_card(tmp_path / "run")["perceptual"] == "VGG-19 (vgg19.safetensors)"
    assert not (tmp_path / "run" / "features").exists()
    line = metrics_of(tmp_path / "run")[0]
    assert "pixel" not in line
    assert line["reconstruction"] == pytest.approx(5 * line["feature"] + 0.5 * line["gram"], rel=1e-5)
    with pytest.raises(ValueError, match="expected one"):
        dataclasses.replace(config, feature_detector=trained / "features")


def test_released_weights_without_vgg19_are_warned_about() -> None:
    released = parse("train-translator", ["vunet_released", "--data", "d", "--run", "r"])
    assert released.structure.integer_centres  # as the release
    assert "--vgg19 FILE is missing" in (weights_warning(released) or "")
    for flags in (
        ["--vgg19", "vgg19.pth"],
        ["--reconstruction.calibrated"],
        ["--reconstruction.feature", "0", "--reconstruction.gram", "0", "--reconstruction.pixel", "1"],
    ):
        mended = parse("train-translator", ["vunet_released", "--data", "d", "--run", "r", *flags])
        assert weights_warning(mended) is None
    assert weights_warning(parse("train-translator", ["--data", "d", "--run", "r"])) is None


def test_pixel_losses_need_no_feature_network(tmp_path: Path, faces: FaceDataset, trained: Path) -> None:
    main(
        variant(
            tmp_path / "run", faces, trained, feature_detector=None, reconstruction=RECONSTRUCTION_PRESETS["pixels"],
            loop={"steps": 1},
        )
    )  # fmt: skip
    assert not (tmp_path / "run" / "features").exists()
    assert read_card(tmp_path / "run")["perceptual"] == "none"


def test_a_mark_up_of_ones_own_trains_and_a_judge_of_training_faces_is_called_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = LandmarkSchema(name="bare", num_points=5)  # no mirror twins, curves, anchors or parts
    data = write_dataset(tmp_path / "data", dots(tmp_path / "dots", 6, splits=("train",)), schema=bare, name="data")
    pixels = {"reconstruction": RECONSTRUCTION_PRESETS["pixels"], "loop": {"steps": 1}}
    main(translator_job(tmp_path / "run", data.folder, **pixels))
    assert "has no split val: the judge looked at training faces" in capsys.readouterr().err
    assert read_card(tmp_path / "run")["judge"]["held_out"] is False
    with pytest.raises(UserError, match="schema bare has no boundaries"):
        main(translator_job(tmp_path / "other", data.folder, structure=StructureConfig(kind="boundaries"), **pixels))


def test_faces_that_are_learnt_from_are_not_called_held_out(
    tmp_path: Path, faces: FaceDataset, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether the split is the judge's own, or further data holds its pictures, or faces made from them."""
    val = list(faces.select("val"))
    source = Provenance(content_id=val[0].id, style_id=None, translator="t", seed=0)
    one = dataclasses.replace(faces.select("train")[0], id="made", provenance=source)
    how = {"verb": "generate", "inputs": {"data": {"content_hash": faces.content_hash}}}
    write_dataset(tmp_path / "copies", val[:2], schema=faces.schema, name="copies")
    write_dataset(tmp_path / "made", [one], schema=faces.schema, name="made", how=how)
    given = {"reconstruction": RECONSTRUCTION_PRESETS["pixels"], "loop": {"steps": 1, "preview_every": 0}}
    for name, changes, learnt in (
        ("same", {"split": "val"}, len(val)),
        ("copied", {"extra": (tmp_path / "copies",), "extra_split": None}, 2),
        ("made_of", {"extra": (tmp_path / "made",), "extra_split": None}, 1),
    ):
        main(variant(tmp_path / f"run_{name}", faces, trained, **given, **changes))
        assert f"warning: {learnt} of {len(val)} faces of split val that the judge sees are" in capsys.readouterr().err
        assert read_card(tmp_path / f"run_{name}")["judge"]["held_out"] is False
    assert read_card(trained)["judge"]["held_out"] is True


# --------------------------------------------------------------------------------------------------------------------
# Refusals, all of them before anything is trained


def test_inputs_that_cannot_work_are_refused_before_training_and_the_corrected_command_runs(
    tmp_path: Path, faces: FaceDataset, trained: Path
) -> None:
    lone = write_dataset(
        tmp_path / "lone", [*faces.select("train"), faces.select("val")[0]], schema=faces.schema, name="lone"
    )
    run = tmp_path / "run"
    for config, sentence in (
        (translator_job(run, tmp_path / "nowhere"), "nowhere"),
        (translator_job(run, faces.folder, crop=CropConfig(size=60)), "size 60 must be"),
        (translator_job(run, faces.folder, subset="nonsense"), "no face with split 'train' and subset 'nonsense'"),
        (translator_job(run, lone.folder), "1 labelled face in split val .*; the judge needs at least 2"),
    ):
        with pytest.raises(UserError, match=sentence):
            main(config)
        assert not (tmp_path / "run.partial" / "features").exists()
        assert not (tmp_path / "run.partial" / "features.partial").exists()
    main(variant(run, faces, trained, loop={"steps": 1}))
    assert read_card(run, "translator")["step"] == 1


def test_detectors_that_cannot_serve_are_refused(tmp_path: Path, faces: FaceDataset, trained: Path) -> None:
    def copy(name: str, **changes: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.safetensors").write_bytes((trained / "judge" / "model.safetensors").read_bytes())
        (folder / "card.json").write_text(json.dumps({**read_card(trained / "judge"), **changes}))
        return folder

    card = read_card(trained / "judge")
    tight = copy("tight", crop={**card["crop"], "scale": 1.2})
    mine = copy("mine", schema={**card["schema"], "name": "mine"})
    for changes, sentence in (
        ({"judge": tight}, "trained on a square of 1.2 x the landmark box, 32 px, the translator's is a square of 1.6"),
        ({"judge": mine}, r"mine: a detector of mine \(98 points\), but .* holds wflw98"),
        ({"feature_detector": mine}, "a detector of mine"),
        ({"judge": trained}, "holds a translator, expected a detector"),
    ):
        with pytest.raises(UserError, match=sentence):
            main(variant(tmp_path / "run", faces, trained, **changes))
    with pytest.raises(ValueError, match="at least 2 faces to start from"):
        translator_job(tmp_path / "run", faces.folder, init_batches=1, loop={"batch_size": 1})


# --------------------------------------------------------------------------------------------------------------------
# Resume, and the same numbers as ever


def test_a_killed_training_continued_is_bitwise_the_same(
    tmp_path: Path, faces: FaceDataset, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = translator_job(tmp_path / "killed", faces.folder)
    calls = []

    def failing(*arguments: Any) -> dict[str, Tensor]:
        calls.append(1)
        if len(calls) == 5:  # one update after the checkpoint of step 3
            raise KeyboardInterrupt
        return original(*arguments)

    original = learning_module.translator_loss
    monkeypatch.setattr(learning_module, "translator_loss", failing)
    with pytest.raises(KeyboardInterrupt):
        main(config)
    monkeypatch.setattr(learning_module, "translator_loss", original)
    with pytest.raises(UserError, match="has not finished"):
        load_translator(tmp_path / "killed")
    main(from_dict(TrainTranslator, json.loads(json.dumps(to_dict(config)))))
    assert metrics_of(tmp_path / "killed") == metrics_of(trained)
    for name in ("model.safetensors", "judge.json", "previews/step_00000006.png"):
        assert (tmp_path / "killed" / name).read_bytes() == (trained / name).read_bytes()


@pytest.mark.parametrize("name", ["spade", "repaint"])
def test_weights_do_not_depend_on_whether_the_small_detectors_were_there_already(
    name: str, tmp_path: Path, faces: FaceDataset
) -> None:
    """As after a kill before the first checkpoint: the second process finds them finished."""
    preset = translator_contract.tiny(name)
    changes = {"model": name, "crop": CropConfig(size=preset.size, scale=1.6), name: preset.network}
    once = translator_job(tmp_path / "once", faces.folder, {"steps": 2, "preview_every": 0}, **changes)
    main(once)
    found = {"judge": tmp_path / "once/judge", "feature_detector": tmp_path / "once/features"}
    main(dataclasses.replace(once, run=tmp_path / "again", **found))
    one, other = ((tmp_path / run / "model.safetensors").read_bytes() for run in ("once", "again"))
    assert one == other


def golden(name: str, found: list[float]) -> list[float]:
    """The losses on record; with STYLEALIGN_WRITE_GOLDEN=1 in the environment they are written anew.

    A change of them wants a sentence in the commit: which numbers moved, and why that is right.
    """
    path = GOLDEN / f"losses_{name}.txt"
    if os.environ.get("STYLEALIGN_WRITE_GOLDEN"):
        path.write_text("".join(f"{value:.8g}\n" for value in found), encoding="utf-8")
    return [float(line) for line in path.read_text(encoding="utf-8").split()]


def test_the_first_losses_of_a_translator_are_the_golden_ones(trained: Path) -> None:
    found = [line["total"] for line in metrics_of(trained)][:5]
    assert found == pytest.approx(golden("translator", found), rel=1e-3)


def test_the_first_losses_of_a_detector_are_the_golden_ones(tmp_path: Path, faces: FaceDataset) -> None:
    train_detector(detector_job(tmp_path / "run", faces.folder, loop={"steps": 5, "batch_size": 8}))
    found = [line["total"] for line in metrics_of(tmp_path / "run") if "total" in line]
    assert len(found) == 5
    assert found == pytest.approx(golden("detector", found), rel=1e-3)
