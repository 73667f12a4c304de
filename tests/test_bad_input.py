"""What a person sees who gives something wrong: exit status 2, one sentence with the name of what
is wrong, nothing left behind."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from builders.dots import dots
from stylealign.batches.structure_maps import StructureConfig
from stylealign.cli import main
from stylealign.config import to_dict
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.rows import content_hash
from stylealign.detectors.resnet import ResNet18, ResNetConfig
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.sample import FaceSample
from stylealign.face.schema import WFLW98, LandmarkSchema
from stylealign.flags import sentence_of
from stylealign.jobs.draw_faces import DrawFaces
from stylealign.jobs.draw_faces import main as draw_faces
from stylealign.jobs.train_detector.job import TrainDetector
from stylealign.training.run import Run
from stylealign.training.weights import save_model
from stylealign.translators.vunet.config import PRESETS
from stylealign.translators.vunet.network import VUNet


def damaged_copy(source: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """A copy of a data set whose first face was changed by hand."""
    folder = source.with_name(name)
    shutil.copytree(source, folder)
    first, *others = (folder / "index.jsonl").read_text().splitlines()
    face = json.loads(first)
    change(face)
    (folder / "index.jsonl").write_text("\n".join([json.dumps(face), *others]) + "\n")
    if name != "edited":  # a fault that whoever made it did not know of
        before = FaceDataset.open(source)
        text = (folder / "dataset.yaml").read_text()
        after = content_hash(folder / "index.jsonl", before.schema)
        (folder / "dataset.yaml").write_text(text.replace(before.content_hash, after))


def set_meta(source: Path, name: str, **values: Any) -> None:
    """A copy of a data set whose dataset.yaml was changed by hand."""
    shutil.copytree(source, source.with_name(name))
    path = source.with_name(name) / "dataset.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **values}))


def set_card(source: Path, name: str, **values: Any) -> None:
    """A copy of a run whose card.json was changed by hand; None takes a key out."""
    shutil.copytree(source, source.with_name(name))
    path = source.with_name(name) / "card.json"
    card = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({k: v for k, v in card.items() if v is not None}))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five-point faces, 98-point faces, an untrained 98-point detector and translator, and a few
    files that are not what they say."""
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
    (here / "binary.yaml").write_bytes(b"\xff\xfe\x81")
    (here / "list.yaml").write_text("- 1\n")
    (here / "folder.yaml").mkdir()
    (here / "loop.yaml").write_text("loop: 5\n")
    (here / "original.yaml").write_text("exp_name: a\nlog_freq: 5\nspacial_size: 256\n")
    (here / "file").write_text("in the way")
    (here / "vgg.pth").write_text("no weights")

    faces = here / "faces"
    samples = list(FaceDataset.open(faces))
    bare = [FaceSample(id=s.id, image=s.image) for s in samples]
    three = [replace(sample, landmarks=sample.landmarks[:3], visible=None) for sample in samples]  # type: ignore[index]
    write_dataset(here / "three", three, schema=LandmarkSchema(name="three", num_points=3), name="three")
    write_dataset(here / "unlabelled", bare, schema=WFLW98, name="unlabelled")
    damaged_copy(faces, "count97", lambda face: face.update(landmarks=face["landmarks"][:97], visible="1" * 97))
    damaged_copy(faces, "nan", lambda face: face["landmarks"].__setitem__(3, [float("nan"), 1.0]))
    damaged_copy(faces, "point", lambda face: face.update(landmarks=[[3.0, 3.0]] * 98))
    damaged_copy(faces, "edited", lambda face: face.update(split="val"))
    damaged_copy(faces, "missing", lambda face: face.update(image="gone.jpg"))
    damaged_copy(faces, "text", lambda face: face.update(landmarks="hello"))
    set_meta(faces, "format2", format=2)
    set_meta(faces, "other_count", count=7)
    set_meta(faces, "no_splits", splits=None)
    set_meta(faces, "empty", count=0)
    (here / "empty" / "index.jsonl").write_text("")
    set_card(here / "detector", "no_crop", crop=None)
    set_card(here / "detector", "no_model", model=None)
    set_card(here / "detector", "wide", network=to_dict(ResNetConfig(width=8)))
    set_card(here / "detector", "other_hash", model_hash="0" * 64)
    set_card(here / "translator", "no_config", config=None)
    shutil.copytree(here / "detector", here / "cut_short")
    weights = here / "cut_short" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    (here / "one.csv").write_text(
        "image," + ",".join(f"x{i},y{i}" for i in range(98)) + f"\n{samples[0].id}," + ",".join(["1"] * 196) + "\n"
    )
    (here / "binary.csv").write_bytes(b"\xff\xfe\x00")
    (here / "nine.txt").write_text("1 2 3 4 5 6 7 8 9 a.jpg\n")

    save_file({"some": torch.zeros(1)}, here / "some.safetensors")
    unequal = "detectors: {a: {model: resnet18}, b: {model: wing, loop: {steps: 7}}}\n"
    (here / "unequal.yaml").write_text(unequal)
    (here / "synthetic.yaml").write_text("detectors: {a: {}}\narms: {real: {}, both: {synthetic_share: 0.5}}\n")

    # Work begun with another configuration.
    other = TrainDetector(run=here / "begun", real=Path("faces"), lr=0.5)
    Run.open(here / "begun", other).log(1, {"total": 1.0})
    (here / "half.partial").mkdir()
    (here / "half.partial" / "generate.yaml").write_text("verb: generate\nconfig: {styles_per_face: 3}\n")
    (here / "short.csv").write_text(
        "image," + ",".join(f"x{i},y{i}" for i in range(98)) + "\nnobody.jpg," + ",".join(["1"] * 196) + "\n"
    )
    return here


TRAIN = "train-detector --run out --crop.size 32 --resnet.width 4 --loop.steps 1 --loop.batch-size 2"
GENERATE = "generate --out out --styles-per-face 1 --accelerator cpu"
EVALUATE = "evaluate --data faces --split all --out out --draw 0 --resamples 100"
WRONG = {
    "unknown recipe key": (
        "train-detector recipe.yaml --real faces --run out",
        "unknown key 'learning_rate'; did you mean 'lr'",
    ),
    "no YAML": ("train-detector broken.yaml --real faces --run out", "broken.yaml: not valid YAML: line 2: "),
    "no data": ("train-detector --run out", "no data: give --real"),
    "no dataset": ("train-detector --real . --run out", "not a dataset folder"),
    "finished dataset": ("draw-faces --out faces --count 3", "already there; choose another --out"),
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
        "no face with split 'train' and subset 'rare' that is labelled",
    ),
    "predictions of nobody": ("evaluate --data faces --split train --arms a=short.csv --out out", "short.csv"),
    "no such path": ("evaluate --data faces --split train --arms a=nowhere.csv --out out", "nowhere.csv"),
    "a file in the way": ("draw-faces --out file/x --count 3", "file/x"),
    "nothing to read": ("prepare --reader folder --path stopped.partial --out out", "stopped.partial"),
    "no GPU": ("generate --data faces --translator translator --out out --accelerator cuda", "cuda"),
    "no such verb": ("generat", "did you mean 'generate'"),
    # Data sets.
    "two mark-ups": ("train-detector --real faces --synthetic five --run out", "five is annotated with five "
        "(5 points), faces with"),
    "another mark-up to validate on": (TRAIN + " --real faces --val five", "five: annotated with five, the "
        "training faces with wflw98"),
    "wrong number of landmarks": (TRAIN + " --real count97", "count97/index.jsonl:1: 97 landmarks, "
        "expected 98 of wflw98"),
    "wrong number of landmarks, evaluated": ("evaluate --data count97 --split all --arms a=detector --out out",
        "count97/index.jsonl:1: 97 landmarks"),
    "wrong number of landmarks, generated": (GENERATE + " --data count97 --translator translator",
        "count97/index.jsonl:1: 97 landmarks"),
    "landmarks that are no numbers": (TRAIN + " --real text", "text/index.jsonl:1: not a face of format 1"),
    "landmarks that are NaN": (TRAIN + " --real nan", "nan/index.jsonl:1: not a face of format 1 (face000000: "
                                                      "landmarks holds a value that is not"),
    "landmarks that are NaN, read in": ("prepare --reader dataset --path nan --out out",
        "nan/index.jsonl:1: not a face"),
    "all landmarks in one point": (GENERATE + " --data point --translator translator", "face 'face000000' in point/"),
    "index edited since it was made": (TRAIN + " --real edited", "edited since it was made; `stylealign prepare"),
    "picture missing": (GENERATE + " --data missing --translator translator", "missing/images/gone.jpg: no such image"),
    "picture cut short, generated": (GENERATE + " --data damaged --translator translator", "cut short or damaged"),
    "picture missing, exported": ("export-dataset --data missing --format csv --out out", "missing/images/gone.jpg"),
    "empty data set": (TRAIN + " --real empty", "empty/index.jsonl: no face in it"),
    "another format": (TRAIN + " --real format2", "format2/dataset.yaml: format 2, expected 1"),
    "another count": (TRAIN + " --real other_count", "other_count/index.jsonl: 6 faces, expected 7"),
    "dataset.yaml without splits": (TRAIN + " --real no_splits", "no_splits/dataset.yaml: splits: found None"),
    "unlabelled contents": (GENERATE + " --data unlabelled --translator translator", "6 of 6 faces of split "
        "'train' without landmarks"),
    "no faces to learn without labels from": ("pretrain --data faces --run out --split nosuch",
        "faces: no face with split 'nosuch'; it has splits"),
    "unlabelled training faces": (TRAIN + " --real unlabelled", "unlabelled: no face with split "
        "'train' that is labelled"),
    "numbers that are no faces": ("prepare --reader list --path nine.txt --out out", "nine.txt:1: 9 "
        "numbers before the file name"),
    "no layout": ("prepare --reader wflw --path folder.yaml --out out", "folder.yaml: found no list of faces"),
    "a MATLAB file that is none": ("prepare --reader aflw --path file --out out", "file: expected a MATLAB file"),
    "no such schema": ("prepare --reader list --path nine.txt --out out --schema wflw97", "unknown schema 'wflw97'"),
    # Runs and models.
    "no run": (GENERATE + " --data faces --translator faces", "faces: not a run folder (no card.json in it)"),
    "neither run nor predictions": (EVALUATE + " --arms a=faces", "faces: expected a run (card.json) or predictions"),
    "unfinished translator": (GENERATE + " --data faces --translator stopped", "stopped: its training has not "
        "finished (stopped.partial)"),
    "a card without a crop": (EVALUATE + " --arms a=no_crop", "no_crop/card.json: missing key crop"),
    "a card without a model": (EVALUATE + " --arms a=no_model", "no_model/card.json: unknown detector 'None'"),
    "a card without a configuration": (GENERATE + " --data faces --translator no_config",
        "no_config/card.json: vunet: found None"),
    "weights of another width": (EVALUATE + " --arms a=wide", "wide: weight 'conv1.weight' has shape (4, 3, 7, 7), "
        "expected (8, 3, 7, 7)"),
    "weights that changed": (EVALUATE + " --arms a=other_hash", "other_hash/model.safetensors: the "
        "weights are not those"),
    "weights cut short": (EVALUATE + " --arms a=cut_short", "cut_short/model.safetensors: not a "
        "safetensors file, or cut short"),
    "no ImageNet weights": (TRAIN + " --real faces --pretrained vgg.pth", "vgg.pth: not a file of weights"),
    "no VGG weights": ("train-translator --data faces --run out --crop.size 32 --vgg19 vgg.pth", "vgg.pth: not "
        "readable as a file of weights"),
    "a judge of another mark-up": ("train-translator --data five --run out --crop.size 32 --judge detector",
        "detector: a detector of wflw98 (98 points), but"),
    "a run of another configuration, begun": (TRAIN.replace("--run out", "--run begun") + " --real faces",
        "begun.partial: holds a run of another configuration"),
    "faces of another configuration, begun": (GENERATE.replace("--out out", "--out half") + " --data faces "
        "--translator translator",
        "half.partial: holds the work of another configuration"),
    # Detectors and what each of them needs.
    "LAB without curves": (TRAIN + " --real three --model lab --val-split none", "schema three has "
        "none: list its curves"),
    "DVLN with one data set": (TRAIN + " --real faces --model dvln --dvln.width 4", "dvln learns from "
        "at least two data sets"),
    "a second mark-up for a network of one": (TRAIN + " --real faces --other five", "--other is for networks that "
        "learn several mark-ups (dvln); "
        "found it with --model resnet18"),
    "more heads than faces in a batch": (TRAIN + " --real faces --model dvln --other five five five",
        "expected at least 1 each"),
    "too few faces for the styles": ("train-styles --data faces --run out --crop.size 32", "expected at least"),
    "too few faces for the styles inside a run": (TRAIN + " --real faces --model san", "expected at least"),
    "too few faces for the poses": (TRAIN + " --real faces --balance.bins 9", "5 training faces for 9 bins"),
    "weights for a network that takes none": (TRAIN + " --real faces --model lab --pretrained some.safetensors",
        "lab has no layers of its own that ImageNet weights fit"),
    "weights of another architecture": (TRAIN + " --real faces --pretrained some.safetensors", "some.safetensors: "
        "weight 'conv1.weight' "
        "is missing; expected a ResNet-18"),
    "a detector as styles": (TRAIN + " --real faces --model san --styles detector", "detector: holds a "
        "detector, expected a styles"),
    "a study of nothing": ("study --data faces --out out", "detectors and arms: nothing to train"),
    "a study at unequal updates": ("study unequal.yaml --data faces --out out", "a comparison needs equal updates"),
    "a study of synthetic faces without any": ("study synthetic.yaml --data faces --out out", "needs synthetic "
        "faces; give --synthetic"),
    "models of no such detector": ("models --only resnet19", "unknown detector 'resnet19'"),
    # Style, and faces without labels.
    "a style nobody knows": (TRAIN + " --real faces --style.preset fre", "no style preset is called "
        "'fre'; there are none, free"),
    "a split held out as donors": (TRAIN + " --real five --style.preset free --style.donors five "
                                           "--style.donor-split val", "its pictures may not be donors"),
    "a style arm on faces without curves": (TRAIN + " --real three --style.preset make_up --val-split none",
        "which the arm make_up needs"),
    "a teacher for heatmaps": (TRAIN + " --real faces --model lab --teacher.data faces",
        "expected one of resnet18, wing"),
    "a teacher of another mark-up": (TRAIN + " --real faces --teacher.data five",
        "its mark-up is five, expected wflw98"),
    "a start from a translator": (TRAIN + " --real faces --init-from translator", "translator: "),
    "one look for pseudo-labels": ("pseudo-label --data faces --detectors detector --out out --look.no-flip",
        "stylealign pseudo-label: "),
    "pseudo-labels by another mark-up": ("pseudo-label --data five --detectors detector --out out", "wflw98"),
    "a trust that drops all": ("trust --data faces --detectors detector --out out --max-disagreement 1e-9",
        "stylealign trust: "),
    "an expression drawn on photographs": ("stress --data faces --out out --causes expression", "expression"),
    "heads turned too far": ("turn-heads --data faces --out out --degrees 25 120", "found 25 to 120"),
    "heads of another split": ("turn-heads --data faces --out out --split nowhere", "nowhere"),
    "a stress too strong": ("stress --data faces --out out --strengths 9", "9"),
    "a translator without a judge": ("assess --translator translator --data faces --split train --out out", "--judge"),
    "an arm without a judge": ("assess --arm fda --data faces", "expected --judge and --out"),
    # Predictions.
    "predictions that miss a face": (EVALUATE + " --arms a=one.csv", "one.csv: no prediction for 5 of 6 "
        "faces, first 'face000001'"),
    "predictions that are no text": (EVALUATE + " --arms a=binary.csv", "binary.csv: not a text file"),
    # Places.
    "a folder of something else": (GENERATE.replace("--out out", "--out faces") + " --data faces "
        "--translator translator",
        "faces: exists and was not made by generate"),
    "a run where data are": (TRAIN.replace("--run out", "--run faces") + " --real faces", "faces: exists "
        "and is not a run folder"),
    "an evaluation where data are": (EVALUATE.replace("--out out", "--out faces") + " --arms a=detector",
        "faces: already there"),
    "a file in the way of a run": (TRAIN.replace("--run out", "--run file/x") + " --real faces", "file/x.partial"),
    "a file in the way of faces": (GENERATE.replace("--out out", "--out file/x") + " --data faces "
        "--translator translator",
        "file/x.partial"),
    "a file in the way of an evaluation": (EVALUATE.replace("--out out", "--out file/x") + " --arms a=detector",
        "file/x.partial"),
    "a page where a file is": ("report --inputs detector --out file", "file: exists and is not a report of ours"),
    "no name": ("train-detector --real faces --run .", ".: expected a folder with a name of its own"),
    "a pipeline without data": ("pipeline --out out --data nowhere", "nowhere: not a dataset folder"),
    # Recipes and flags.
    "recipe of bytes": ("train-detector binary.yaml --run out", "binary.yaml: cannot be read"),
    "recipe of a list": ("train-detector list.yaml --run out", "list.yaml: found [1], expected a mapping with "
        "keys of TrainDetector"),
    "recipe that is a folder": ("train-detector folder.yaml --run out", "folder.yaml: cannot be read"),
    "recipe with a number for a section": ("train-detector loop.yaml --run out", "loop.yaml.loop: found "
        "5, expected a mapping"),
    "recipe after the flags": ("train-detector --run out loop.yaml",
        "a recipe comes first, before the flags: loop.yaml"),
    "recipe of the original, misspelt": ("train-translator original.yaml", "original.yaml: unknown key 'spacial_size' "
        "in a recipe of the original; did you mean"),
    "missing flag": ("generate --data faces --out out", "missing --translator"),
    "unknown flag": (TRAIN + " --real faces --loop.step 3", "unknown --loop.step; did you mean --loop.steps?"),
    "no number": (TRAIN + " --real faces --lr fast", "--lr: found 'fast', expected a number"),
    "no precision": (TRAIN + " --real faces --loop.precision half", "--loop.precision: found 'half', "
        "expected 32-true, bf16-mixed or 16-mixed"),
    "no steps": ("train-detector --run out --real faces --loop.steps 0", "loop: steps 0 and batch_size "
        "32: expected at least 1"),
    "NaN for a rate": (TRAIN + " --real faces --lr nan", "lr nan and weight_decay 0.05: expected above 0"),
    "negative seed": (TRAIN + " --real faces --loop.seed -1", "loop: seed is -1, expected 0 or more"),
    "a crop as large as a house": (TRAIN + " --real faces --crop.size 100000", "crop: crop of size 100000"),
    "no devices": (TRAIN + " --real faces --loop.accelerator cpu --loop.devices -2", "cannot use -2 cpu devices"),
    "seven GPUs": (TRAIN + " --real faces --loop.accelerator cuda --loop.devices 7", "cannot use 7 cuda devices"),
    "no accelerator": (EVALUATE + " --arms a=detector --accelerator abacus", "--accelerator: found 'abacus', "
        "expected auto, cpu, cuda or mps"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_the_sentence_names_what_is_wrong_and_nothing_is_left(
    name: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "no GPU" and torch.cuda.is_available():
        pytest.skip("there is one")
    command, sentence = WRONG[name]
    monkeypatch.chdir(here)
    monkeypatch.setenv("STYLEALIGN_CACHE", str(here / "cache"))
    before = contents(here)
    assert main(command.split()) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "Traceback" not in said
    assert said.count(f"stylealign {command.split()[0]}: ") == 1
    assert contents(here) == before


def contents(folder: Path) -> dict[Path, tuple[int, int]]:
    """Every file of a folder but the cache's with its size and when it was last changed, and every folder."""
    found = {p: p.stat() for p in folder.rglob("*") if "cache" not in p.parts}
    return {p: (0, 0) if p.is_dir() else (stat.st_size, stat.st_mtime_ns) for p, stat in found.items()}


@pytest.mark.parametrize(
    "command",
    [
        "train-detector --real faces --run link.onnx", "train-detector --real faces --run link.onnx/run",
        "pretrain --data faces --run link.onnx", "generate --data faces --translator warp --out link.onnx",
        "stress --data faces --out link.onnx", "draw-faces --out link.onnx --count 2",
        "evaluate --data faces --arms a=detector --out link.onnx", "predict faces --out link.onnx",
        "fit faces --out link.onnx", "export gone.onnx --out link.onnx",
    ],
)  # fmt: skip
def test_a_link_to_nothing_is_refused_before_the_work(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are no faces and no detector here: whoever says so has looked at them first."""
    monkeypatch.chdir(tmp_path)
    Path("link.onnx").symlink_to("big/none")
    assert main(command.split()) == 2
    assert f"{command.split()[0]}: link.onnx: a link to big/none, which is not there; name" in capsys.readouterr().err
    assert [p.is_symlink() for p in tmp_path.rglob("*")] == [True]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_written_is_named(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o500)
    assert main(["draw-faces", "--out", str(tmp_path / "x"), "--count", "2"]) == 2
    assert f"{tmp_path / 'x'}" in capsys.readouterr().err


def test_debug_shows_where_an_error_came_from() -> None:
    with pytest.raises(UserError, match="no verb 'nothing'"):
        main(["nothing", "--debug"])


@pytest.mark.parametrize("utf8", [True, False])
def test_flags_are_explained_in_a_sentence_on_any_terminal(utf8: bool) -> None:
    box = """
╭─ Required options ────────────────────────╮
│ Missing from stylealign train-detector:   │
│     --run PATH                            │
│         Run folder to make                │
│ ───────────────────────────────────────── │
│ Arguments similar to --rn:                │
│     --run PATH                            │
│ ───────────────────────────────────────── │
│ For full helptext, run x --help           │
╰───────────────────────────────────────────╯
"""
    if not utf8:
        lines = [line.replace("│", " ").replace("─", "-") for line in box.splitlines()]
        box = "\n".join([" Required options ", " " + "-" * 43, *lines[2:-1]])
    assert sentence_of(box) == "missing --run; did you mean --run?"
