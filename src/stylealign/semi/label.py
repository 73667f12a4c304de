"""The jobs `pseudo-label` and `trust`: an ensemble of finished detectors looks at a data set, and how far it agrees becomes trust.

`pseudo-label` gives faces the ensemble's mean answer as landmarks; they disagree by the spread of the answers. `trust` leaves the labels
(inherited by generated faces, say) and takes the distance of the ensemble's mean answer from them. The rest is the same: disagreement,
trust, who is kept, an ordinary data set that points at the same pictures, and beside its index

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
from stylealign.data.atomic import refuse_existing
from stylealign.data.dataset import DatasetWriter, FaceDataset, describe_data
from stylealign.data.image import read_image, warp, write_image
from stylealign.detectors.loaded import LoadedDetector
from stylealign.errors import UserError
from stylealign.evaluation import metrics
from stylealign.evaluation.draw import contact_sheet, draw_landmarks, lines_plot
from stylealign.evaluation.trust import choose, face_and_point_trust, face_lengths, keep_curve, match_poses, spread
from stylealign.face import geometry
from stylealign.face.sample import FaceSample
from stylealign.predicting.ensemble import LookConfig, ask, load_ensemble
from stylealign.progress import say
from stylealign.training.devices import pick_device

TILE = 160
ATTRIBUTE = "pseudo"


@dataclass(frozen=True, kw_only=True, slots=True)
class PseudoLabel:
    """Label faces by an ensemble of finished detectors, each with a trust from how far they agree."""

    data: Path
    """Data set to label; labels it has are not looked at, but the new ones are measured against them."""
    detectors: tuple[Path, ...]
    """Run folders of finished detectors of one mark-up."""
    out: Path
    """Data set folder to make; it points at the same pictures."""
    split: str | None = None
    """Only faces of this split."""
    subset: str | None = None
    """Only faces with this attribute."""
    look: LookConfig = field(default_factory=LookConfig)
    keep: float = 1.0
    """Share of the faces to keep: those the detectors agree on best."""
    max_disagreement: float | None = None
    """Drop faces above this disagreement, a fraction of the usual denominator such as 0.03."""
    half: float = 0.02
    """Disagreement at which a face (and a point) is trusted by one half; trust = 2 ** (-disagreement / half)."""
    weigh: bool = True
    """Write the trust, which training weighs by; `--no-weigh` only filters."""
    match: Path | None = None
    """Labelled data set whose head poses the kept faces shall have, instead of mostly frontal ones."""
    match_split: str = "train"
    """Its split."""
    match_subset: str | None = None
    """Only its faces with this attribute."""
    match_bins: int = 9
    """Poses told apart."""
    as_split: str = "train"
    """Split that the labelled faces get."""
    sheet_faces: int = 24
    """Faces on a sheet to look at; 0: no sheets."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"

    def __post_init__(self) -> None:
        _check(self)
        if self.match_bins < 1:
            raise ValueError(f"match_bins is {self.match_bins}, expected at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Trust:
    """Give labelled faces, such as generated ones, a trust: how near a detector that never saw their maker finds their labels."""

    data: Path
    """Data set of labelled faces."""
    detectors: tuple[Path, ...]
    """Run folders of finished detectors that learnt neither from these faces nor from their translator."""
    out: Path
    """Data set folder to make; it points at the same pictures."""
    split: str | None = None
    """Only faces of this split."""
    subset: str | None = None
    """Only faces with this attribute."""
    look: LookConfig = field(default_factory=LookConfig)
    keep: float = 1.0
    """Share of the faces to keep: those whose labels are found best."""
    max_disagreement: float | None = None
    """Drop faces whose labels are further than this from the answer, a fraction of the usual denominator such as 0.08."""
    half: float = 0.08
    """Distance at which a face (and a point) is trusted by one half; trust = 2 ** (-distance / half). A good detector is itself 0.04 to
    0.06 away from true labels."""
    weigh: bool = True
    """Write the trust, which training weighs by; `--no-weigh` only filters."""
    sheet_faces: int = 24
    """Faces on a sheet to look at; 0: no sheets."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"

    def __post_init__(self) -> None:
        _check(self)


def _check(config: PseudoLabel | Trust) -> None:
    if not config.detectors:
        raise ValueError("detectors: found none, expected at least one run folder")
    if not (0 < config.keep <= 1 and config.half > 0):
        raise ValueError(f"keep {config.keep} and half {config.half}: expected above 0 and at most 1, and above 0")
    if config.max_disagreement is not None and not config.max_disagreement > 0:
        raise ValueError(f"max_disagreement is {config.max_disagreement}, expected above 0")
    if config.sheet_faces < 0:
        raise ValueError(f"sheet_faces is {config.sheet_faces}, expected 0 or more")


def describe(
    config: PseudoLabel | Trust, verb: str, faces: FaceDataset, detectors: list[LoadedDetector]
) -> dict[str, Any]:
    """What made the data set, for its dataset.yaml.

    Where the faces were themselves made from another data set, that one stays named under inputs.data, so that training still refuses
    labels it must not see.
    """
    inputs: dict[str, Any] = {
        "faces": describe_data(faces),
        "detectors": [
            {
                "run": str(run),
                "hash": loaded.card["model_hash"],
                "model": loaded.card["model"],
                "data": loaded.card.get("data", []),
            }
            for run, loaded in zip(config.detectors, detectors, strict=True)
        ],
    }
    made_from = (faces.meta.get("how") or {}).get("inputs", {}).get("data")
    if made_from:
        inputs["data"] = made_from
    return {"verb": verb, "inputs": inputs, "config": to_dict(config)}


def _warn(faces: FaceDataset, detectors: list[LoadedDetector], labels_are_judged: bool) -> None:
    held_out = {s for s in {faces.head(i)["split"] for i in range(len(faces))} if s == "val" or s.startswith("test")}
    if held_out and not labels_are_judged:
        say(
            f"warning: faces of split {', '.join(sorted(held_out))} are among them: a detector trained on them must not be measured there"
        )
    for loaded in detectors:
        if labels_are_judged and any(d.get("content_hash") == faces.content_hash for d in loaded.card.get("data", [])):
            say(
                "warning: a detector was trained on these very faces, and will find their labels right: expected one that never saw them"
            )


def _sheet(
    faces: FaceDataset, chosen: np.ndarray, found: np.ndarray, labels: np.ndarray | None, said: list[str]
) -> np.ndarray:
    tiles: list[np.ndarray] = []
    for i, points in zip(chosen, found, strict=True):
        affine = geometry.crop_affine(geometry.landmark_box(points), 1.5, TILE)
        picture = warp(read_image(faces[int(i)].image), affine, TILE)
        truth = None if labels is None else geometry.apply(affine, labels[len(tiles)])
        tiles.append(draw_landmarks(picture, geometry.apply(affine, points), faces.schema, truth=truth))
    return contact_sheet(tiles, columns=8, labels=said)


def _write(
    config: PseudoLabel | Trust, verb: str, faces: FaceDataset, how: dict[str, Any], positions: np.ndarray, found: np.ndarray,
    disagreement: np.ndarray, new_label: bool, unreadable: list[str], said: dict[str, Any], known: np.ndarray | None,
) -> None:  # fmt: skip
    """Choose, write the data set with its curve and sheets, and say what became of the faces. `disagreement` is (N, P), a fraction."""
    overall = disagreement.mean(axis=1)
    match = getattr(config, "match", None)
    if isinstance(config, PseudoLabel) and match is not None:
        allowed = choose(overall, 1.0, config.max_disagreement, str(faces.folder))
        labelled = FaceDataset.open(match).select(config.match_split, config.match_subset, labelled=True)
        if labelled.schema != faces.schema:
            raise UserError(
                f"{match}: its mark-up is {labelled.schema.name}, expected {faces.schema.name} as the detectors answer in"
            )
        count = round(config.keep * len(positions))
        among, missing = match_poses(
            found[allowed], overall[allowed], labelled.landmarks_array(), count, config.match_bins
        )
        kept = allowed[among]
        said["match"] = {"wanted": count, "without_a_face": missing}
        if missing:
            say(f"{missing} of {count} places are of head poses that too few faces have; they stay empty")
    else:
        kept = choose(overall, config.keep, config.max_disagreement, str(faces.folder))
    face_trust, point_trust = face_and_point_trust(disagreement, config.half)
    curve = keep_curve(overall, known)
    samples: list[FaceSample] = []
    for k in kept:
        sample = faces[int(positions[k])]
        if new_label:
            attributes = {**sample.attributes, ATTRIBUTE: True}
            sample = dataclasses.replace(
                sample, landmarks=found[k], visible=None, point_trust=None, attributes=attributes, split=config.as_split  # type: ignore[union-attr]
            )  # fmt: skip
        if config.weigh:
            sample = dataclasses.replace(
                sample, trust=round(float(face_trust[k]), 4), point_trust=point_trust[k].round(4)
            )
        samples.append(sample)
    root = faces.image_root
    with DatasetWriter(
        config.out, schema=faces.schema, name=config.out.absolute().name, images="reference", image_root=root,
        source=f"{faces.name} ({verb})", licence=faces.meta.get("licence", ""), how=how,
    ) as writer:  # fmt: skip
        for sample in samples:
            writer.add(sample)
        summary = {
            "faces": len(positions) + len(unreadable), "kept": len(kept), "unreadable": len(unreadable),
            "disagreement": {"mean": float(overall.mean()), "mean_of_kept": float(overall[kept].mean())},
            "trust": {"mean": float(face_trust.mean()), "mean_of_kept": float(face_trust[kept].mean()), "half": config.half},
            **said, "curve": curve, "unreadable_pictures": unreadable,
        }  # fmt: skip
        (writer.partial / "trust.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        kept_percent = np.array([100 * row["kept"] for row in curve])
        thresholds = np.array([100 * row["max_disagreement"] for row in curve])
        lines_plot(
            {"faces kept": (thresholds, kept_percent)}, writer.partial / "keep_rate.png", "largest disagreement (% of the "
            f"{said['denominator']} length)", "faces kept (%)", log=False,
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
                labels = None if new_label else np.stack([np.asarray(faces[int(positions[r])].landmarks) for r in rows])
                texts = [f"{overall[r]:.1%}{'' if r in kept else ' dropped'}" for r in rows]
                picture = _sheet(faces, positions[rows], found[rows], labels, texts)
                write_image(writer.partial / "sheets" / f"{name}.png", picture)
    if unreadable:
        say(f"{len(unreadable)} pictures could not be read and were left out, the first: {unreadable[0]}")
    say(
        f"wrote {config.out}: {len(kept)} of {len(positions)} faces, disagreement {overall[kept].mean():.2%} (all: {overall.mean():.2%}), "
        f"trust {face_trust[kept].mean():.2f}; look at {config.out / 'sheets'}"
    )


def pseudo_label(config: PseudoLabel) -> None:
    """Label, and write the data set."""
    refuse_existing(config.out)
    opened = FaceDataset.open(config.data)
    faces = opened.select(config.split, config.subset) if config.split or config.subset else opened
    detectors = load_ensemble(config.detectors, faces.schema, pick_device(config.accelerator))
    if len(detectors) == 1 and not config.look.jitters and not (config.look.flip and faces.schema.flip_pairs):
        raise UserError(
            "one detector that looks once at a face cannot disagree with itself: give more detectors, --look.jitters, or --look.flip"
        )
    _warn(faces, detectors, False)
    answers = ask(detectors, faces, config.look)
    found = answers.landmarks.mean(axis=1)
    ids = [faces.head(int(i))["id"] for i in answers.positions]
    lengths, unit = face_lengths(found, faces.schema, ids)
    # A face whose crop has not come to rest is not to be trusted, however well its answers agree.
    away = np.maximum(spread(answers.landmarks), answers.settled)
    said: dict[str, Any] = {"denominator": unit, "looks_a_face": answers.landmarks.shape[1]}
    known = None
    if all(faces.head(int(i))["labelled"] for i in answers.positions):
        truth = faces.take(answers.positions).landmarks_array().astype(np.float64)
        true_lengths, _ = face_lengths(truth, faces.schema, ids)
        known = metrics.nme_per_face(found, truth, true_lengths)
        said["nme"] = float(known.mean())
        say(f"these faces have labels: the new ones are {known.mean():.2%} away from them ({unit})")
    how = describe(config, "pseudo-label", faces, detectors)
    _write(
        config, "pseudo-label", faces, how, answers.positions, found, away / lengths[:, None], True, answers.unreadable, said, known
    )  # fmt: skip


def trust_labels(config: Trust) -> None:
    """Compare labels with what the detectors find, and write the data set."""
    refuse_existing(config.out)
    opened = FaceDataset.open(config.data)
    faces = opened.select(config.split, config.subset, labelled=True)
    if len(faces) < len(opened) and config.split is None and config.subset is None:
        say(f"{len(opened) - len(faces)} faces without landmarks are left out: there is nothing to compare")
    detectors = load_ensemble(config.detectors, faces.schema, pick_device(config.accelerator))
    _warn(faces, detectors, True)
    answers = ask(detectors, faces, config.look, use_labels=True)
    found = answers.landmarks.mean(axis=1)
    labels = faces.take(answers.positions).landmarks_array().astype(np.float64)
    lengths, unit = face_lengths(labels, faces.schema, [faces.head(int(i))["id"] for i in answers.positions])
    away = metrics.point_errors(found, labels) / lengths[:, None]
    said = {"denominator": unit, "looks_a_face": answers.landmarks.shape[1]}
    how = describe(config, "trust", faces, detectors)
    _write(config, "trust", faces, how, answers.positions, found, away, False, answers.unreadable, said, None)


def main(config: PseudoLabel | Trust) -> None:
    """Do the one or the other."""
    if isinstance(config, PseudoLabel):
        pseudo_label(config)
    else:
        trust_labels(config)
