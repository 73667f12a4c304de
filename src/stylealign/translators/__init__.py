"""Translators: what gives a face another face's style. A new one is a folder and an entry of `TRANSLATORS`.

An entry says all that others ask of a translator: `train-translator` takes its sections of the configuration and its
way of learning from here, `generate`, `assess` and the Python API how it is used once trained, the docs and the
contract tests its name and sizes. Nothing else lists translators.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from torch import nn

from stylealign.batches.structure_maps import StructureConfig
from stylealign.errors import UserError
from stylealign.face.schema import LandmarkSchema
from stylealign.training.plugins import unknown
from stylealign.translators.base import LoadedTranslator
from stylealign.translators.bilateral.learning import BilateralLearningConfig, learn_bilateral
from stylealign.translators.bilateral.network import BilateralConfig, LoadedBilateral, build_bilateral
from stylealign.translators.codes import CodeConfig
from stylealign.translators.kl import KLConfig
from stylealign.translators.learning import Learner, Learning
from stylealign.translators.repaint.learning import RepaintLearningConfig, learn_repaint
from stylealign.translators.repaint.network import LoadedRepaint, RepaintConfig, build_repaint
from stylealign.translators.spade.learning import SpadeLearningConfig, learn_spade
from stylealign.translators.spade.network import LoadedSpade, SpadeConfig, build_spade
from stylealign.translators.vunet.config import PRESETS as VUNET_PRESETS
from stylealign.translators.vunet.config import VUNetConfig
from stylealign.translators.vunet.learning import learn_vunet
from stylealign.translators.vunet.network import LoadedVUNet, build_vunet
from stylealign.translators.warp.network import VERSION as WARP_VERSION
from stylealign.translators.warp.network import LoadedWarp, NoShape, build_warp

__all__ = ["TRANSLATORS", "LoadedTranslator", "Preset", "TranslatorEntry", "build_translator"]


class Preset(NamedTuple):
    """A translator at one size."""

    version: Literal["tiny", "small", "paper"]
    """`tiny` is the smallest network that goes every way the real one goes, for tests; `small` trains on a CPU core,
    and is what `train-translator` takes where nothing is said; `paper` is what was published, where anything was"""
    size: int
    """side of the crop, px"""
    network: Any
    """its configuration"""


class TranslatorEntry(NamedTuple):
    """What makes a translator, and what others have to know of it."""

    summary: str
    """What it does, in a line, after its name"""
    build: Callable[[Any, int, StructureConfig, LandmarkSchema], nn.Module]
    """(its config, side of the crop in px, how structure is drawn, mark-up) -> network. The network's own `config`
    goes into the run's card, from which it is built again."""
    config: type
    """The network's shape: a frozen dataclass, whose section in `train-translator` has the translator's name"""
    presets: tuple[Preset, ...]
    """Its sizes, the small one among them"""
    learn: Callable[[Learning], Learner] | None
    """How it learns; None: it has nothing to learn, and is opened by its name (`open_untrained`)"""
    loaded: type[LoadedTranslator]
    """What it is once trained; says whether it needs the content's photograph and whether it has a prior"""
    learning: type | None = None
    """What can be set of its way of learning: a frozen dataclass whose defaults are good ones; None: nothing"""
    learning_section: str = ""
    """Key of that dataclass in `train-translator`'s configuration"""
    watches: Callable[[Any], bool] = lambda learning: False
    """(its section on learning) -> whether its losses ask a detector if landmarks stay where they are"""
    version: int = 1
    """Of one that has nothing to learn: raised when the same faces give other pictures"""

    def preset(self, version: str) -> Preset:
        """The first of its sizes of that version."""
        return next(preset for preset in self.presets if preset.version == version)

    @property
    def sections(self) -> dict[str, type]:
        """Key -> dataclass of its sections of `train-translator`'s configuration, beside the one of its name."""
        return {} if self.learning is None else {self.learning_section: self.learning}


def _by_its_weight(learning: Any) -> bool:
    """Landmarks are watched where their loss has a weight."""
    return learning.landmark > 0


_TINY_CODES = CodeConfig(width=4, max_width=8, global_size=6, region_size=3)

TRANSLATORS = {
    "vunet": TranslatorEntry(
        "the network of the original release, which draws landmarks in the style of a whole picture.",
        build_vunet, VUNetConfig,
        presets=(
            Preset("tiny", 32, VUNET_PRESETS["tiny32"]),
            Preset("small", 64, VUNET_PRESETS["small64"]),
            Preset("paper", 256, VUNET_PRESETS["released"]),
        ),
        learn=learn_vunet, loaded=LoadedVUNet, learning=KLConfig, learning_section="kl",
    ),
    "spade": TranslatorEntry(
        "draws landmarks in a style whose code carries no layout.",
        build_spade, SpadeConfig,
        presets=(
            Preset("tiny", 16, SpadeConfig(codes=_TINY_CODES, width=4, max_width=8, hidden=4)),
            Preset("small", 64, SpadeConfig()),
        ),
        learn=learn_spade, loaded=LoadedSpade, learning=SpadeLearningConfig, learning_section="spade_learning",
        watches=_by_its_weight,
    ),
    "bilateral": TranslatorEntry(
        "keeps the face's own photograph and changes its light and colours.",
        build_bilateral, BilateralConfig,
        presets=(
            Preset("tiny", 16, BilateralConfig(codes=_TINY_CODES, grid=4, bins=2, width=4, max_width=8)),
            Preset("small", 64, BilateralConfig()),
        ),
        learn=learn_bilateral, loaded=LoadedBilateral, learning=BilateralLearningConfig,
        learning_section="bilateral_learning", watches=_by_its_weight,
    ),
    "repaint": TranslatorEntry(
        "bends the donor's photograph onto the face's landmarks and paints anew what it cannot show.",
        build_repaint, RepaintConfig,
        presets=(
            Preset("tiny", 16, RepaintConfig(fine=4, width=4, max_width=8)),
            Preset("small", 128, RepaintConfig()),
        ),
        learn=learn_repaint, loaded=LoadedRepaint, learning=RepaintLearningConfig, learning_section="repaint_learning",
        watches=_by_its_weight,
    ),
    "warp": TranslatorEntry(
        "bends the donor's photograph onto the face's landmarks; nothing is trained.",
        build_warp, NoShape, presets=(Preset("tiny", 16, NoShape()), Preset("small", 128, NoShape())), learn=None,
        loaded=LoadedWarp, version=WARP_VERSION,
    ),
}  # fmt: skip


def trained_names() -> list[str]:
    """The names of the translators that learn, in the table's order."""
    return [name for name, entry in TRANSLATORS.items() if entry.learn is not None]


def untrained_names() -> list[str]:
    """The names of those that have nothing to learn."""
    return [name for name, entry in TRANSLATORS.items() if entry.learn is None]


def build_translator(
    name: str, config: Any, size: int, structure: StructureConfig, schema: LandmarkSchema
) -> nn.Module:
    """A translator with fresh weights, for crops of `size` px. Raises UserError for a name that is not in the table."""
    if name not in TRANSLATORS:
        raise UserError(unknown("translator", name, TRANSLATORS))
    return TRANSLATORS[name].build(config, size, structure, schema)
