"""COFW (Burgos-Artizzu et al., ICCV 2013): 29 points with occlusion flags; pictures inside MATLAB files.

    COFW_train_color.mat / COFW_train.mat   IsTr pictures, phisTr (N, 87), bboxesTr (N, 4)
    COFW_test_color.mat  / COFW_test.mat    IsT,           phisT,          bboxesT

phis holds 29 x, 29 y and 29 flags (1: occluded); boxes are x y width height; MATLAB counts pixels from 1. Version 7.3
files are HDF5 with every array transposed (data/matlab.py reads both kinds). Pictures are written as PNG, which loses
nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from stylealign.data.formats.entry import BadEntry, Entry, ReadOptions, checked_face
from stylealign.data.image import write_image
from stylealign.data.matlab import hdf5_array, is_hdf5, read_mat
from stylealign.errors import UserError, counted

_FILES = {"train": ("COFW_train_color.mat", "COFW_train.mat"), "test": ("COFW_test_color.mat", "COFW_test.mat")}
_SUFFIX = {"train": "Tr", "test": "T"}
Picture = Callable[[int], np.ndarray]


@contextmanager
def _matlab(
    path: Path, names: tuple[str, str, str], max_pixels: int
) -> Iterator[tuple[Picture, int, np.ndarray, np.ndarray]]:
    """(picture i, number of pictures, phis (N, 87), boxes (N, 4)) of either kind of file, open in the block."""
    if not is_hdf5(path):
        mat = read_mat(path, names)
        pictures = mat[names[0]].ravel()
        yield (lambda i: np.asarray(pictures[i])), len(pictures), mat[names[1]], mat[names[2]]
        return
    import h5py

    try:
        file = h5py.File(path, "r")
    except Exception as error:  # h5py raises what it likes on damage
        raise UserError(f"{path}: expected a MATLAB 7.3 file with {', '.join(names)} ({error})") from None
    with file:
        try:
            cells, phis, boxes = (hdf5_array(file, name) for name in names)
        except Exception as error:
            raise UserError(f"{path}: expected a MATLAB 7.3 file with {', '.join(names)} ({error})") from None
        references = cells.ravel()  # to one array a picture
        yield (lambda i: hdf5_array(file, references[i], 3 * max_pixels).T), len(references), phis.T, boxes.T


def _files(source: Path) -> list[tuple[Path, str]]:
    if source.is_file():
        return [(source, "test" if "test" in source.name.lower() else "train")]
    found = [
        (p, split)
        for split, names in _FILES.items()
        if (p := next((source / n for n in names if (source / n).exists()), None))
    ]
    if not found:
        raise UserError(f"{source}: found none of {', '.join(n for names in _FILES.values() for n in names)}")
    return found


def read(source: Path, options: ReadOptions) -> Iterator[Entry]:
    """Yield every face, its picture written as `<extract_to>/<split>/<number>.png`; points not occluded are visible."""
    if options.extract_to is None:
        raise UserError("cofw: pictures are inside the .mat files and need a folder to be written to")
    points = options.schema.num_points
    for path, split in _files(source):
        names = (f"Is{_SUFFIX[split]}", f"phis{_SUFFIX[split]}", f"bboxes{_SUFFIX[split]}")
        with _matlab(path, names, options.max_pixels) as (picture, count, phis, boxes):
            shapes = f"{path}: {counted(count, 'picture')}, phis {phis.shape} and boxes {boxes.shape}"
            if phis.ndim != 2 or phis.shape[1] != 3 * points or boxes.shape != (len(phis), 4) or count < len(phis):
                raise UserError(f"{shapes}, expected N, (N, {3 * points}) and (N, 4)")
            if phis.dtype.kind not in "iuf" or boxes.dtype.kind not in "iuf":
                raise UserError(f"{path}: phis of {phis.dtype} and boxes of {boxes.dtype}, expected numbers")
            for i, (phi, box) in enumerate(zip(phis.astype(np.float64), boxes.astype(np.float64), strict=True)):
                where, face = f"{path}: face {i + 1}", f"{split}/{i + 1:04d}"
                pixels = _pixels(picture, i, options.max_pixels)
                if isinstance(pixels, str):
                    yield BadEntry(where, pixels, face)
                    continue
                target = options.extract_to / f"{face}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                write_image(target, np.ascontiguousarray(pixels))
                x, y, width, height = box
                yield checked_face(
                    where, options, id=face, image=target, root=options.extract_to, split=split,
                    landmarks=phi[: 2 * points].reshape(2, points).T - 1, visible=phi[2 * points :] < 0.5,
                    box_xyxy=np.array([x, y, x + width, y + height]) - 1,
                )  # fmt: skip


def _pixels(picture: Picture, i: int, max_pixels: int) -> np.ndarray | str:
    """(H, W) or (H, W, 3) uint8 of picture i, or what is wrong with it."""
    try:
        pixels = picture(i)
    except Exception as error:  # h5py raises what it likes on damage
        return f"its picture cannot be read ({error})"
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        return f"picture of {pixels.dtype} {pixels.shape}, expected uint8 height x width (x 3)"
    if not 0 < pixels.shape[0] * pixels.shape[1] <= max_pixels:
        return f"picture of {pixels.shape}, expected 1 to {max_pixels:,} pixels"
    return pixels
