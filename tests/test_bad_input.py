"""What a person sees who gives something wrong: exit status 2, one sentence with the name of what is wrong, nothing left behind."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from dots import dots
from stylealign.batch import CropConfig
from stylealign.cli import main
from stylealign.config import to_dict
from stylealign.dataset import FaceDataset
from stylealign.detectors.resnet import ResNet18, ResNetConfig
from stylealign.run import save_model
from stylealign.schema import WFLW98
from stylealign.structure import StructureConfig
from stylealign.toyfaces import DrawFaces
from stylealign.toyfaces import main as draw_faces
from stylealign.translators.vunet import PRESETS, VUNet


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five-point faces, 98-point faces, an untrained 98-point detector and translator, and a few files that are not what they say."""
    here = tmp_path_factory.mktemp("here")
    dots(here / "five", 6, splits=("train", "val"))
    draw_faces(DrawFaces(out=here / "faces", count=6, size=48))
    crop = to_dict(CropConfig(size=32))
    (here / "detector").mkdir()
    network = ResNetConfig(width=4)
    card = {"schema": WFLW98.to_dict(), "crop": crop}
    save_model(
        here / "detector",
        ResNet18(98, 32, network).state_dict(),
        {"kind": "detector", "model": "resnet18", "network": to_dict(network), **card},
    )
    (here / "translator").mkdir()
    vunet = VUNet(PRESETS["tiny32"])
    config = {"vunet": to_dict(PRESETS["tiny32"]), "structure": to_dict(StructureConfig())}
    save_model(
        here / "translator", vunet.state_dict(), {"kind": "translator", "model": "vunet", "config": config, **card}
    )
    shutil.copytree(here / "translator", here / "not_safetensors")
    (here / "not_safetensors" / "model.safetensors").write_text("hello")
    shutil.copytree(here / "translator", here / "other_weights")
    other = dict(vunet.state_dict())
    other["surprise"] = torch.zeros(1)
    save_model(here / "other_weights", other, json.loads((here / "translator" / "card.json").read_text()))
    (here / "stopped.partial").mkdir()
    shutil.copytree(here / "faces", here / "damaged")
    picture = FaceDataset.open(here / "damaged").select("train")[0].image
    picture.write_bytes(picture.read_bytes()[: picture.stat().st_size // 2])
    (here / "recipe.yaml").write_text("learning_rate: 1e-3\n")
    (here / "broken.yaml").write_text("{\n")
    (here / "file").write_text("in the way")
    (here / "short.csv").write_text(
        "image," + ",".join(f"x{i},y{i}" for i in range(98)) + "\nnobody.jpg," + ",".join(["1"] * 196) + "\n"
    )
    return here


WRONG = {
    "unknown recipe key": (
        "train-detector recipe.yaml --real faces --run out",
        "unknown key 'learning_rate'; did you mean 'lr'",
    ),
    "no YAML": ("train-detector broken.yaml --real faces --run out", "broken.yaml: not valid YAML"),
    "no data": ("train-detector --run out", "no data: give --real"),
    "no dataset": ("train-detector --real . --run out", "not a dataset folder"),
    "finished dataset": ("draw-faces --out faces --count 3", "already there and complete"),
    "half-written dataset": ("train-detector --real stopped --run out", "half-written stopped.partial"),
    "unfinished run": ("evaluate --data faces --arms a=stopped --out out", "stopped"),
    "detector of another mark-up": (
        "evaluate --data five --split val --arms a=detector --out out",
        "'wflw98', the dataset has 5 of schema 'five'",
    ),
    "translator of another mark-up": (
        "generate --data five --translator translator --out out",
        "draws wflw98 faces, but",
    ),
    "a detector as translator": (
        "generate --data faces --translator detector --out out",
        "holds a detector, expected a translator",
    ),
    "a translator as detector": (
        "evaluate --data faces --split train --arms a=translator --out out",
        "holds a translator, expected a detector",
    ),
    "no safetensors": ("generate --data faces --translator not_safetensors --out out", "not a safetensors file"),
    "other weights": ("generate --data faces --translator other_weights --out out", "unknown weight 'surprise'"),
    "more styles than donors": (
        "generate --data faces --translator translator --out out --styles-per-face 99",
        "styles_per_face needs 99",
    ),
    "picture cut short": ("train-detector --real damaged --run out --loop.steps 1", "cut short or damaged"),
    "no such split": (
        "evaluate --data faces --split nosuch --arms a=detector --out out",
        "no face with split 'nosuch'",
    ),
    "no such subset": (
        "train-detector --real faces --run out --subset rare",
        "no face with split 'train' and subset 'rare'",
    ),
    "predictions of nobody": ("evaluate --data faces --split train --arms a=short.csv --out out", "short.csv"),
    "no such path": ("evaluate --data faces --split train --arms a=nowhere.csv --out out", "nowhere.csv"),
    "a file in the way": ("draw-faces --out file/x --count 3", "file/x"),
    "nothing to read": ("prepare --reader folder --path stopped.partial --out out", "stopped.partial"),
    "no GPU": ("generate --data faces --translator translator --out out --accelerator cuda", "cuda"),
    "no such verb": ("generat", "did you mean 'generate'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_sentence_names_what_is_wrong_and_nothing_is_left(
    name: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command, sentence = WRONG[name]
    monkeypatch.chdir(here)
    monkeypatch.setenv("STYLEALIGN_CACHE", str(here / "cache"))
    before = {p for p in here.rglob("*") if "cache" not in p.parts}
    assert main(command.split()) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "Traceback" not in said
    assert {p for p in here.rglob("*") if "cache" not in p.parts} == before
