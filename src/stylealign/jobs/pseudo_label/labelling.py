"""What `pseudo-label` and `trust` share: an ensemble's disagreement becomes trust, and a data set
that points at the same pictures.

Beside its index stand

    trust.json           the keep-rate curve, and what was dropped
    keep_rate.png        threshold against share kept;  disagreement.png  share kept against what is left in it
    sheets/              the faces agreed on best, in the middle, worst

Knows nothing of training.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stylealign.config import to_dict
from stylealign.data.dataset import FaceDataset, describe_data, drawn_by, labellers_of
from stylealign.data.dataset_writer import DatasetWriter
from stylealign.data.image import read_image, warp, write_image
from stylealign.detectors.loaded import LoadedDetector
from stylealign.errors import counted
from stylealign.evaluation.draw import contact_sheet, draw_landmarks, lines_plot
from stylealign.evaluation.trust import face_and_point_trust, keep_curve
from stylealign.face import geometry
from stylealign.face.orientation import shown_crop_affine
from stylealign.face.sample import FaceSample
from stylealign.predicting.ensemble import LookConfig
from stylealign.progress import say
from stylealign.training.seen import data_learnt, say_held_out

TILE = 160
ATTRIBUTE = "pseudo"
_LEAST = 1e-4
"""Trust of a hidden landmark at least, so that it is told from a missing one, which has 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelling:
    """What `pseudo-label` and `trust` have in common: which faces, which detectors look at them,
    who is kept, what is written."""

    data: Path
    """Data set folder."""
    detectors: tuple[Path, ...]
    """Run folders of finished detectors of one mark-up; `compact` and `accurate` came with the package."""
    out: Path
    """Data set folder to make; it points at the same pictures."""
    split: str | None = None
    """Only faces of this split."""
    subset: str | None = None
    """Only faces with this attribute."""
    look: LookConfig = field(default_factory=LookConfig)
    keep: float = 1.0
    """Share of the faces to keep: those of the least disagreement."""
    max_disagreement: float | None = None
    """Drop faces above this disagreement, a fraction of the usual denominator such as 0.03."""
    half: float = 0.02
    """Disagreement at which a face (and a point) is trusted by one half; trust = 2 ** (-disagreement / half)."""
    weigh: bool = True
    """Write the trust, which training weighs by; `--no-weigh` only filters."""
    sheet_faces: int = 24
    """Faces on a sheet to look at; 0: no sheets."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"

    def __post_init__(self) -> None:
        if not self.detectors:
            raise ValueError("detectors: found none, expected at least one run folder")
        if not (0 < self.keep <= 1 and self.half > 0):
            raise ValueError(f"keep {self.keep} and half {self.half}: expected above 0 and at most 1, and above 0")
        if self.max_disagreement is not None and not self.max_disagreement > 0:
            raise ValueError(f"max_disagreement is {self.max_disagreement}, expected above 0")
        if self.sheet_faces < 0:
            raise ValueError(f"sheet_faces is {self.sheet_faces}, expected 0 or more")


def describe(config: Labelling, verb: str, faces: FaceDataset, detectors: list[LoadedDetector]) -> dict[str, Any]:
    """What made the data set, for its dataset.yaml.

    Where the faces were themselves made from another data set, or labelled by other detectors, those stay named under
    inputs.data, so that training still refuses labels it must not see.
    """
    inputs: dict[str, Any] = {
        "faces": describe_data(faces),
        "detectors": [
            {
                "run": str(run),
                "hash": loaded.card["model_hash"],
                "model": loaded.card["model"],
                "data": data_learnt(loaded.card),
            }
            for run, loaded in zip(config.detectors, detectors, strict=True)
        ],
    }
    source = dict((faces.meta.get("how") or {}).get("inputs", {}).get("data") or {})
    if verb == "trust" and (labellers := labellers_of(faces.meta)):  # the labels stay theirs
        source["labelled_by"] = labellers
    elif verb == "pseudo-label":
        source.pop("labelled_by", None)
    if drawn := drawn_by(faces.meta):
        source["drawn_by"] = drawn
    if source:
        inputs["data"] = source
    # How the work was shared out is nothing that the labels depend on.
    told = {key: value for key, value in to_dict(config).items() if key not in ("jobs", "on", "cluster", "part")}
    return {"verb": verb, "inputs": inputs, "config": told}


def warn_of_seen_faces(faces: FaceDataset, detectors: list[LoadedDetector], labels_are_judged: bool) -> None:
    if not labels_are_judged:
        say_held_out("faces of", faces, " are among them")
    for loaded in detectors:
        if labels_are_judged and any(d.get("content_hash") == faces.content_hash for d in data_learnt(loaded.card)):
            say(
                "warning: a detector was trained on these very faces, and will find their labels right: expected "
                "one that never saw them"
            )


def _sheet(
    faces: FaceDataset, chosen: np.ndarray, found: np.ndarray, labels: np.ndarray | None, texts: list[str]
) -> np.ndarray:
    tiles: list[np.ndarray] = []
    for i, points in zip(chosen, found, strict=True):
        face = faces[int(i)]
        affine = shown_crop_affine(face.orientation, geometry.landmark_box(points), 1.5, TILE)
        picture = warp(read_image(face.image), affine, TILE)
        truth = None if labels is None else geometry.apply(affine, labels[len(tiles)])
        tiles.append(draw_landmarks(picture, geometry.apply(affine, points), faces.schema, truth=truth))
    return contact_sheet(tiles, columns=8, labels=texts)


def write_labelled(
    config: Labelling, verb: str, faces: FaceDataset, how: dict[str, Any], positions: np.ndarray, kept: np.ndarray,
    found: np.ndarray,
    disagreement: np.ndarray, new_split: str | None, unreadable: list[str], summary: dict[str, Any],
    known: np.ndarray | None,
) -> None:  # fmt: skip
    """Write the data set with its curve and sheets, and say what became of the faces.

    Args:
        positions: (N,) of the faces looked at, in `faces`; `kept` are rows of it.
        found: (N, P, 2) source px, the detectors' mean answer.
        disagreement: (N, P), a fraction of the usual denominator.
        new_split: the faces take `found` for landmarks and this split; None: they keep their labels.
        unreadable: pictures that could not be read.
        summary: more for trust.json.
        known: (N,) distance from labels that are known, where they are.
    """
    overall = disagreement.mean(axis=1)
    face_trust, point_trust = face_and_point_trust(disagreement, config.half)
    curve = keep_curve(overall, known)
    samples: list[FaceSample] = []
    for k in kept:
        sample = faces[int(positions[k])]
        if new_split is not None:
            attributes = {**sample.attributes, ATTRIBUTE: True}
            sample = dataclasses.replace(
                sample, landmarks=found[k], visible=None, point_trust=None, attributes=attributes, split=new_split
            )  # fmt: skip
        if config.weigh:
            points = point_trust[k].round(4)
            if sample.visible is not None:  # a hidden landmark of trust 0 is a missing one, and only that
                points = np.where(
                    sample.missing_points, 0.0, np.where(sample.visible, points, np.maximum(points, _LEAST))
                )
            sample = dataclasses.replace(sample, trust=round(float(face_trust[k]), 4), point_trust=points)
        samples.append(sample)
    root = faces.image_root
    with DatasetWriter(
        config.out, schema=faces.schema, images="reference", image_root=root,
        source=f"{faces.name} ({verb})", licence=faces.meta.get("licence", ""), how=how,
    ) as writer:  # fmt: skip
        for sample in samples:
            writer.add(sample)
        content = {
            "faces": len(positions) + len(unreadable), "kept": len(kept), "unreadable": len(unreadable),
            "disagreement": {"mean": float(overall.mean()), "mean_of_kept": float(overall[kept].mean())},
            "trust": {"mean": float(face_trust.mean()), "mean_of_kept": float(face_trust[kept].mean()),
                "half": config.half},
            **summary, "curve": curve, "unreadable_pictures": unreadable,
        }  # fmt: skip
        (writer.partial / "trust.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        kept_percent = np.array([100 * row["kept"] for row in curve])
        thresholds = np.array([100 * row["max_disagreement"] for row in curve])
        lines_plot(
            {"faces kept": (thresholds, kept_percent)}, writer.partial / "keep_rate.png",
            "largest disagreement (% of the "
            f"{summary['denominator']} length)", "faces kept (%)", log=False,
        )  # fmt: skip
        lines = {
            "mean disagreement of the kept": (kept_percent, np.array([100 * row["mean_disagreement"] for row in curve]))
        }
        if known is not None:
            lines["mean distance of the kept from known labels"] = (
                kept_percent,
                np.array([100 * r["mean_error"] for r in curve]),
            )
        lines_plot(
            lines, writer.partial / "disagreement.png", "faces kept (%)", "% of the usual denominator", log=False
        )
        if config.sheet_faces:
            (writer.partial / "sheets").mkdir()
            order, n = np.argsort(overall, kind="stable"), min(config.sheet_faces, len(overall))
            middle = (len(order) - n) // 2
            for name, rows in (("best", order[:n]), ("middle", order[middle : middle + n]), ("worst", order[-n:])):
                labels = (
                    None
                    if new_split is not None
                    else np.stack([np.asarray(faces[int(positions[r])].landmarks) for r in rows])
                )
                texts = [f"{overall[r]:.1%}{'' if r in kept else ' dropped'}" for r in rows]
                picture = _sheet(faces, positions[rows], found[rows], labels, texts)
                write_image(writer.partial / "sheets" / f"{name}.png", picture)
    if unreadable:
        say(f"{counted(len(unreadable), 'picture')} left out that could not be read, the first: {unreadable[0]}")
    say(
        f"wrote {config.out}: {len(kept)} of {counted(len(positions), 'face')}, disagreement "
        f"{overall[kept].mean():.2%} (all: {overall.mean():.2%}), trust {face_trust[kept].mean():.2f}; look at "
        f"{config.out / ('sheets' if config.sheet_faces else 'disagreement.png')}"
    )
