"""How long each format takes to be read: faces drawn by chance, written in it, and read as `prepare` does.

    python benchmarks/reading.py --count 10000 --formats cvat labelme

Prints CPU seconds, of a process that does nothing else, for what `prepare` asks of a reader: the mark-up of the source,
and every face, each picture (32 x 32 px) decoded.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.formats import FORMATS, BadEntry, ReadOptions, WriteOptions, schema_of
from stylealign.data.image import write_image
from stylealign.face.sample import FaceSample
from stylealign.face.schema import WFLW98

SIDE = 32


def points(num_points: int, number: int) -> np.ndarray:
    """(P, 2) px in the picture."""
    return np.random.default_rng((number, num_points)).uniform(1, SIDE - 1, (num_points, 2))


def drawn(folder: Path, count: int) -> FaceDataset:
    """A data set of so many faces of 98 points, a picture each."""
    first = folder / "pictures" / "0.jpg"
    first.parent.mkdir(parents=True)
    write_image(first, np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))

    def faces() -> Iterator[FaceSample]:
        for i in range(count):
            image = first.with_name(f"{i}.jpg")
            if i:
                shutil.copyfile(first, image)
            yield FaceSample(
                id=f"{i}", image=image, landmarks=points(98, i), box_xyxy=(1, 1, 30, 30), visible=np.arange(98) % 7 > 0
            )

    return write_dataset(folder / "data", faces(), schema=WFLW98, name="drawn", image_root=first.parent, how={})


def write_published(name: str, folder: Path, pictures: Path, count: int) -> None:
    """Sets that are only read, in their own layouts."""
    from scipy.io import savemat

    for i in range(count):
        if name == "lapa":
            image, num = folder / "train" / "images" / f"{i}.jpg", 106
            labels, head = folder / "train" / "landmarks" / f"{i}.txt", "106\n"
        elif name == "face-synthetics":
            image, labels, head, num = folder / f"{i:06}.png", folder / f"{i:06}_ldmks.txt", "", 70
        else:
            suffix = "mat" if name == "300w-lp" else "pts"
            image, labels, head, num = folder / f"{i}.jpg", folder / f"{i}.{suffix}", "", 68
        for path in (image, labels):
            path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pictures / "0.jpg", image)
        numbers = points(num, i) + 1
        if name == "300w-lp":
            savemat(labels, {"pt2d": numbers.T})
        else:
            labels.write_text(head + "".join(f"{x:.4f} {y:.4f}\n" for x, y in numbers))


def main() -> None:
    """Print a row a format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--formats", nargs="*", default=[])
    chosen = parser.parse_args()
    published = ("merl-rav", "lapa", "face-synthetics", "300w-lp")
    names = chosen.formats or [*(name for name, entry in FORMATS.items() if entry.write), *published]
    print(f"| format | CPU s for {chosen.count:,} faces |\n|---|---|")
    with tempfile.TemporaryDirectory() as place:
        data = drawn(Path(place), chosen.count)
        for name in names:
            entry, folder = FORMATS[name], Path(place) / name
            folder.mkdir()
            if entry.write is not None:
                entry.write(data, folder, WriteOptions())
            else:
                write_published(name, folder, data.image_root, chosen.count)
            begun = time.process_time()
            schema = schema_of(name, folder, "wflw98" if entry.write else None)
            assert schema is not None
            if entry.count_points is not None:
                assert entry.count_points(folder) == schema.num_points
            entries = list(entry.read(folder, ReadOptions(schema=schema, missing="keep")))
            spent = time.process_time() - begun
            bad = [str(one) for one in entries if isinstance(one, BadEntry)]
            assert not bad, bad[0]
            assert len(entries) == chosen.count
            print(f"| `{name}` | {spent:.1f} |", flush=True)
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
