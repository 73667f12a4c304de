"""The contract that every entry of TRANSLATORS keeps, a function a clause; tiny translators, faces and jobs for it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from builders.dots import dots
from builders.tiny import detector_job, metrics_of, translator_job, tree
from stylealign.batches.structure_maps import StructureConfig
from stylealign.config import from_dict, to_dict
from stylealign.data.dataset import FaceDataset
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.schema import FIVE
from stylealign.jobs.generate.job import Generate
from stylealign.jobs.generate.job import main as generate
from stylealign.jobs.train_detector.job import main as train_detector
from stylealign.jobs.train_translator.job import TranslatorJob, config_class, main
from stylealign.training.run import Run
from stylealign.training.weights import read_card, save_model
from stylealign.translators import TRANSLATORS, Preset, build_translator, trained_names, untrained_names
from stylealign.translators.base import LoadedTranslator
from stylealign.translators.loaded import load_translator
from stylealign.translators.swapping import swap_matrix

STRUCTURE = StructureConfig(kind="boundaries_points")
FACE = torch.tensor([[10.0, 10], [22, 10], [16, 15], [12, 22], [20, 22]])  # eyes, nose, mouth, in 32 px


def tiny(name: str) -> Preset:
    return TRANSLATORS[name].preset("tiny")


def network(name: str) -> nn.Module:
    """A tiny network whose answers depend on everything they may depend on: no layer is still silent, as some are at
    first."""
    torch.manual_seed(0)
    model = build_translator(name, tiny(name).network, tiny(name).size, STRUCTURE, FIVE)
    for parameter in model.parameters():
        if not bool(parameter.any()):
            nn.init.normal_(parameter, std=0.5)
    return model


def fresh(name: str) -> Any:
    """An untrained translator, opened."""
    card = {"model": name, "model_hash": "0" * 64}
    crop = CropConfig(size=tiny(name).size, scale=1.6)
    return TRANSLATORS[name].loaded(network(name), FIVE, crop, STRUCTURE, card, torch.device("cpu"))


def some_faces(num: int, size: int) -> tuple[Tensor, Tensor]:
    """Pictures (num, 3, size, size) of 8-bit noise, and five landmarks each."""
    generator = torch.Generator().manual_seed(num)
    image = (torch.rand(num, 3, size, size, generator=generator) * 255).round() / 127.5 - 1
    return image, FACE * (size / 32) + torch.rand(num, 5, 2, generator=generator)


def prepared(folder: Path) -> Path:
    """A folder of dot faces (data), more of them (more), and for each tiny size two detectors that know next to
    nothing."""
    dots(folder / "data", 12)
    dots(folder / "more", 4, seed=1, splits=("train",), name="more")
    for size in {tiny(name).size for name in trained_names()}:
        for seed, what in enumerate(("features", "judge")):
            loop, crop = {"steps": 1, "batch_size": 4, "seed": seed}, CropConfig(size=size, scale=1.6)
            train_detector(detector_job(folder / f"{what}{size}", folder / "data", loop, crop=crop))
    return folder


def job(folder: Path, name: str, run: Path, **changes: Any) -> TranslatorJob:
    """Four steps of the tiny network on faces of `prepared`, checkpoints after two and four."""
    size = tiny(name).size
    config = translator_job(
        run, folder / "data", {"steps": 4, "checkpoint_every": 2, "preview_every": 4, "batch_size": 4},
        crop=CropConfig(size=size, scale=1.6), model=name, structure=STRUCTURE,
        feature_detector=folder / f"features{size}", judge=folder / f"judge{size}", extra=(folder / "more",),
        extra_share=0.25,
        **{name: tiny(name).network},
    )  # fmt: skip
    return dataclasses.replace(config, **changes)


# --------------------------------------------------------------------------------------------------------------------
# The table


def says_its_sizes_and_has_sections_in_the_configuration(name: str) -> None:
    entry = TRANSLATORS[name]
    assert {"tiny", "small"} <= {preset.version for preset in entry.presets} <= {"tiny", "small", "paper"}
    assert all(type(preset.network) is entry.config for preset in entry.presets)
    assert entry.summary.endswith(".")
    assert "\n" not in entry.summary
    if entry.learn is None:
        assert name in untrained_names()
        return
    config = config_class()(data=Path("data"), run=Path("run"), model=name)
    assert config.network == entry.preset("small").network
    assert config.learning == (None if entry.learning is None else entry.learning())
    assert type(config.watches) is bool
    assert from_dict(config_class(), to_dict(config)) == config


# --------------------------------------------------------------------------------------------------------------------
# As it is used


def gives_pictures_of_its_size_without_gradients(name: str) -> None:
    translator, size = fresh(name), tiny(name).size
    image, landmarks = some_faces(3, size)
    made = translator.translate(image, landmarks, image.flip(0), landmarks.flip(0))
    assert made.shape == (3, 3, size, size)
    assert not made.requires_grad
    assert bool(made.isfinite().all())
    assert not translator.model.training
    assert not any(p.requires_grad for p in translator.model.parameters())
    content, style = translator.encode_structure(landmarks, image), translator.encode_style(image, landmarks)
    assert {len(part) for part in (*content, *style)} == {3}  # a row a face, so that pairs can be taken
    larger = torch.nn.functional.interpolate(image, scale_factor=2)
    on_larger = translator.decode_on(content, style, larger)
    assert on_larger is None or on_larger.shape == larger.shape
    own = translator.decode_on(content, style, image)
    if own is not None:
        torch.testing.assert_close(own, translator.decode(content, style))


def a_batch_equals_its_faces_one_by_one(name: str) -> None:
    translator, (image, landmarks) = fresh(name), some_faces(3, tiny(name).size)
    style, style_landmarks = image.flip(0), landmarks.flip(0)
    made = translator.translate(image, landmarks, style, style_landmarks)
    for i in range(3):
        one = (t[i : i + 1] for t in (image, landmarks, style, style_landmarks))
        torch.testing.assert_close(translator.translate(*one), made[i : i + 1], atol=1e-5, rtol=1e-5)
    assert torch.equal(made, translator.translate(image, landmarks, style, style_landmarks))
    matrix = swap_matrix(translator, landmarks, style, style_landmarks, image)
    torch.testing.assert_close(matrix[1, 1], made[1], atol=1e-5, rtol=1e-5)


def content_landmarks_and_style_count_and_the_photograph_where_it_is_needed(name: str) -> None:
    translator, (image, landmarks) = fresh(name), some_faces(3, tiny(name).size)
    known = landmarks.flip(0) if translator.style_needs_landmarks else None  # else a style needs none
    made = translator.translate(image, landmarks, image.flip(0), known)
    assert bool(made.isfinite().all())
    assert not torch.equal(translator.translate(image, landmarks, image, known), made)
    moved = translator.translate(image, landmarks + 2, image.flip(0), known)
    assert translator.needs_content or not torch.equal(moved, made)  # a photograph shows where things are by itself
    other = translator.translate(image.roll(1, 0), landmarks, image.flip(0), known)
    assert torch.equal(other, made) == (not translator.needs_content)
    if translator.needs_content:
        with pytest.raises(UserError, match="the content's own photograph"):
            translator.encode_structure(landmarks)
    else:
        translator.encode_structure(landmarks)


def draws_styles_from_its_prior_or_says_that_it_has_none(name: str) -> None:
    translator, (image, landmarks) = fresh(name), some_faces(2, tiny(name).size)
    content = translator.encode_structure(landmarks, image)
    if translator.has_prior:
        first, again, other = (
            translator.sample_prior(content, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
        )
        assert first.shape == image.shape
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert translator.kl_nats(image, landmarks) >= 0
        return
    with pytest.raises(UserError, match=f"translator '{name}' has no prior to draw styles from"):
        translator.sample_prior(content, torch.Generator())
    with pytest.raises(UserError, match=f"translator '{name}' has no prior"):
        translator.kl_nats(image, landmarks)


USE: tuple[Callable[[str], None], ...] = (
    says_its_sizes_and_has_sections_in_the_configuration,
    gives_pictures_of_its_size_without_gradients,
    a_batch_equals_its_faces_one_by_one,
    content_landmarks_and_style_count_and_the_photograph_where_it_is_needed,
    draws_styles_from_its_prior_or_says_that_it_has_none,
)
"""What needs no files."""


def saved(name: str, folder: Path) -> Path:
    """A run folder of the untrained tiny network: weights and card."""
    model = network(name)
    card = {
        "kind": "translator", "model": name, "schema": FIVE.to_dict(), "crop": {"size": tiny(name).size, "scale": 1.6},
        "config": {name: to_dict(model.config), "structure": to_dict(STRUCTURE)}, "step": 0,
    }  # fmt: skip
    folder.mkdir()
    save_model(folder, model.state_dict(), card)
    return folder


def comes_back_from_its_folder_the_same(name: str, folder: Path) -> None:
    loaded = load_translator(saved(name, folder))
    assert type(loaded) is TRANSLATORS[name].loaded
    assert isinstance(loaded, LoadedTranslator)
    assert loaded.hash == read_card(folder)["model_hash"]
    image, landmarks = some_faces(2, tiny(name).size)
    there, here = (t.translate(image, landmarks, image.flip(0), landmarks.flip(0)) for t in (loaded, fresh(name)))
    assert torch.equal(there, here)


# --------------------------------------------------------------------------------------------------------------------
# Its training, and what `generate` makes of it


def a_run_leaves_what_every_run_leaves(name: str, run: Path) -> None:
    """Of a run of `job`."""
    assert {p.name for p in run.iterdir()} == {
        "card.json", "checkpoints", "config.yaml", "environment.json", "judge.json", "metrics.csv", "metrics.jsonl",
        "model.safetensors", "previews",
    }  # fmt: skip
    card, translator = read_card(run, "translator"), load_translator(run)
    assert card["model"] == name
    assert from_dict(TRANSLATORS[name].config, card["config"][name]) == translator.model.config
    assert card["judge"]["faces"] == 4
    assert ("kl_nats" in card["judge"]) == translator.has_prior
    assert [(d["name"], d["faces"]) for d in card["data"]] == [("dots", 8), ("more", 4)]
    losses = metrics_of(run)[-1]
    assert "total" in losses
    assert ("landmark" in losses) == TRANSLATORS[name].watches(config_class()(data=run, run=run, model=name).learning)
    assert all(np.isfinite(list(losses.values())))


def a_killed_training_continued_is_bitwise_the_same(name: str, folder: Path, run: Path, killed: Path) -> None:
    """`run` is a finished run of `job`; `killed` is where another is begun, and stopped at its first checkpoint."""
    config, patch = job(folder, name, killed), pytest.MonkeyPatch()
    write = Run.write_checkpoint

    def failing(self: Run, *arguments: Any) -> None:
        write(self, *arguments)
        raise KeyboardInterrupt

    with patch.context() as inside:
        inside.setattr(Run, "write_checkpoint", failing)
        with pytest.raises(KeyboardInterrupt):
            main(config)
    with pytest.raises(UserError, match="has not finished"):
        load_translator(killed)
    main(from_dict(config_class(), to_dict(config)))
    assert metrics_of(killed) == metrics_of(run)
    mine, whole = tree(killed), tree(run)
    last = "checkpoints/step_00000004/train_state.safetensors"  # all that learns and its optimizers
    for file in ("model.safetensors", "judge.json", "previews/step_00000004.png", last):
        assert mine[file] == whole[file], file


def generate_makes_the_same_pictures_however_the_work_is_cut(name: str, folder: Path, run: Path, out: Path) -> None:
    config = Generate(
        data=folder / "data", translator=run, out=out / "made", styles_per_face=2, faces_per_unit=4, sheets=1,
        sheet_size=2, image_format="png", accelerator="cpu", accept_gap=True,
    )  # fmt: skip
    generate(config)
    contents = FaceDataset.open(folder / "data").select("train")
    assert len(FaceDataset.open(config.out)) == 2 * len(contents)
    again = dataclasses.replace(config, out=out / "again", faces_per_unit=3, sheets=0)
    generate(again)
    pictures = [
        {k.split("/", 2)[2]: v for k, v in tree(made).items() if k.startswith("images/")}
        for made in (config.out, again.out)
    ]
    assert pictures[0] == pictures[1]
    prior = dataclasses.replace(config, out=out / "prior", mode="prior", sheets=0)
    if TRANSLATORS[name].loaded.has_prior:
        generate(prior)
    else:
        with pytest.raises(UserError, match=f"translator '{name}' has no prior"):
            generate(prior)
        assert not (out / "prior.partial").exists()
