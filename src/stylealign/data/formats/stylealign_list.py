"""The original stylealign's list: `x1 y1 ... xL yL filename`, a face a line, blanks between (docs/paper_map.md 2.2).

The original read such lines in a 384-pixel frame and multiplied by 2/3, whatever the pictures' size. Here the frame
is said (`--frame 384`) and scaled to each picture, or not said, and coordinates are pixels of the picture, counted
from 0.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.formats.entry import (
    BadEntry,
    Entry,
    Ids,
    ReadOptions,
    below_root,
    checked_face,
    folder_of,
    image_root,
    inspect_image,
    is_number,
    lines_of,
    numbers_of,
    place_problem,
    split_of,
)
from stylealign.data.formats.files import with_suffix
from stylealign.data.formats.writing import Pictures, WriteOptions, by_split, decimals, whole_landmarks_of, write_lines
from stylealign.data.image import image_size
from stylealign.errors import UserError, counted
from stylealign.face.sample import FaceSample


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    found = with_suffix(folder_of(source), ".txt")
    if not found:
        raise UserError(f"{source}: found no .txt list in it")
    return found


def count_points(source: Path) -> int:
    """Points a face of the first line."""
    for path in _files(source):
        for number, text in lines_of(path):
            count = next((i for i, token in enumerate(text.split()) if not is_number(token)), 0)
            if count < 2 or count % 2:
                raise UserError(
                    f"{path}:{number}: {counted(count, 'number')} before the file name, expected two a point"
                )
            return count // 2
    raise UserError(f"{source}: no line in it, expected x1 y1 ... xL yL filename")


def from_frame(landmarks: np.ndarray, frame: int, size_wh: tuple[int, int]) -> np.ndarray:
    """(P, 2) of a frame x frame picture -> pixels of the same picture at size_wh; pixel areas correspond."""
    return (landmarks + 0.5) * (np.array(size_wh) / frame) - 0.5


def read(source: Path, options: ReadOptions) -> Iterator[Entry]:
    """Yield a face a line; ids are image paths without suffix (see `Ids`); a file's name tells its split."""
    root, ids = image_root(folder_of(source), options, "images", "Image"), Ids()
    count = 2 * options.schema.num_points
    for path in _files(source):
        for line, text in lines_of(path):
            where = f"{path}:{line}"
            fields = text.split(maxsplit=count)  # what is left is the name, which may hold blanks
            leading = next((i for i, token in enumerate(text.split()) if not is_number(token)), len(text.split()))
            if len(fields) != count + 1 or leading != count:
                yield BadEntry(
                    where,
                    f"{counted(leading, 'number')} before the file name, expected {count} ({options.schema.name})",
                )
                continue
            values, image = numbers_of(fields[:count]), fields[count]
            assert not isinstance(values, str)
            numbers, face, picture = values.reshape(-1, 2), ids.of(image, line), below_root(root, image)
            landmarks = numbers
            if options.frame is not None and place_problem(picture, root) is None:
                size_wh = inspect_image(picture, options)
                if not isinstance(size_wh, str):  # checked_face says what is wrong with it
                    landmarks = from_frame(landmarks, options.frame, size_wh)
            yield checked_face(
                where, options, id=face, image=picture, root=root, landmarks=landmarks, numbers=numbers,
                split=split_of(path.stem),
            )  # fmt: skip


def list_line(sample: FaceSample, image: str, frame: int | None) -> str:
    """`x1 y1 ... xL yL filename`, in px, or in a square frame of this side as if the picture were resized to it."""
    landmarks = whole_landmarks_of(sample, "list")
    if frame is not None:
        landmarks = (landmarks + 0.5) * (frame / np.array(image_size(sample.image))) - 0.5
    return " ".join([*decimals(landmarks), image])


def write(dataset: FaceDataset, folder: Path, options: WriteOptions) -> None:
    """Write images/ and <split>.txt a split."""
    pictures = Pictures(folder / "images", dataset, options)
    for split, samples in by_split(dataset, by_name=True):
        write_lines(folder / f"{split}.txt", (list_line(s, pictures.name_of(s.image), options.frame) for s in samples))
