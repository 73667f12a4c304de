"""An own translator that needs no training and bends nobody is taken for what its entry says, everywhere.

It moves a photograph to another's mean colour, so that each picture it makes can be worked out with NumPy.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builders import translator_contract as contract
from builders.dots import dots
from builders.tiny import detector_job
from stylealign import StyleAugmentation, StyleTranslator
from stylealign.batches.crops import CropCache, crop_sample
from stylealign.cli import main
from stylealign.data.dataset import FaceDataset
from stylealign.data.image import read_image
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.schema import FIVE
from stylealign.jobs.train_detector.job import main as train_detector
from stylealign.styling.chain import ArmConfig, ChainConfig, chooses_by_fit, open_chain
from stylealign.translators import TRANSLATORS
from stylealign.translators.loaded import open_untrained
from stylealign.translators.warp.network import LoadedWarp

NAME = "mycolour"
CROP = CropConfig(size=32, scale=1.6)


@pytest.fixture(autouse=True)
def mycolour(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line that adds it."""
    from builders import outside_colour

    TRANSLATORS.pop(NAME, None)  # importing the file has added it for good
    monkeypatch.setitem(TRANSLATORS, NAME, outside_colour.ENTRY)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dot faces (data) and a detector of them that knows next to nothing (judge)."""
    folder = tmp_path_factory.mktemp("mycolour")
    dots(folder / "data", 24)
    train_detector(detector_job(folder / "judge", folder / "data", {"steps": 1}, crop=CROP))
    return folder


def recoloured(picture: np.ndarray, other: np.ndarray) -> np.ndarray:
    """What the translator is to make of two pictures (H, W, 3) uint8."""
    moved = picture + (other.mean(axis=(0, 1)) - picture.mean(axis=(0, 1)))
    return np.clip(moved, 0, 255)


def same(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found.astype(float), wanted, atol=1.01)


def generated(here: Path, out: Path, *flags: str) -> FaceDataset:
    size = ["--crop.size", "32", "--crop.scale", "1.6"]
    command = [
        "generate", "--data", str(here / "data"), "--out", str(out), "--styles-per-face", "2", "--image-format", "png",
        "--accelerator", "cpu", *size, *flags,
    ]  # fmt: skip
    assert main(command) == 0
    return FaceDataset.open(out)


def test_it_keeps_the_contract() -> None:
    for clause in contract.USE:
        clause(NAME)


def test_generate_draws_with_it(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = generated(here, tmp_path / "made", "--translator", NAME)
    assert "bent" not in capsys.readouterr().err
    faces = {face.id: crop_sample(face, CROP)[0] for face in FaceDataset.open(here / "data")}
    assert len(made) == 2 * len(FaceDataset.open(here / "data").select("train"))
    for face in made:
        origin = face.provenance
        assert origin is not None
        assert origin.style_id not in (None, origin.content_id)
        same(read_image(face.image), recoloured(faces[origin.content_id], faces[str(origin.style_id)]))
    hashes = {face.provenance.translator for face in made if face.provenance}
    assert hashes == {open_untrained(NAME, made.schema, CROP).hash} != {open_untrained("warp", made.schema, CROP).hash}


def test_its_styles_can_be_mixed(here: Path, tmp_path: Path) -> None:
    made = generated(here, tmp_path / "made", "--translator", NAME, "--mode", "interpolate", "--sheets", "0")
    faces = {face.id: crop_sample(face, CROP)[0] for face in FaceDataset.open(here / "data")}
    origin = made[0].provenance
    assert origin is not None
    one, other = (faces[name].mean(axis=(0, 1)) for name in str(origin.style_id).split(" + "))
    same(read_image(made[0].image), recoloured(faces[origin.content_id], ((one + other) / 2)[None, None]))


@pytest.mark.parametrize("size", [32, 50])
def test_python_translates_with_it(here: Path, size: int) -> None:
    a, b, *_ = FaceDataset.open(here / "data")
    translator = StyleTranslator.load(NAME)
    assert translator.keeps == "photo"
    assert a.landmarks is not None
    assert b.landmarks is not None
    made = translator.translate(a.image, a.landmarks, b.image, b.landmarks, size=size)
    same(made.crop, recoloured(made.content, made.style))
    nothing = translator.translate(a.image, a.landmarks, b.image, b.landmarks, size=size, strength=0)
    same(nothing.crop, made.content)


def test_the_verb_translate_keeps_the_photograph_with_it(here: Path, tmp_path: Path, capsys: Any) -> None:
    pictures = [str(face.image) for face in list(FaceDataset.open(here / "data"))[:2]]
    flags = ["--whole-image", "--model", str(here / "judge"), "--translator", NAME, "--size", "32"]
    out = tmp_path / "made.png"
    assert main(["translate", *pictures, "--out", str(out), *flags, "--keep", "photo"]) == 0, capsys.readouterr().err
    content, style, made = (read_image(out)[4:36, 4 + 36 * i :][:, :32] for i in range(3))  # tiles, 4 px apart
    same(made, recoloured(content, style))
    assert main(["translate", *pictures, "--out", str(tmp_path / "b.png"), *flags, "--keep", "structure"]) == 2
    assert "mycolour: keeps the photo of the first picture" in capsys.readouterr().err


def test_it_is_assessed(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "assess", "--data", str(here / "data"), "--split", "train", "--translator", NAME, "--judge",
        str(here / "judge"), "--out", str(tmp_path / "out"), "--accelerator", "cpu",
    ]  # fmt: skip
    assert main(command) == 0, capsys.readouterr().err
    found = json.loads((tmp_path / "out" / "assessment.json").read_text(encoding="utf-8"))
    assert found["translator"]["model"] == NAME
    assert found["held_out"] is True
    assert "without_donor" not in found  # nobody has to fit
    assert found["latent"]["units"] == 3  # a colour


def test_it_is_an_arm_by_its_name(here: Path, tmp_path: Path) -> None:
    chain = ChainConfig(arms=(ArmConfig(kind="translator", run=Path(NAME), strength=(1, 1)),))
    links = open_chain(chain, 1.0, CROP, FIVE, torch.device("cpu"))
    assert not chooses_by_fit(links)
    (bent,) = open_chain(
        ChainConfig(arms=(ArmConfig(kind="translator", run=Path("warp")),)), 1.0, CROP, FIVE, torch.device("cpu")
    )
    assert bent.by_fit
    content = CropCache(FaceDataset.open(here / "data"), CROP).batch(np.arange(4))
    donors = content._replace(image=content.image.flip(0), landmarks=content.landmarks.flip(0))
    made = links[0].arms[0](content, donors, torch.ones(4), torch.rand(4, 16, dtype=torch.float64)).image
    image, other = content.image, donors.image
    wanted = image - image.mean(dim=(2, 3), keepdim=True) + other.mean(dim=(2, 3), keepdim=True)
    inner = (slice(None), slice(None), slice(4, 28), slice(4, 28))  # within the seam
    torch.testing.assert_close(made[inner], wanted.clamp(-1, 1)[inner], atol=1e-3, rtol=0)


def test_an_augmentation_takes_it_by_its_name(here: Path) -> None:
    faces = FaceDataset.open(here / "data")
    restyle = StyleAugmentation(faces, NAME, strength=(1, 1))
    face = faces[0]
    assert face.landmarks is not None
    image = read_image(face.image)
    made = restyle(image, face.landmarks, seed=1)
    height, width = image.shape[:2]
    middle = (slice(height // 3, 2 * height // 3), slice(width // 3, 2 * width // 3))
    moved = made[middle].astype(int) - image[middle]
    assert np.abs(moved).max() > 2  # another colour
    inside = (made[middle] > 0) & (made[middle] < 255)
    for channel in range(3):  # by the same amount everywhere
        low, high = np.percentile(moved[..., channel][inside[..., channel]], [10, 90])  # edges are resampled
        assert high - low <= 2
    with pytest.raises(UserError, match=r"no style and no run folder is called 'yourcolour'"):
        StyleAugmentation(faces, "yourcolour")


def test_what_a_translator_bends_says_its_entry_not_its_name(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An own one that bends gives its own pictures too: here `warp`'s, in black."""

    class Black(LoadedWarp):
        def decode(self, features: list[torch.Tensor], style: list[torch.Tensor]) -> torch.Tensor:
            return torch.full_like(LoadedWarp.decode(self, features, style), -1)

    monkeypatch.setitem(TRANSLATORS, NAME, TRANSLATORS["warp"]._replace(loaded=Black))
    assert StyleTranslator.load(NAME).keeps == "structure"
    made = generated(here, tmp_path / "made", "--translator", NAME, "--skip-unfit", "--judge", str(here / "judge"))
    assert len(made)
    assert all((read_image(face.image) == 0).all() for face in made)
