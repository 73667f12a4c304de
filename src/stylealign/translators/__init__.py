"""Translators: networks that give a face another face's style. A new one is a file or two and a line of `TRANSLATORS`."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from stylealign.batches.structure_maps import StructureConfig, num_structure_channels
from stylealign.config import to_dict
from stylealign.errors import UserError
from stylealign.face.schema import LandmarkSchema
from stylealign.translators.bilateral import Bilateral, BilateralConfig
from stylealign.translators.bilateral_learning import learn_bilateral
from stylealign.translators.learning import Learner, Learning
from stylealign.translators.loaded import LoadedBilateral, LoadedSpade, LoadedTranslator
from stylealign.translators.spade import Spade, SpadeConfig
from stylealign.translators.spade_learning import learn_spade
from stylealign.translators.vunet import PRESETS as VUNET_PRESETS
from stylealign.translators.vunet import TranslatorOutput, VUNet, VUNetConfig, index_features, initialise
from stylealign.translators.vunet_learning import learn_vunet

__all__ = [
    "TRANSLATORS",
    "VUNET_PRESETS",
    "TranslatorOutput",
    "VUNet",
    "VUNetConfig",
    "build_translator",
    "index_features",
    "initialise",
]


class TranslatorKind(NamedTuple):
    """What makes a translator."""

    config: type
    """The network's shape; the section of `train-translator`'s configuration that has the translator's name"""
    build: Callable[[Any, int, StructureConfig, LandmarkSchema], nn.Module]
    """(its config, side of the crop in px, how structure is drawn, mark-up) -> network; its `config` is what the card shall say"""
    learn: Callable[[Learning], Learner]
    """How it learns"""
    learning_section: str
    """Key of what its way of learning is told by `train-translator`'s configuration"""
    loaded: type[LoadedTranslator]
    """What it is once trained"""


def _vunet(config: VUNetConfig, size: int, structure: StructureConfig, schema: LandmarkSchema) -> nn.Module:
    wanted = {"size": size, "structure_channels_in": num_structure_channels(structure.kind, schema)}
    return VUNet(VUNetConfig(**{**to_dict(config), **wanted}))


def _spade(config: SpadeConfig, size: int, structure: StructureConfig, schema: LandmarkSchema) -> nn.Module:
    return Spade(config, size, num_structure_channels(structure.kind, schema))


def _bilateral(config: BilateralConfig, size: int, structure: StructureConfig, schema: LandmarkSchema) -> nn.Module:
    return Bilateral(config, size)


TRANSLATORS = {
    "vunet": TranslatorKind(VUNetConfig, _vunet, learn_vunet, "kl", LoadedTranslator),
    "spade": TranslatorKind(SpadeConfig, _spade, learn_spade, "spade_learning", LoadedSpade),
    "bilateral": TranslatorKind(BilateralConfig, _bilateral, learn_bilateral, "bilateral_learning", LoadedBilateral),
}


def build_translator(
    name: str, config: Any, size: int, structure: StructureConfig, schema: LandmarkSchema
) -> nn.Module:
    """A translator with fresh weights; `size` is the crop's side in px."""
    if name not in TRANSLATORS:
        raise UserError(f"unknown translator '{name}'; known: {', '.join(TRANSLATORS)}")
    return TRANSLATORS[name].build(config, size, structure, schema)
