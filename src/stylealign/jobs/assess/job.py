"""The job `assess`: a trained translator (or a style arm) and held-out faces in, a folder of figures and pictures out.

    <out>/assessment.json   every figure;  assessment.md  the same in tables
    <out>/drift.png  matrix.png        which way points move, and the gap of every swap of the sheet
    <out>/sheets/                      swaps, reconstructions, one face in many styles, on drawn faces the true answers

`report` shows the folder, also where it lies in a translator's run (the default place).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from stylealign.batches.batch import take_faces
from stylealign.batches.crops import CropCache
from stylealign.config import to_dict
from stylealign.data.atomic import making, refuse_existing, whole_folder
from stylealign.data.dataset import FaceDataset, describe_data
from stylealign.data.describe import whole_faces
from stylealign.detectors.loaded import LoadedDetector
from stylealign.errors import UserError, counted
from stylealign.jobs.assess.drawn import is_drawn, true_swaps
from stylealign.jobs.assess.images import FeatureNetwork
from stylealign.jobs.assess.looks import fitted_donors, random_donors
from stylealign.jobs.assess.measure import measure
from stylealign.jobs.assess.opening import (
    detector_features,
    held_out,
    imagenet_features,
    open_judge,
    open_named,
    open_styled,
    open_translator,
    vgg19_features,
)
from stylealign.jobs.assess.subject import Subject
from stylealign.jobs.assess.tables import summary
from stylealign.jobs.assess.writing import write_assessment
from stylealign.jobs.generate.pairing import own_positions
from stylealign.progress import say
from stylealign.styling.arms import ARMS, names_without_run
from stylealign.training.devices import training_device
from stylealign.translators.loaded import named_translator

FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Assess:
    """Measure what a translator keeps of a face, what it changes and by how much, on held-out faces."""

    data: Path
    """Data set with labelled faces. For one from `draw-faces`, every swap is also compared with its true answer."""
    translator: Path | None = None
    """Run folder of a trained translator; or `warp`, which needs no training: its donors are chosen by shape."""
    arm: str | None = None
    """A style arm instead of a translator (adain, fda, make_up, ...), at full strength, on crops cut as the judge's."""
    out: Path | None = None
    """Folder to make. Default: `assessment` in the translator's run, where `report` finds it."""
    split: str = "val"
    """Faces the translator was not trained on; where it was, the report says so."""
    subset: str | None = None
    """Use only the faces of that split with this attribute."""
    donors: Path | None = None
    """Data set whose labelled faces give the styles. Not given: the faces to each other."""
    donor_split: str | None = None
    """Its split. Not given: all faces."""
    judge: Path | None = None
    """A detector run that never met the translator. Default: the judge in the translator's run; of `warp`, the detector
    that came with the package."""
    feature_detector: Path | None = None
    """A detector run in whose layers pictures are compared. Default: the translator's own, else the judge."""
    vgg19: Path | None = None
    """VGG-19 weights (torchvision's or Keras') to compare pictures in, instead of a detector's layers."""
    pretrained: Path | None = None
    """ImageNet weights of MobileNetV2 (torchvision's file, or `package`), to tell looks in as an eye does: hair and
    texture kept from the donor, FID and KID. Not given: the features above."""
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
            raise ValueError(f"no style arm is called {self.arm!r}; there are {', '.join(names_without_run())}")
        if self.arm is not None and ARMS[self.arm].needs_run:
            raise ValueError(f"arm {self.arm} is a trained network: name its run with --translator")
        if self.arm is not None and (self.judge is None or self.out is None):
            raise ValueError(f"arm {self.arm} has no run that holds a judge: expected --judge and --out")
        if self.donor_split is not None and self.donors is None:
            raise ValueError(f"donor_split {self.donor_split!r} without donors: expected the data set it is a split of")
        if self.vgg19 and self.feature_detector:
            raise ValueError("vgg19 and feature_detector are both given: expected one")


def assess(
    subject: Subject,
    faces: FaceDataset,
    judge: LoadedDetector,
    network: FeatureNetwork,
    out: Path,
    about: dict[str, Any],
    config: Assess,
    eye: FeatureNetwork | None = None,
) -> dict[str, Any]:
    """Measure a subject (a translator or an arm) on faces and write the folder; returns what assessment.json holds.

    Args:
        subject: what is assessed.
        faces: labelled faces, of the subject's mark-up.
        judge: an independent detector.
        network: to compare pictures in.
        out: folder to make; it must not exist.
        about: what is known of subject and judge: `translator`, `judge`, `held_out`.
        config: sizes, donors and seed.
        eye: to tell looks in; None: `network`.
    """
    refuse_existing(out)
    if subject.schema != faces.schema:
        raise UserError(
            f"{subject.name} is of {subject.schema.name} faces, but {faces.folder} holds {faces.schema.name}: "
            "expected the same schema"
        )
    if len(faces) < 8:
        raise UserError(
            f"{faces.folder}: {counted(len(faces), 'labelled face')} in split {config.split}, expected at least 8 to "
            "halve and to swap"
        )
    batch = CropCache(faces, subject.crop).batch(np.arange(len(faces)))
    givers = None if config.donors is None else _donors(config, subject)
    others = None if givers is None else CropCache(givers, subject.crop).batch(np.arange(len(givers)))
    same = None if givers is None else own_positions(faces, givers)
    if subject.by_fit:
        rows, donors = fitted_donors(batch, others, config.styles, config.seed, faces.schema, config.sheet_size, same)
        several = int(((donors.others >= 0).sum(axis=1) > 1).sum())
        if len(rows) < 8 or several < 2:
            raise UserError(
                f"{faces.folder}: {len(rows)} of {counted(len(faces), 'face')} with a donor that can be bent onto "
                f"them, {several} with several, expected at least 8 and 2: give more with --donors"
            )
        about = {**about, "without_donor": len(faces) - len(rows)}
        faces, batch = faces.take(rows), take_faces(batch, torch.from_numpy(rows))
    else:
        donors = random_donors(batch, others, config.styles, config.seed, same)
    truth: list[np.ndarray] = []

    def true_answers(contents: np.ndarray, donors: np.ndarray) -> np.ndarray:
        truth.append(true_swaps(faces, contents, donors, subject.crop))
        return truth[0]

    known: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    if is_drawn(faces) and donors.own:
        known = true_answers
    figures, pictures = measure(
        subject, batch, judge.model, judge.crop.size, network,
        seed=config.seed, gallery=config.gallery, styles=config.styles, sheet=config.sheet_size, donors=donors,
        eye=eye, truth=known,
    )  # fmt: skip
    found = {
        "format": FORMAT, **about, "data": {**describe_data(faces), "split": config.split, "subset": config.subset},
        "crop": to_dict(subject.crop), "features": network.name, "seed": config.seed, **figures,
    }  # fmt: skip
    with whole_folder(out) as partial:
        write_assessment(partial, found, pictures, batch, faces.schema, truth[0] if truth else None, donors.batch)
    return found


def _donors(config: Assess, subject: Subject) -> FaceDataset:
    """The labelled faces that give styles. Raises UserError for another mark-up, and for fewer than 2."""
    assert config.donors is not None
    opened = FaceDataset.open(config.donors)
    if opened.schema != subject.schema:
        raise UserError(
            f"{config.donors}: holds {opened.schema.name} faces, but {subject.name} is of {subject.schema.name}: "
            "expected the same schema"
        )
    faces = whole_faces(opened.select(config.donor_split, labelled=True), "the donors")
    if len(faces) < 2:
        raise UserError(
            f"{config.donors}: {counted(len(faces), 'labelled face')} to give styles, expected at least 2: a face gets "
            "several, and never its own"
        )
    return faces


def _out_of(config: Assess) -> Path:
    return config.out or (config.translator or Path(str(config.arm))) / "assessment"


@making(_out_of)
def main(config: Assess) -> None:
    """Assess a translator or an arm, and say the figures that have aims."""
    device = training_device(config.accelerator)
    where = config.translator or Path(str(config.arm))
    out = _out_of(config)
    refuse_existing(out)
    named = named_translator(config.translator)
    if named is not None:
        if config.out is None:
            raise UserError(f"translator {named} has no run to write into: expected --out")
        opened = open_named(named, config.judge, device)
    elif config.translator is not None:
        opened = open_translator(config.translator, device)
    else:
        assert config.arm is not None
        assert config.judge is not None
        opened = open_styled(config.arm, config.judge, config.seed, device)
    subject, card = opened.subject, opened.card
    faces = FaceDataset.open(config.data).select(config.split, config.subset, labelled=True)
    faces = whole_faces(faces, "the assessment")
    faces = faces.take(range(min(len(faces), config.faces)))
    judge_run = config.judge or opened.judge
    judge = open_judge(judge_run, subject.crop, subject.schema, device, where)
    assert judge_run is not None
    if config.vgg19 is not None:
        network = vgg19_features(config.vgg19, subject.crop.size, device)
    else:
        run = config.feature_detector or opened.features or judge_run
        network = detector_features(run, run == judge_run, device)
    learnt = config.arm is None and named is None
    held = held_out(card, faces, config.split) if learnt else True  # an arm has learnt from nobody
    eye = None if config.pretrained is None else imagenet_features(config.pretrained, subject.crop.size, device)
    if held is False:
        say(
            f"warning: the translator was trained on split {config.split} of {config.data}: these figures are not of "
            "held-out faces"
        )
    judge_name = f"{judge_run.absolute().parent.name}/{judge_run.absolute().name}"
    about = {
        "translator": {
            "name": subject.name, "model": card.get("model"), "hash": subject.hash, "step": card.get("step"),
        },
        "judge": {"name": judge_name, "hash": judge.card.get("model_hash")},
        "held_out": held, "learns": learnt,
    }  # fmt: skip
    found = assess(subject, faces, judge, network, out, about, config, eye)
    for figure, value, aim, met in summary(found).rows:
        say(f"{figure}: {value} (aim: {aim}, {met})")
    latent = found["latent"]
    if "kl_nats" in latent:
        say(f"KL {latent['kl_nats']:.0f} nats; {latent['active']} of {counted(latent['units'], 'unit')} in use")
    say(f"finished: {out}; every table in {out / 'assessment.md'}, pictures in {out / 'sheets'}")
