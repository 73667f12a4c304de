"""The verb `models`: counts that were worked out by hand, every detector in the table, figures that are measured."""

from pathlib import Path

import pytest
import torch
from torch import nn

from builders.places import SRC
from stylealign.config import from_dict, read_yaml
from stylealign.detectors import DETECTORS, Preset, build_detector, presets
from stylealign.detectors.output import DetectorOutput
from stylealign.detectors.size import describe
from stylealign.errors import UserError
from stylealign.evaluation.tables import millions
from stylealign.face.schema import IBUG68, WFLW98
from stylealign.jobs import models
from stylealign.jobs.models import Models, model_table
from stylealign.jobs.train_detector.job import TrainDetector


class Hand(nn.Module):
    """A net small enough to count with a pencil; its frozen layer is part of the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.frozen = nn.Conv2d(8, 8, 1, bias=False).requires_grad_(False)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2, bias=False)
        self.fc = nn.Linear(4 * 16 * 16, 10)

    def forward(self, image):
        x = self.up(self.frozen(torch.relu(self.norm(self.conv(image)))))
        return DetectorOutput(self.fc(x.flatten(1)).view(-1, 5, 2))


def test_macs_and_parameters_are_those_of_a_pencil() -> None:
    net = Hand().train()
    size = describe(net, 16)
    conv = 8 * 8 * 8 * (3 * 3 * 3)  # 8 channels of 8 x 8 places, 27 products each
    frozen = 8 * 8 * 8 * 8
    up = 8 * 8 * 8 * (4 * 2 * 2)  # every input number goes into 4 channels x 4 places
    assert size.macs == conv + frozen + up + 4 * 16 * 16 * 10
    assert size.parameters == (8 * 27 + 8) + 16 + 64 + 8 * 4 * 4 + (1024 * 10 + 10)
    assert size.trainable == size.parameters - 64
    assert net.training
    assert int(net.norm.num_batches_tracked) == 0  # counting teaches it nothing


def test_macs_grow_with_the_picture_and_known_networks_have_their_known_size() -> None:
    resnet = next(p for p in DETECTORS["resnet18"].presets if p.version == "paper")
    net = models.build("resnet18", resnet, WFLW98)
    size = describe(net, 224)
    # torchvision's ResNet-18: 11,689,512 parameters and 1.814 G MACs at 224 px, with 1000 outputs where this has 196.
    assert size.parameters == 11_689_512 - 513 * (1000 - 196)
    assert size.macs == pytest.approx(1.8141e9 - 512 * (1000 - 196), rel=1e-3)


def test_every_detector_stands_in_the_table_at_two_sizes() -> None:
    found = {(name, preset.version) for name, preset in presets()}
    assert found >= {(name, version) for name in DETECTORS for version in ("small", "paper")}


RECIPES = [
    path
    for version in ("small", "paper")
    for path in sorted((SRC / "stylealign" / "recipes" / version).glob("*.yaml"))
    if "styles" not in path.name and "two_stage" not in path.name and read_yaml(path)["model"] in DETECTORS
]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_sizes_are_those_of_the_recipes(path: Path) -> None:
    """Presets repeat what the recipes say: they are what a network is, the recipes how it is trained."""
    job = from_dict(TrainDetector, {**read_yaml(path), "run": "run"})
    entry = DETECTORS[job.model]
    config, schemas = getattr(job, entry.section), (IBUG68, WFLW98)[: 1 + entry.several_heads]
    trained = build_detector(job.model, schemas, job.crop.size, config)
    shapes = {key: value.shape for key, value in trained.state_dict().items()}
    mine = [p for p in entry.presets if (p.version, p.size) == (path.parent.name, job.crop.size)]
    made = (models.build(job.model, preset, IBUG68) for preset in mine)
    assert shapes in [{k: v.shape for k, v in model.state_dict().items()} for model in made]


def test_a_table_has_a_line_a_network_and_says_what_it_counts() -> None:
    table = model_table(Models(only=("resnet18",), schema="98"))
    on_trunk = ("ResNet-18's head on MobileNetV2", "small", "96")
    assert [row[:3] for row in table.rows] == [("ResNet-18", "small", "64"), on_trunk, ("ResNet-18", "paper", "256")]
    assert all(len(row) == len(table.header) for row in table.rows)
    assert "98 points (wflw98)" in table.note
    assert "flop_counter" in table.note
    larger = model_table(Models(only=("resnet18",), size=128))
    assert [row[2] for row in larger.rows] == ["128", "128", "128"]
    assert float(larger.rows[0][5]) > float(table.rows[0][5])
    with pytest.raises(UserError, match=r"unknown detector 'resnet-18'; known: resnet18"):
        from_dict(Models, {"only": ["resnet-18"]})


def test_what_is_measured_is_there(monkeypatch) -> None:
    monkeypatch.setattr(models, "SECONDS", 0.01)
    preset = Preset("tiny", "tiny", 32, {"width": 4})
    found = models.measure("resnet18", preset, WFLW98, None, 2, torch.device("cpu"))
    assert found["infer"] > 0
    assert found["train"] > 0
    assert found["train_mb"] >= found["infer_mb"] >= 0


def test_what_cannot_be_measured_is_a_dash_and_not_the_end(monkeypatch, capsys) -> None:
    monkeypatch.setattr(models, "BATCHES", (1,))
    odd = DETECTORS["resnet18"]._replace(presets=(Preset("odd", "small", 32, {"width": 0}),))
    monkeypatch.setitem(DETECTORS, "resnet18", odd)
    (row,) = model_table(Models(only=("resnet18",), measure=True)).rows
    assert row[3:] == ("-",) * 7
    assert "width 0" in capsys.readouterr().err


@pytest.mark.slow
def test_measuring_happens_in_a_process_of_its_own() -> None:
    table = model_table(Models(only=("resnet18",), size=32, measure=True, accelerator="cpu"))
    assert all("-" not in row[3:] for row in table.rows)


def test_counts_are_shown_with_three_digits() -> None:
    assert [millions(n) for n in (70_123, 11_277_060, 1_814_000_000)] == ["0.0701", "11.3", "1814"]
