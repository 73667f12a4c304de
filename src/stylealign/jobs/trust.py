"""The job `trust`: how near detectors that never saw the maker of labelled faces find their labels.

It leaves the labels (inherited by generated faces, say) and takes the distance of the ensemble's mean answer from them
as disagreement. What is written is the same as of `pseudo-label`.
"""

from dataclasses import dataclass

import numpy as np

from stylealign.data.atomic import making, refuse_existing
from stylealign.data.dataset import FaceDataset
from stylealign.errors import counted
from stylealign.evaluation import metrics
from stylealign.evaluation.trust import choose, face_lengths
from stylealign.jobs.pseudo_label.labelling import Labelling, describe, warn_of_seen_faces, write_labelled
from stylealign.predicting.ensemble import ask, load_ensemble
from stylealign.progress import say
from stylealign.training.devices import pick_device


@dataclass(frozen=True, kw_only=True, slots=True)
class Trust(Labelling):
    """Give labelled faces, such as generated ones, a trust: how near a detector that never
    saw their maker finds their labels.

    The detectors are to have learnt neither from these faces nor from their translator.
    """

    half: float = 0.08
    """Distance at which a face (and a point) is trusted by one half; trust = 2 ** (-distance / half). A good detector
    is itself 0.04 to 0.06 away from true labels."""


@making("out")
def main(config: Trust) -> None:
    """Compare labels with what the detectors find, and write the data set."""
    refuse_existing(config.out)
    opened = FaceDataset.open(config.data)
    faces = opened.select(config.split, config.subset, labelled=True)
    if len(faces) < len(opened) and config.split is None and config.subset is None:
        say(f"{counted(len(opened) - len(faces), 'face')} without landmarks left out: nothing to compare")
    detectors = load_ensemble(config.detectors, faces.schema, pick_device(config.accelerator))
    warn_of_seen_faces(faces, detectors, True)
    answers = ask(detectors, faces, config.look, use_labels=True)
    found = answers.landmarks.mean(axis=1)
    looked_at = faces.take(answers.positions)
    labels, there = (
        looked_at.landmarks_array().astype(np.float64),
        np.stack([~sample.missing_points for sample in looked_at]),
    )
    filled = np.where(there[..., None], labels, found)  # a face is measured by the detectors where it lacks an eye
    lengths, unit = face_lengths(filled, faces.schema, [faces.head(int(i))["id"] for i in answers.positions])
    away = metrics.point_errors(found, labels) / lengths[:, None]
    away = np.where(there, away, metrics.masked_mean(away, there, axis=1)[:, None])  # nothing is known of the others
    summary = {"denominator": unit, "looks_a_face": answers.landmarks.shape[1]}
    how = describe(config, "trust", faces, detectors)
    kept = choose(away.mean(axis=1), config.keep, config.max_disagreement, str(faces.folder))
    write_labelled(
        config, "trust", faces, how, answers.positions, kept, found, away, None, answers.unreadable, summary, None
    )
