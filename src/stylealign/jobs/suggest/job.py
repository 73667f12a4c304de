"""The job `suggest`: which pictures to label next, with the detectors' landmarks to be corrected in a labelling tool.

    <out>/suggested.csv   rank, picture, and how far the detectors disagree about it: the least sure first
    <out>/data            those faces as a data set, with the detectors' landmarks for labels
    <out>/coco, ...       the same for labelling tools (`export-dataset`'s formats)
    <out>/sheet.png       the first of them, as the detectors see them

The order is ranking.py's. Pictures are looked at one after another, so memory does not grow with their number.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from stylealign.data.atomic import making, refuse_existing, whole_folder
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import DatasetWriter, called
from stylealign.data.formats import FORMATS, WriteOptions, check_name, having
from stylealign.data.formats.files import pictures_below
from stylealign.data.image import read_image, warp, write_image
from stylealign.data.once import KnownPictures
from stylealign.errors import UserError, counted
from stylealign.evaluation.draw import contact_sheet, draw_landmarks
from stylealign.face import geometry
from stylealign.face.orientation import shown_crop_affine
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.suggest.ranking import Candidate, Sample, candidates_of, describe_face, suggested
from stylealign.predicting.ensemble import LookConfig, ask_in_groups, load_ensemble
from stylealign.predicting.finders import MtcnnFinder
from stylealign.predicting.places import placed
from stylealign.progress import say, track
from stylealign.training.devices import pick_device

POOL = 3000
"""Faces that are put into clusters, at most: a sample of those looked at."""
KNOWN = 1000
"""Labelled faces that others are compared with, at most, evenly spread."""
TILE, SHOWN = 160, 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Suggest:
    """Choose unlabelled pictures of kinds that the labelled ones lack, and write first labels for a labelling tool."""

    pictures: tyro.conf.Positional[Path]
    """Folder of pictures without labels, or a data set, whose unlabelled faces count."""
    detectors: tuple[Path, ...]
    """Run folders of finished detectors of one mark-up; several disagree more tellingly than one looking twice."""
    out: Path
    """Folder to make."""
    labelled: Path | None = None
    """Data set of the faces labelled already, which the suggested ones are to be unlike. Its pictures, and copies of
    them, are not suggested."""
    count: int = 50
    """How many to suggest."""
    whole_image: bool = False
    """Every picture is a crop of one face: look for none."""
    formats: Annotated[
        tuple[str, ...],
        tyro.conf.arg(constructor_factory=lambda: tuple[Literal[tuple(having("write"))], ...]),
    ] = ("coco",)
    """For which labelling tools to write."""
    look: LookConfig = field(default_factory=lambda: LookConfig(jitters=2))
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"

    def __post_init__(self) -> None:
        if not self.detectors:
            raise ValueError("detectors: found none, expected at least one run folder")
        if self.count < 1:
            raise ValueError(f"count is {self.count}, expected at least 1")
        for name in self.formats:
            check_name("formats", name, having("write"))


def _faces_to_rank(config: Suggest, scale: float, known: KnownPictures) -> tuple[Iterator[FaceSample], Path]:
    """The faces, one after another, and the folder that holds all pictures."""
    if (config.pictures / "dataset.yaml").is_file():
        opened = FaceDataset.open(config.pictures)
        return (s for s in opened if s.landmarks is None), opened.image_root
    if not config.pictures.is_dir():
        raise UserError(f"{config.pictures}: expected a folder of pictures, or a data set")
    root = config.pictures
    found = (
        FaceSample(id=path.relative_to(root).as_posix(), image=path, split="unlabelled")
        for path in pictures_below(root, config.out)
        if path not in known
    )
    how: Literal["whole", "finder"] = "whole" if config.whole_image else "finder"
    return placed(found, how, MtcnnFinder(), scale), root


def _known(config: Suggest, schema: LandmarkSchema) -> tuple[np.ndarray, KnownPictures]:
    """(M, F) descriptions of labelled faces, and all labelled pictures."""
    if config.labelled is None:
        return np.empty((0, 0)), KnownPictures([])
    faces = FaceDataset.open(config.labelled)
    if faces.schema != schema:
        raise UserError(
            f"{config.labelled}: its mark-up is {faces.schema.name}, expected {schema.name} as the detectors answer in"
        )
    labelled = faces.select(labelled=True)
    pictures = KnownPictures(labelled.image_root / labelled.head(i)["image"] for i in range(len(labelled)))
    spread = labelled.take(range(0, len(labelled), max(1, -(-len(labelled) // KNOWN))))
    features = []
    for sample in track(spread, "looking at the labelled faces", len(spread)):
        assert sample.landmarks is not None
        features.append(describe_face(read_image(sample.image), sample.labels))
    return np.stack(features), pictures


def _write(
    config: Suggest, folder: Path, chosen: list[Candidate], schema: LandmarkSchema, root: Path
) -> None:  # fmt: skip
    """Fill the output folder."""
    with DatasetWriter(
        folder / "data", schema=schema, name=called(config.out), image_root=root,
        source=f"{config.pictures} (suggest)", how={"verb": "suggest"},
    ) as writer:  # fmt: skip
        for face in chosen:
            writer.add(replace(face.sample, landmarks=face.landmarks, split="train", box_xyxy=None))
    data = FaceDataset.open(folder / "data")
    for name in config.formats:
        write = FORMATS[name].write
        assert write is not None
        (folder / name).mkdir()
        write(data, folder / name, WriteOptions())
    with open(folder / "suggested.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["rank", "image", "disagreement"])
        for rank, face in enumerate(chosen, 1):
            table.writerow([rank, str(face.sample.image), f"{face.unsure:.5f}"])
    tiles, texts = [], []
    for rank, face in enumerate(chosen[:SHOWN], 1):
        affine = shown_crop_affine(face.sample.orientation, geometry.landmark_box(face.landmarks), 1.5, TILE)
        picture = warp(read_image(face.sample.image), affine, TILE)
        tiles.append(draw_landmarks(picture, geometry.apply(affine, face.landmarks), schema))
        texts.append(f"{rank}: {face.unsure:.1%}")
    write_image(folder / "sheet.png", contact_sheet(tiles, 8, texts))


@making("out")
def main(config: Suggest) -> None:
    """Look at every picture, choose, write the folder."""
    refuse_existing(config.out)
    detectors = load_ensemble(config.detectors, None, pick_device(config.accelerator))
    schema = detectors[0].schema
    for name in config.formats:
        if FORMATS[name].num_points not in (None, schema.num_points):
            raise UserError(
                f"--formats {name}: {counted(schema.num_points, 'landmark')} of {schema.name}, expected the "
                f"{FORMATS[name].num_points} that it holds"
            )
    known, pictures = _known(config, schema)
    faces, root = _faces_to_rank(config, detectors[0].crop.scale, pictures)
    kept, unreadable = Sample(max(POOL, config.count)), list[str]()
    for group in ask_in_groups(detectors, faces, config.look, unreadable):
        for candidate in candidates_of(group.samples, group.images, group.landmarks, schema):
            kept.add(candidate)
    pool = kept.kept()
    if not pool:
        raise UserError(
            f"{config.pictures}: no picture without a label in which a face was found; expected some "
            "(--whole-image takes each for a crop of one face)"
        )
    chosen = [pool[i] for i in suggested(pool, known, schema, config.count)]
    with whole_folder(config.out) as partial:
        _write(config, partial, chosen, schema, root)
    bad = f", {counted(len(unreadable), 'picture')} could not be read" if unreadable else ""
    say(
        f"{counted(kept.seen, 'face')} looked at{bad}; wrote {len(chosen)} to {config.out}: suggested.csv, sheet.png, "
        f"data, {', '.join(config.formats)}"
    )
    tools = " or ".join(str(config.out / name) for name in config.formats) or str(config.out / "data")
    say(f"Next: correct the landmarks of {tools} in a labelling tool, and add its export to your labelled faces")
