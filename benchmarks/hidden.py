"""How well can hidden landmarks be guessed at all? A detector's error where something is before the face, beside that
of a guess which is told exactly where the visible landmarks are.

    stylealign stress --data runs/300w/data --split val --causes occlusion --strengths 2 --out runs/hidden
    python benchmarks/hidden.py --train runs/300w/data --faces runs/hidden --split occlusion_2 --model compact

The guess is the mean of the hidden landmarks given the visible ones under one Gaussian over the training faces' shapes,
each with its mirror image, fitted together by similarities. The guess counts on a scatter of the labels, which is
chosen on training faces: half of them make the Gaussian, the other half wear the masks of `faces`. No picture is
looked at by the guess: what a detector sees of a face's surroundings it may use beyond that.
"""

import argparse
from pathlib import Path

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.packaged import run_folder
from stylealign.evaluation import metrics
from stylealign.face import geometry
from stylealign.predicting.on_datasets import answer_dataset

SCATTERS = (0.002, 0.005, 0.01, 0.02, 0.04)  # standard deviations, in shapes of unit size


class Shapes:
    """One Gaussian over aligned shapes (N, P, 2)."""

    def __init__(self, landmarks: np.ndarray):
        aligned = geometry.align(landmarks)
        self.mean, self.moves = aligned.mean(axis=0), np.cov(aligned.reshape(len(aligned), -1).T)

    def guess(self, landmarks: np.ndarray, visible: np.ndarray, scatter: float) -> np.ndarray:
        """Landmarks (P, 2) px, those that are hidden replaced by their mean given those that are visible (P,) bool."""
        fit = geometry.similarity_fit(landmarks[visible], self.mean[visible])
        seen = np.repeat(visible, 2)
        known = self.moves[np.ix_(seen, seen)] + scatter**2 * np.eye(seen.sum())
        off = (geometry.apply(fit, landmarks) - self.mean).reshape(-1)
        off[~seen] = self.moves[np.ix_(~seen, seen)] @ np.linalg.solve(known, off[seen])
        return geometry.apply(geometry.invert(fit), self.mean + off.reshape(-1, 2))


def main() -> None:
    """Print one line a thing measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="data set whose training faces make the Gaussian")
    parser.add_argument("--faces", type=Path, required=True, help="data set that says which landmarks are visible")
    parser.add_argument("--split", required=True, help="its faces to look at")
    parser.add_argument("--model", default="compact", help="a detector of that mark-up")
    args = parser.parse_args()
    faces = FaceDataset.open(args.faces).select(split=args.split, labelled=True)
    train = FaceDataset.open(args.train).training_faces().landmarks_array()
    train = train[np.isfinite(train).all(axis=(1, 2))]
    order = faces.schema.flip_permutation
    truth, visible = faces.landmarks_array(), np.stack([face.visible for face in faces])
    kind = metrics.usual_denominator(faces.schema, False)

    def both_ways(landmarks: np.ndarray) -> np.ndarray:
        return np.concatenate([landmarks, (landmarks * [-1, 1])[:, order]])

    def errors(found: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """(N, P) % of the usual denominator."""
        lengths = metrics.denominators(landmarks, None, faces.schema, kind)
        return 100 * np.linalg.norm(found - landmarks, axis=-1) / lengths[:, None]

    half, others = Shapes(both_ways(train[::2])), train[1::2][: 4 * len(faces)]
    masks = visible[np.arange(len(others)) % len(faces)]
    tried = {
        scatter: errors(
            np.stack([half.guess(x, v, scatter) for x, v in zip(others, masks, strict=True)]), others
        )[~masks].mean()
        for scatter in SCATTERS
    }  # fmt: skip
    scatter = min(tried, key=lambda each: tried[each])
    whole = Shapes(both_ways(train))
    guessed = np.stack([whole.guess(x, v, scatter) for x, v in zip(truth, visible, strict=True)])
    answered = errors(answer_dataset(run_folder(Path(args.model)), faces).landmarks, truth)
    guesses = errors(guessed, truth)
    print(f"{len(faces)} faces, {100 * (~visible).mean():.0f} % of the landmarks hidden; NME % ({kind})")
    print(f"{args.model}: visible {answered[visible].mean():.2f}, hidden {answered[~visible].mean():.2f}, "
          f"all {answered.mean():.2f}")  # fmt: skip
    print(f"told where the visible ones are: hidden {guesses[~visible].mean():.2f} (scatter {scatter})")
    print(f"{args.model} where visible, that guess where hidden: {np.where(visible, answered, guesses).mean():.2f}")


if __name__ == "__main__":
    main()
