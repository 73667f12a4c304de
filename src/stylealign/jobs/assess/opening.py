"""What a report needs, read from runs: its subject, the judge, and the network that pictures are compared by."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from stylealign.config import to_dict
from stylealign.data.dataset import FaceDataset
from stylealign.data.packaged import COMPACT, run_folder
from stylealign.detectors.loaded import LoadedDetector, load_detector
from stylealign.errors import UserError, counted
from stylealign.face.crop import CropConfig
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.assess.images import FeatureNetwork
from stylealign.jobs.assess.subject import Subject, subject_of, subject_of_arm
from stylealign.jobs.train_detector.pretrained import open_trunk
from stylealign.progress import say
from stylealign.styling.arms import ARMS, open_arm
from stylealign.translators.loaded import load_translator, open_untrained
from stylealign.translators.perceptual import FrozenFeatures, load_vgg19

FEATURE_LAYERS = ("layer1", "layer2", "layer3")


class Opened(NamedTuple):
    """What is assessed, what is known of it, and the detectors that were trained beside it."""

    subject: Subject
    card: dict[str, Any]
    judge: Path | None = None
    """run of the judge beside it; None where there is none"""
    features: Path | None = None
    """run of the feature detector beside it"""


def beside(translator: Path, card: dict[str, Any], name: str, key: str) -> Path | None:
    """The run of a detector trained inside a translator's run, or given to its training; None without either."""
    inside = translator / name
    if (inside / "card.json").exists():
        return inside
    given = (card.get("config") or {}).get(key)
    return Path(given) if given and (run_folder(given) / "card.json").exists() else None


def open_translator(run: Path, device: torch.device) -> Opened:
    """A trained translator, with the detectors beside it."""
    translator = load_translator(run, device)
    card = translator.card
    subject = subject_of(translator, run.absolute().name)
    return Opened(subject, card, beside(run, card, "judge", "judge"), beside(run, card, "features", "feature_detector"))


def open_styled(arm: str, judge: Path, seed: int, device: torch.device) -> Opened:
    """A style arm by its name, on faces of the judge's mark-up that are cut as the judge's are."""
    detector = load_detector(judge)
    schema, crop = detector.schema, detector.crop
    opened = open_arm(arm, schema, crop, device)
    subject = subject_of_arm(opened, arm, schema, crop, seed, by_fit=ARMS[arm].donors_by_fit)
    return Opened(subject, {"model": f"arm {arm}", "crop": to_dict(crop)})


def open_named(name: str, judge: Path | None, device: torch.device) -> Opened:
    """A translator that needs no training by its name, on faces that are cut as the judge's are."""
    run = judge or COMPACT
    if judge is None and not (COMPACT / "card.json").exists():
        raise UserError(f"translator {name} has no run that holds a judge: expected --judge")
    detector = load_detector(run)
    translator = open_untrained(name, detector.schema, detector.crop, device)
    return Opened(subject_of(translator, name), translator.card, run)


def open_judge(
    run: Path | None, crop: CropConfig, schema: LandmarkSchema, device: torch.device, where: Path
) -> LoadedDetector:
    """The independent detector; its crops must be cut as the subject's are, and its mark-up be the same.

    Raises UserError where none was found (in `where`), or one that would misjudge real and swapped faces alike.
    """
    if run is None:
        raise UserError(f"{where}: holds no judge; name a detector that never met this translator with --judge")
    judge = load_detector(run, device)
    if judge.schema != schema:
        raise UserError(
            f"judge {run}: a detector of {judge.schema.name} ({counted(judge.schema.num_points, 'point')}), expected "
            f"{schema.name} ({counted(schema.num_points, 'point')})"
        )
    if (judge.crop.scale, judge.crop.box) != (crop.scale, crop.box):
        raise UserError(
            f"judge {run}: trained on a {judge.crop.describe()}, the translator's is a {crop.describe()}: expected the "
            "same scale and box (sizes may differ)"
        )
    if (judge.card.get("config") or {}).get("synthetic"):
        say(
            f"warning: judge {run} was trained on synthetic faces: it is no independent one if they were this "
            "translator's"
        )
    judge.model.requires_grad_(False)
    return judge


def vgg19_features(weights: Path, size: int, device: torch.device) -> FeatureNetwork:
    """VGG-19's features of pictures of `size` px."""
    vgg = load_vgg19(weights).to(device)
    return FeatureNetwork(f"VGG-19 ({weights.name}), conv1_2 to conv5_2", lambda x: vgg(x.to(device))[1:], size)


def imagenet_features(weights: Path, size: int, device: torch.device) -> FeatureNetwork:
    """MobileNetV2's features at strides 4 to 32 of pictures of `size` px, by a file of ImageNet weights."""
    trunk = open_trunk("mobilenet_v2", weights, size).to(device).eval().requires_grad_(False)
    return FeatureNetwork("MobileNetV2 by ImageNet, strides 4 to 32", lambda x: trunk(x.to(device)), size)


def detector_features(run: Path, is_judge: bool, device: torch.device) -> FeatureNetwork:
    """The features of a finished detector run's layers. Raises UserError for a network without such layers."""
    loaded = load_detector(run, device)
    modules = dict(loaded.model.named_modules())
    missing = [name for name in FEATURE_LAYERS if name not in modules]
    if missing:
        raise UserError(
            f"{run}: a '{loaded.card.get('model')}' has no {missing[0]} to compare pictures in; name a resnet with "
            "--feature-detector, or VGG-19 weights with --vgg19"
        )
    features = FrozenFeatures(loaded.model, FEATURE_LAYERS).to(device)
    who = f"detector {run.absolute().parent.name}/{run.absolute().name}" + (", which is the judge" if is_judge else "")
    name = f"{', '.join(FEATURE_LAYERS)} of {who} ({loaded.card.get('model')}, {loaded.crop.size} px)"
    return FeatureNetwork(name, lambda x: features(x.to(device)), loaded.crop.size)


def held_out(card: dict[str, Any], faces: FaceDataset, split: str) -> bool | None:
    """Whether a translator was not trained on this split, by its card; None where it was trained on other data sets. A
    split of None in a card is all faces."""
    same = [d for d in card.get("data") or [] if d.get("content_hash") == faces.content_hash]
    return {split, None}.isdisjoint(d.get("split") for d in same) if same else None
