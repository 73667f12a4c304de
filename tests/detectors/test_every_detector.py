"""Every entry of DETECTORS keeps the contract, says its sizes and has a section in the configuration."""

from pathlib import Path

import pytest

from builders.detector_contract import DetectorContract
from builders.networks import tiny_config
from stylealign.detectors import DETECTORS
from stylealign.jobs.train_detector.job import TrainDetector


def test_every_detector_says_its_sizes_and_has_a_section_in_the_configuration() -> None:
    config = TrainDetector(run=Path("run"))
    for name, entry in DETECTORS.items():
        assert type(getattr(config, entry.section)) is entry.config is type(tiny_config(name))
        assert {preset.version for preset in entry.presets} == {"tiny", "small", "paper"}
        assert entry.summary


@pytest.mark.parametrize("name", DETECTORS)
class TestEveryDetector(DetectorContract):
    pass
