"""The job `pseudo-label`: an ensemble of finished detectors looks at a data set; its mean answer becomes the faces'
landmarks, and how far it agrees their trust. What is written is labelling.py's.
"""

from typing import Any

import numpy as np

from stylealign.data.atomic import making, refuse_existing
from stylealign.data.dataset import FaceDataset
from stylealign.data.describe import whole_faces
from stylealign.errors import UserError, counted
from stylealign.evaluation import metrics
from stylealign.evaluation.trust import choose, face_lengths, match_poses, spread
from stylealign.jobs.pseudo_label.config import PseudoLabel
from stylealign.jobs.pseudo_label.labelling import describe, warn_of_seen_faces, write_labelled
from stylealign.jobs.pseudo_label.parts import ask_beside, remove_parts, write_part
from stylealign.predicting.ensemble import ask, load_ensemble
from stylealign.progress import say
from stylealign.training.devices import pick_device


def _choose(
    config: PseudoLabel, faces: FaceDataset, found: np.ndarray, overall: np.ndarray
) -> tuple[np.ndarray, dict[str, Any]]:
    """Rows of the faces to keep, and what trust.json says of the choice."""
    if config.match is None:
        return choose(overall, config.keep, config.max_disagreement, str(faces.folder)), {}
    allowed = choose(overall, 1.0, config.max_disagreement, str(faces.folder))
    labelled = FaceDataset.open(config.match).select(config.match_split, config.match_subset, labelled=True)
    labelled = whole_faces(labelled, "the poses to match")
    if labelled.schema != faces.schema:
        raise UserError(
            f"{config.match}: its mark-up is {labelled.schema.name}, expected {faces.schema.name} as "
            "the detectors answer in"
        )
    count = round(config.keep * len(overall))
    among, missing = match_poses(found[allowed], overall[allowed], labelled.landmarks_array(), count, config.match_bins)
    if not len(among):
        raise UserError(
            f"{faces.folder}: keep {config.keep:g} of {counted(len(overall), 'face')} with the head poses of "
            f"{config.match} leaves none; expected a larger --keep, or faces with such poses"
        )
    if missing:
        say(f"{missing} of {counted(count, 'place')} left empty: too few faces have such head poses")
    return allowed[among], {"match": {"wanted": count, "without_a_face": missing}}


def pseudo_label(config: PseudoLabel) -> None:
    """Label, and write the data set."""
    refuse_existing(config.out)
    opened = FaceDataset.open(config.data)
    faces = opened.select(config.split, config.subset) if config.split or config.subset else opened
    detectors = load_ensemble(config.detectors, faces.schema, pick_device(config.accelerator))
    if len(detectors) == 1 and not config.look.jitters and not (config.look.flip and faces.schema.flip_pairs):
        raise UserError(
            "one detector that looks once at a face cannot disagree with itself: give more detectors, "
            "--look.jitters, or --look.flip"
        )
    warn_of_seen_faces(faces, detectors, False)
    if config.part is not None:
        write_part(config, faces, detectors)
        return
    beside = config.jobs > 1 or config.on != "local"
    answers = ask_beside(config, faces, detectors) if beside else ask(detectors, faces, config.look)
    found = answers.landmarks.mean(axis=1)
    ids = [faces.head(int(i))["id"] for i in answers.positions]
    lengths, unit = face_lengths(found, faces.schema, ids)
    # A face whose crop has not come to rest is not to be trusted, however well its answers agree.
    away = np.maximum(spread(answers.landmarks), answers.settled)
    summary: dict[str, Any] = {"denominator": unit, "looks_a_face": answers.landmarks.shape[1]}
    known = None
    if all(faces.head(int(i))["labelled"] for i in answers.positions):
        true_faces = faces.take(answers.positions)
        truth, there = true_faces.landmarks_array().astype(np.float64), true_faces.labelled_array()
        measured = np.where(there[..., None], truth, np.nan)
        rows = np.flatnonzero(metrics.measurable(measured, faces.schema, unit))
        if len(rows):
            true_lengths, _ = face_lengths(measured[rows], faces.schema, [ids[i] for i in rows])
            away_of = metrics.nme_per_face(found[rows], truth[rows], true_lengths, there[rows])
            known = away_of if len(rows) == len(found) else None
            summary["nme"] = float(away_of.mean())
            say(
                f"these faces have labels: the new ones are {away_of.mean():.2%} away from them ({unit}, "
                f"{counted(len(rows), 'face')})"
            )
    how = describe(config, "pseudo-label", faces, detectors)
    disagreement = away / lengths[:, None]
    kept, more = _choose(config, faces, found, disagreement.mean(axis=1))
    write_labelled(
        config, "pseudo-label", faces, how, answers.positions, kept, found, disagreement, config.as_split,
        answers.unreadable,
        {**summary, **more}, known,
    )  # fmt: skip
    remove_parts(config.out)


@making("out", with_children=True)
def main(config: PseudoLabel) -> None:
    """Label, and write the data set."""
    pseudo_label(config)
