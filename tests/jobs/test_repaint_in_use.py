"""`repaint` behind the verbs: `generate`, `assess` and `translate` choose and refuse donors as they do for `warp`."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from builders.dots import PLACES, dots, paint
from builders.tiny import detector_job
from builders.translator_contract import saved, tiny
from stylealign.api.translator import StyleTranslator
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.jobs.assess.job import Assess
from stylealign.jobs.assess.job import main as assess
from stylealign.jobs.generate.job import Generate
from stylealign.jobs.generate.job import main as generate
from stylealign.jobs.train_detector.job import main as train_detector
from stylealign.translators.warp.fit import WarpConfig


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dot faces (data), an untrained `repaint` of their mark-up (run) and a judge that knows next to nothing."""
    folder = tmp_path_factory.mktemp("repaint")
    dots(folder / "data", 20, splits=("train",))
    saved("repaint", folder / "run")
    crop = CropConfig(size=tiny("repaint").size, scale=1.6)
    train_detector(detector_job(folder / "judge", folder / "data", {"steps": 1}, crop=crop, val_split=None))
    return folder


def test_what_cannot_be_generated_is_said_with_counts_and_leaves_nothing(here: Path, tmp_path: Path) -> None:
    train, schema = list(FaceDataset.open(here / "data")), FaceDataset.open(here / "data").schema
    write_dataset(tmp_path / "two", train[:2], schema=schema, name="two")
    bare = [dataclasses.replace(sample, landmarks=None, visible=None) for sample in train[:3]]
    write_dataset(tmp_path / "bare", bare, schema=schema, name="bare")
    config = Generate(
        data=here / "data", translator=here / "run", out=tmp_path / "made", styles_per_face=4, accelerator="cpu"
    )
    strict = WarpConfig(stretch=1.0001, stretched=0.0)
    for sentence, changes in (
        (r"2 of 2 donors can be used, and styles_per_face asks for 4", {"donors": tmp_path / "two"}),
        (r"20 of 20 faces with fewer fitting donors than the 4 styles asked for", {"warp": strict}),
        (r"3 donors have no landmarks of five, and the detector in the package finds ibug68",
         {"donors": tmp_path / "bare"}),
        (r"mode interpolate: translator 'repaint' has no prior .* no style codes to mix", {"mode": "interpolate"}),
    ):  # fmt: skip
        with pytest.raises(UserError, match=sentence):
            generate(dataclasses.replace(config, **changes))
        assert not list(tmp_path.glob("made*"))


def test_assess_chooses_donors_that_fit_and_says_what_an_eye_sees(here: Path, tmp_path: Path) -> None:
    assess(
        Assess(
            translator=here / "run", data=here / "data", split="train", judge=here / "judge", out=tmp_path / "out",
            styles=2, sheet_size=2, accelerator="cpu",
        )
    )  # fmt: skip
    found = json.loads((tmp_path / "out" / "assessment.json").read_text(encoding="utf-8"))
    assert found["translator"]["model"] == "repaint"
    assert found["looks"]["pairs"]["tried"] > 0
    assert found["looks"]["kept"]["whole"]["translator"]["top1"] > 0.5, "the donor's photograph is shown"
    assert "kl_nats" not in found["latent"], "a photograph is no code to look into"
    assert "What an eye sees" in (tmp_path / "out" / "assessment.md").read_text(encoding="utf-8")
    assert (tmp_path / "out" / "sheets" / "worst.png").exists()


def test_the_donor_s_photograph_is_shown_at_any_size_and_what_cannot_be_bent_is_refused(here: Path) -> None:
    translator = StyleTranslator.load(here / "run")
    assert translator.keeps == "structure"
    points, theirs = PLACES + np.array([50, 45]), PLACES * 1.1 + np.array([48, 47])
    image, other = (
        paint(p, 100, 90, np.array(ground)) for p, ground in ((points, [30, 60, 90]), (theirs, [90, 20, 30]))
    )
    made = translator.translate(image, points, other, theirs, size=64)
    assert made.crop.shape == (64, 64, 3)
    assert np.abs(np.median(made.crop, axis=(0, 1)) - [90, 20, 30]).max() <= 3
    with pytest.raises(UserError, match="the two faces cannot be bent into each other: the picture would fold"):
        translator.translate(image, points, other, theirs[[1, 0, 2, 3, 4]])
    with pytest.raises(UserError, match="translator 'repaint' bends the style's photograph by its landmarks"):
        translator.translate(image, points, np.full_like(other, 90), None)
