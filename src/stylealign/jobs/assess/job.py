"""The job `assess`: the translator report. A trained translator and held-out faces in, a folder of figures and pictures out.

    <out>/assessment.json   every figure;  assessment.md  the same in tables
    <out>/drift.png  matrix.png        which way points move, and the gap of every swap of the sheet
    <out>/sheets/                      swaps, reconstructions, one face in many styles, on drawn faces the true answers

`report` shows the folder, also where it lies in a translator's run (the default place).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from stylealign.batches.batch import Batch, to_uint8
from stylealign.batches.crops import CropCache
from stylealign.config import to_dict
from stylealign.data.atomic import refuse_existing, whole_folder
from stylealign.data.dataset import FaceDataset, describe_data
from stylealign.data.image import write_image
from stylealign.detectors.loaded import LoadedDetector, load_detector
from stylealign.errors import UserError
from stylealign.evaluation.draw import contact_sheet, style_sheet
from stylealign.face.crop import CropConfig
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.assess.drawn import is_drawn, true_swaps
from stylealign.jobs.assess.images import FeatureNetwork
from stylealign.jobs.assess.measure import Pictures, measure
from stylealign.jobs.assess.plots import drift_plot, matrix_plot
from stylealign.jobs.assess.structure import lengths_of
from stylealign.jobs.assess.subject import Subject, subject_of, subject_of_arm
from stylealign.jobs.assess.tables import summary, to_markdown
from stylealign.progress import say
from stylealign.styling.arms import ARMS, open_arm
from stylealign.training.devices import pick_device
from stylealign.translators.loaded import load_translator
from stylealign.translators.perceptual import FrozenFeatures, load_vgg19

FORMAT = 1
FEATURE_LAYERS = ("layer1", "layer2", "layer3")
SHOWN = 12  # pairs on the sheets of reconstructions and of true answers


@dataclass(frozen=True, kw_only=True, slots=True)
class Assess:
    """Measure what a translator keeps of a face, what it changes and by how much, on held-out faces."""

    data: Path
    """Data set with labelled faces. Of one from `draw-faces` the true answer of every swap is drawn and compared as well."""
    translator: Path | None = None
    """Run folder of a trained translator."""
    arm: str | None = None
    """A style arm in a translator's place, at full strength, on crops cut as the judge's: adain, fda, ..."""
    out: Path | None = None
    """Folder to make. Default: `assessment` in the translator's run, where `report` finds it."""
    split: str = "val"
    """Faces the translator was not trained on; where it was, the report says so."""
    subset: str | None = None
    """Use only the faces of that split with this attribute."""
    judge: Path | None = None
    """A detector run that never met the translator. Default: the judge in the translator's run."""
    feature_detector: Path | None = None
    """A detector run in whose layers pictures are compared. Default: the feature detector in the translator's run, else the judge."""
    vgg19: Path | None = None
    """VGG-19 weights (torchvision's or Keras') to compare pictures in, instead of a detector's layers."""
    faces: int = 200
    """Faces to look at."""
    gallery: int = 100
    """Donors among which the right one has to be the nearest in style; as many other faces are restyled."""
    styles: int = 8
    """Styles of one face in the figure of diversity."""
    sheet_size: int = 6
    """Side of the swap matrix."""
    seed: int = 0
    """Draws partners, galleries and halves."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"

    def __post_init__(self) -> None:
        for name, least in (("faces", 8), ("gallery", 2), ("styles", 2), ("sheet_size", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least {least}")
        if (self.translator is None) == (self.arm is None):
            raise ValueError("expected a translator or an arm, and one of the two")
        if self.arm is not None and self.arm not in ARMS:
            raise ValueError(f"no style arm is called {self.arm!r}; there are {', '.join(ARMS)}")
        if self.arm is not None and (self.judge is None or self.out is None):
            raise ValueError(f"arm {self.arm} has no run that holds a judge: expected --judge and --out")
        if self.vgg19 and self.feature_detector:
            raise ValueError("vgg19 and feature_detector are both given: expected one")


def _beside(config: Assess, card: dict[str, Any], name: str, key: str) -> Path | None:
    """A detector that was trained beside the translator, or that its training was given."""
    if config.translator is None:
        return None
    inside = config.translator / name
    if (inside / "card.json").exists():
        return inside
    given = (card.get("config") or {}).get(key)
    return Path(given) if given and (Path(given) / "card.json").exists() else None


def open_judge(
    run: Path | None, crop: CropConfig, schema: LandmarkSchema, device: torch.device, where: Path
) -> LoadedDetector:
    """The independent detector; its crops must be cut as the subject's are, and its mark-up be the same.

    Raises UserError where there is none, or one that would misjudge real and swapped faces alike.
    """
    if run is None:
        raise UserError(f"{where}: holds no judge; name a detector that never met this translator with --judge")
    judge = load_detector(run, device)
    if judge.schema != schema:
        raise UserError(
            f"judge {run}: a detector of {judge.schema.name} ({judge.schema.num_points} points), expected {schema.name} ({schema.num_points} points)"
        )
    if (judge.crop.scale, judge.crop.box) != (crop.scale, crop.box):
        raise UserError(
            f"judge {run}: trained on a {judge.crop.describe()}, the translator's is a {crop.describe()}: expected the same scale and box "
            "(sizes may differ)"
        )
    if (judge.card.get("config") or {}).get("synthetic"):
        say(
            f"warning: judge {run} was trained on synthetic faces: it is no independent one if they were this translator's"
        )
    judge.model.requires_grad_(False)
    return judge


def open_features(config: Assess, card: dict[str, Any], judge_run: Path, device: torch.device) -> FeatureNetwork:
    """In whose features pictures are compared: VGG-19's or a detector's, named."""
    if config.vgg19 is not None:
        vgg = load_vgg19(config.vgg19).to(device)
        return FeatureNetwork(
            f"VGG-19 ({config.vgg19.name}), conv1_2 to conv5_2", lambda x: vgg(x.to(device))[1:], card["crop"]["size"]
        )
    run = config.feature_detector or _beside(config, card, "features", "feature_detector") or judge_run
    loaded = load_detector(run, device)
    modules = dict(loaded.model.named_modules())
    missing = [name for name in FEATURE_LAYERS if name not in modules]
    if missing:
        raise UserError(
            f"{run}: a '{loaded.card.get('model')}' has no {missing[0]} to compare pictures in; name a resnet with --feature-detector, or VGG-19 "
            "weights with --vgg19"
        )
    features = FrozenFeatures(loaded.model, FEATURE_LAYERS).to(device)
    who = f"detector {run.absolute().parent.name}/{run.absolute().name}" + (
        ", which is the judge" if run == judge_run else ""
    )
    name = f"{', '.join(FEATURE_LAYERS)} of {who} ({loaded.card.get('model')}, {loaded.crop.size} px)"
    return FeatureNetwork(name, lambda x: features(x.to(device)), loaded.crop.size)


def held_out(card: dict[str, Any], faces: FaceDataset, split: str) -> bool | None:
    """Whether a translator's card says that it was not trained on this split; None where it was trained on another data set."""
    same = [d for d in card.get("data") or [] if d.get("content_hash") == faces.content_hash]
    return split not in {d.get("split") for d in same} if same else None


def _sheets(folder: Path, batch: Batch, pictures: Pictures, truth: np.ndarray | None) -> None:
    """Sheets of what was measured."""
    real, made, own = (list(to_uint8(x).numpy()) for x in (batch.image, pictures.swapped, pictures.reconstructed))
    grid = to_uint8(pictures.matrix.flatten(0, 1)).numpy().reshape(*pictures.matrix.shape[:2], *real[0].shape)
    faces = [real[i] for i in pictures.sheet]
    write_image(folder / "swaps.png", style_sheet(faces, faces, list(grid)))
    first = range(min(SHOWN, len(real)))
    rows = [image for i in first for image in (real[i], own[i])]
    write_image(folder / "reconstructions.png", contact_sheet(rows, 8))
    face, donors, varied = pictures.varied
    styles = list(to_uint8(varied).numpy())
    write_image(folder / "styles.png", style_sheet([real[face]], [real[i] for i in donors], [styles]))
    if truth is not None:
        rows = [image for i in first for image in (real[i], real[pictures.partners[i]], made[i], truth[i])]
        labels = [text for _ in first for text in ("structure", "style", "translator", "true")]
        write_image(folder / "truth.png", contact_sheet(rows, 8, labels))


def write_assessment(
    folder: Path,
    found: dict[str, Any],
    pictures: Pictures,
    batch: Batch,
    schema: LandmarkSchema,
    truth: np.ndarray | None,
) -> None:
    """Fill the folder."""
    landmarks = batch.landmarks.double().numpy()
    mean = landmarks.mean(axis=0)
    length = float(lengths_of(landmarks, schema)[0].mean())
    structure = found["structure"]
    drift_plot(
        schema, mean, 100 * np.array(structure["per_point"]), np.array(structure["drift"]), length, folder / "drift.png"
    )
    matrix_plot(100 * np.array(found["matrix"]["gap"]), folder / "matrix.png")
    (folder / "sheets").mkdir()
    _sheets(folder / "sheets", batch, pictures, truth)
    (folder / "assessment.json").write_text(
        json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    (folder / "assessment.md").write_text(to_markdown(found), encoding="utf-8")


def assess(
    subject: Subject,
    faces: FaceDataset,
    judge: LoadedDetector,
    network: FeatureNetwork,
    out: Path,
    said: dict[str, Any],
    config: Assess,
) -> dict[str, Any]:
    """Measure a subject (a translator, or an arm: subject.py) on faces, and write the folder; returns what assessment.json holds.

    Args:
        subject: what is assessed.
        faces: labelled faces, of the subject's mark-up.
        judge: an independent detector.
        network: to compare pictures in.
        out: folder to make; it must not exist.
        said: what is known of subject and judge: `translator`, `judge`, `held_out`.
        config: sizes and seed.
    """
    refuse_existing(out)
    if subject.schema != faces.schema:
        raise UserError(
            f"{subject.name} is of {subject.schema.name} faces, but {faces.folder} holds {faces.schema.name}: expected the same schema"
        )
    if len(faces) < 8:
        raise UserError(
            f"{faces.folder}: {len(faces)} labelled faces in split {config.split}, expected at least 8 to halve and to swap"
        )
    batch = CropCache(faces, subject.crop).batch(np.arange(len(faces)))
    truth: list[np.ndarray] = []

    def true_answers(contents: np.ndarray, donors: np.ndarray) -> np.ndarray:
        truth.append(true_swaps(faces, contents, donors, subject.crop))
        return truth[0]

    known: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = true_answers if is_drawn(faces) else None
    figures, pictures = measure(
        subject, batch, judge.model, judge.crop.size, network,
        seed=config.seed, gallery=config.gallery, styles=config.styles, sheet=config.sheet_size, truth=known,
    )  # fmt: skip
    found = {
        "format": FORMAT, **said, "data": {**describe_data(faces), "split": config.split, "subset": config.subset},
        "crop": to_dict(subject.crop), "features": network.name, "seed": config.seed, **figures,
    }  # fmt: skip
    with whole_folder(out) as partial:
        write_assessment(partial, found, pictures, batch, faces.schema, truth[0] if truth else None)
    return found


def open_subject(config: Assess, device: torch.device) -> tuple[Subject, dict[str, Any]]:
    """What is assessed, and its card."""
    if config.translator is None:
        assert config.arm is not None
        assert config.judge is not None
        judge = load_detector(config.judge)
        card = {"model": f"arm {config.arm}", "crop": to_dict(judge.crop)}
        arm = open_arm(config.arm, judge.schema, judge.crop, device)
        return subject_of_arm(arm, config.arm, judge.schema, judge.crop, config.seed), card
    translator = load_translator(config.translator, device)
    return subject_of(translator, config.translator.absolute().name), translator.card


def main(config: Assess) -> None:
    """Assess a translator, and say the figures that have aims."""
    device = pick_device(config.accelerator)
    where = config.translator or Path(str(config.arm))
    out = config.out or where / "assessment"
    refuse_existing(out)
    subject, card = open_subject(config, device)
    faces = FaceDataset.open(config.data).select(config.split, config.subset, labelled=True)
    faces = faces.take(range(min(len(faces), config.faces)))
    judge_run = config.judge or _beside(config, card, "judge", "judge")
    judge = open_judge(judge_run, subject.crop, subject.schema, device, where)
    assert judge_run is not None
    network = open_features(config, card, judge_run, device)
    held = held_out(card, faces, config.split) if config.arm is None else True  # an arm has learnt from nobody
    if held is False:
        say(
            f"warning: the translator was trained on split {config.split} of {config.data}: these figures are not of held-out faces"
        )
    said = {
        "translator": {
            "name": subject.name,
            "model": card.get("model"),
            "hash": subject.hash,
            "step": card.get("step"),
        },
        "judge": {
            "name": f"{judge_run.absolute().parent.name}/{judge_run.absolute().name}",
            "hash": judge.card.get("model_hash"),
        },
        "held_out": held,
    }
    found = assess(subject, faces, judge, network, out, said, config)
    for figure, value, aim, met in summary(found).rows:
        say(f"{figure}: {value} (aim: {aim}, {met})")
    if "kl_nats" in found["latent"]:
        say(
            f"KL {found['latent']['kl_nats']:.0f} nats; {found['latent']['active']} of {found['latent']['units']} units in use"
        )
    say(f"finished: {out}; every table in {out / 'assessment.md'}, pictures in {out / 'sheets'}")
