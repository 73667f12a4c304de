"""How well finders find faces: recall, other finds, and milliseconds a picture.

    python benchmarks/finders.py DATA [DATA ...] [--portraits FOLDER] [--split SPLIT] [--pictures N ...] [--yunet FILE]
                                 [--finder RUN ...]

DATA are data set folders, as `stylealign prepare` makes them; a picture's labelled faces are those of the split
(without it: all). `--portraits` is a folder of pictures with one face each and no labels: there the first find counts.
`--pictures` takes so many of each folder, evenly over its order: a number for each, portraits last, or one for all.
Pictures are shrunk to a longer side of at most 640 px first, as finders do by themselves, and decoding does not count.
A labelled face is found where the landmark box that a finder gives and the box round its landmarks share more than 0.4
of their union; each find counts for one face. "Others" are finds that no label owns: false ones, or faces nobody
labelled. Milliseconds are of one processor's time, with OpenCV on one thread.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.image import read_image
from stylealign.face import geometry
from stylealign.predicting.finders import Finder, FoundFace, MtcnnFinder, landmark_box_of, roll_of, yunet_finder
from stylealign.predicting.mtcnn import Mtcnn
from stylealign.predicting.sources import expand

LONGEST, FOUND = 640, 0.4

Labelled = list[tuple[np.ndarray, list[np.ndarray]]]  # pictures with the boxes round the landmarks of their faces


def published_finder() -> Finder:
    """MTCNN as its authors set it: every window of 20 px or more, scores from 0.7; one look, no boxes left out."""
    networks = Mtcnn()

    def find(image: np.ndarray) -> list[FoundFace]:
        seen = networks(image)
        return [
            FoundFace(landmark_box_of(box, roll_of(points)), float(score), "published", roll_of(points))
            for box, score, points in zip(seen.boxes, seen.scores, seen.points, strict=True)
        ]

    return find


def shrunk(path: Path) -> tuple[np.ndarray, float]:
    image = read_image(path)
    factor = max(1.0, max(image.shape[:2]) / LONGEST)
    if factor == 1:
        return image, factor
    size = round(image.shape[1] / factor), round(image.shape[0] / factor)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), factor


def labelled(folder: Path, split: str | None, most: int) -> Labelled:
    """The pictures of a data set, or so many of them, evenly over its order."""
    faces = FaceDataset.open(folder)
    if split:
        faces = faces.select(split)
    of_picture: dict[Path, list[np.ndarray]] = {}
    for face in faces:
        if face.landmarks is not None and np.isfinite(face.landmarks).all():
            of_picture.setdefault(face.image, []).append(geometry.landmark_box(face.landmarks))
    chosen = list(of_picture)[:: max(1, len(of_picture) // most)][:most] if most else list(of_picture)
    found: Labelled = []
    for path in chosen:
        image, factor = shrunk(path)
        found.append((image, [(box + 0.5) / factor - 0.5 for box in of_picture[path]]))
    return found


def portraits(folder: Path, most: int) -> Labelled:
    files = [source.path for source in expand([str(folder)])[0] if source.kind == "photo"]
    chosen = files[:: max(1, len(files) // most)][:most] if most else files
    return [(shrunk(path)[0], []) for path in chosen]


def owned(box: np.ndarray, finds: list[FoundFace]) -> FoundFace | None:
    """The find that shows the face best, if it shows it well enough."""
    best = max(finds, key=lambda f: geometry.intersection_over_union(f.box, box), default=None)
    return best if best is not None and geometry.intersection_over_union(best.box, box) > FOUND else None


def row(name: str, finder: Finder, pictures: Labelled) -> str:
    finder(pictures[0][0])  # opens what there is to open
    start = time.process_time()
    every = [finder(image) for image, _ in pictures]
    milliseconds = 1000 * (time.process_time() - start) / len(pictures)
    faces = hits = others = empty = 0
    for (_, boxes), finds in zip(pictures, every, strict=True):
        left = list(finds)
        empty += not finds
        for box in boxes:
            find = owned(box, left)
            hits += find is not None
            left = [other for other in left if other is not find]
        faces += len(boxes) or 1
        if not boxes and left:  # a portrait
            hits += 1
            left = left[1:]
        others += len(left)
    recall = f"{hits} of {faces} ({100 * hits / faces:.1f} %)"
    return f"| {name} | {recall} | {others} | {empty} | {milliseconds:.0f} |"


def sets(given: argparse.Namespace) -> Iterator[tuple[str, Labelled]]:
    count = len(given.data) + bool(given.portraits)
    numbers = given.pictures * count if len(given.pictures) == 1 else given.pictures
    for folder, most in zip(given.data, numbers, strict=False):
        yield str(folder), labelled(folder, given.split, most)
    if given.portraits:
        yield str(given.portraits), portraits(given.portraits, numbers[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="*")
    parser.add_argument("--portraits", type=Path)
    parser.add_argument("--split")
    parser.add_argument("--pictures", type=int, nargs="+", default=[0], help="so many of each folder; 0: all")
    parser.add_argument("--yunet", type=Path, help="YuNet's ONNX file")
    parser.add_argument("--finder", type=Path, nargs="*", default=(), help="runs of `train-finder`")
    given = parser.parse_args()
    if not given.data and not given.portraits:
        parser.error("expected a data set's folder, or --portraits")
    if len(given.pictures) not in (1, len(given.data) + bool(given.portraits)):
        parser.error("--pictures: expected one number, or one for each folder")
    cv2.setNumThreads(1)
    finders = {
        "`predict`'s (MTCNN)": MtcnnFinder(),
        "its first look in a video": MtcnnFinder(quick=True),
        "MTCNN as published": published_finder(),
    }
    if given.yunet:
        finders["YuNet"] = yunet_finder(given.yunet)
    for run in given.finder:
        from stylealign.predicting.trained_finder import trained_finder  # torch

        finders[f"trained ({run.name})"] = trained_finder(run)
    for name, pictures in sets(given):
        print(f"\n{name}: {len(pictures)} pictures\n\n| finder | found | others | pictures with none | ms |")
        print("| --- | --- | --- | --- | --- |")
        for finder, find in finders.items():
            print(row(finder, find, pictures), flush=True)


if __name__ == "__main__":
    main()
