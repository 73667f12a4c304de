"""Do landmarks depend on how the face is given? A photo whole, cropped, resized and turned; differences in % of the
distance of the eyes.

    python benchmarks/same_face.py PHOTOS [--model RUN_OR_ONNX] [--count 100]

PHOTOS is a folder of pictures with a face each; those in which no face is found, or several, are passed over. What is
compared with: the landmarks found in the photo as it is. Each variant's landmarks are taken back to the photo's
pixels first.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from stylealign import load
from stylealign.predicting.sources import expand, read_photo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--count", type=int, default=100)
    given = parser.parse_args()
    detector = load(given.model)
    left, right = (list(points) for points in detector.schema.anchors["inter_ocular"])
    apart: dict[str, list[float]] = {}
    used = 0
    for source in expand([str(given.photos)])[0]:
        image = read_photo(source.path).image
        found = detector.predict(image)
        if len(found) != 1:
            continue
        used += 1
        points, box = found[0].landmarks, found[0].box
        eyes = float(np.linalg.norm(points[left].mean(axis=0) - points[right].mean(axis=0)))
        height, width = image.shape[:2]
        x0, y0, x1, y1 = box
        reach = 0.4 * max(x1 - x0, y1 - y0)
        left_x, top = max(0, int(x0 - reach)), max(0, int(y0 - reach))
        cropped = np.ascontiguousarray(image[top : int(y1 + reach), left_x : int(x1 + reach)])
        half = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        double = cv2.resize(image, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC)
        turned = np.ascontiguousarray(np.rot90(image, -1))  # clockwise: (x, y) -> (height - 1 - y, x)
        turned_box = np.array([height - 1 - y1, x0, height - 1 - y0, x1])

        def resized(p: np.ndarray, scale: float) -> np.ndarray:
            return (p + 0.5) / scale - 0.5

        def unturned(p: np.ndarray, height: int = height) -> np.ndarray:
            return np.stack([p[:, 1], height - 1 - p[:, 0]], axis=1)

        corner = np.array([left_x, top])
        shifted = box - np.tile(corner, 2)
        variants = {
            "the photo again, given the box": [f.landmarks for f in detector.predict(image, boxes=[box])],
            "cropped, given the box": [f.landmarks + corner for f in detector.predict(cropped, boxes=[shifted])],
            "cropped, `whole_image`": [f.landmarks + corner for f in detector.predict(cropped, whole_image=True)],
            "half size, found": [resized(f.landmarks, 0.5) for f in detector.predict(half)],
            "double size, found": [resized(f.landmarks, 2) for f in detector.predict(double)],
            "turned by 90 degrees, `rotate` auto": [
                unturned(f.landmarks) for f in detector.predict(turned, rotate="auto")
            ],
            "turned, given its box, `rotate` 270": [
                unturned(f.landmarks) for f in detector.predict(turned, boxes=[turned_box], rotate="270")
            ],
            "turned, given its box, not turned back": [
                unturned(f.landmarks) for f in detector.predict(turned, boxes=[turned_box])
            ],
        }  # fmt: skip
        for name, answers in variants.items():
            if len(answers) == 1:
                apart.setdefault(name, []).append(
                    100 * float(np.linalg.norm(answers[0] - points, axis=1).mean()) / eyes
                )
        if used == given.count:
            break
    print(f"{used} photos\n\n| the same face | median | 90th percentile | photos |\n|---|---|---|---|")
    for name, values in apart.items():
        print(f"| {name} | {np.median(values):.2f} | {np.percentile(values, 90):.2f} | {len(values)} |")


if __name__ == "__main__":
    main()
