"""COFW (Burgos-Artizzu et al., ICCV 2013): 29 points with occlusion flags; pictures inside MATLAB files.

    COFW_train_color.mat / COFW_train.mat   IsTr pictures, phisTr (N, 87), bboxesTr (N, 4)
    COFW_test_color.mat  / COFW_test.mat    IsT,           phisT,          bboxesT

phis holds 29 x, 29 y and 29 flags (1: occluded); boxes are x y width height; MATLAB counts pixels from 1. Version 7.3
files are HDF5 with every array transposed, older ones are read by scipy. Pictures are written as PNG, which loses
nothing.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stylealign.data.formats.entry import BadEntry, Entry, ReadOptions, checked_face
from stylealign.data.image import write_image
from stylealign.errors import UserError

_FILES = {"train": ("COFW_train_color.mat", "COFW_train.mat"), "test": ("COFW_test_color.mat", "COFW_test.mat")}
_SUFFIX = {"train": "Tr", "test": "T"}
Picture = Callable[[int], np.ndarray]


def _matlab(path: Path, names: tuple[str, str, str]) -> tuple[Picture, np.ndarray, np.ndarray]:
    """(picture i, phis (N, 87), boxes (N, 4)) of either kind of file."""
    images, phis, boxes = names
    with open(path, "rb") as file:
        head = file.read(1024)
    if b"\x89HDF\r\n\x1a\n" in head or head.startswith(b"MATLAB 7.3"):
        import h5py

        try:
            hdf = h5py.File(path, "r")
            cells = np.asarray(hdf[images]).ravel()  # references to one array a picture
            return lambda i: np.asarray(hdf[cells[i]]).T, np.asarray(hdf[phis]).T, np.asarray(hdf[boxes]).T
        except (OSError, KeyError) as error:
            raise UserError(f"{path}: expected a MATLAB 7.3 file with {', '.join(names)} ({error})") from None
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        mat: dict[str, Any] = loadmat(path, variable_names=names)
        pictures = mat[images].ravel()
        return lambda i: np.asarray(pictures[i]), np.asarray(mat[phis]), np.asarray(mat[boxes])
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError, MatReadError) as error:
        raise UserError(f"{path}: expected a MATLAB file with {', '.join(names)} ({error})") from None


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
        picture, phis, boxes = _matlab(
            path, (f"Is{_SUFFIX[split]}", f"phis{_SUFFIX[split]}", f"bboxes{_SUFFIX[split]}")
        )
        if phis.ndim != 2 or phis.shape[1] != 3 * points or boxes.shape != (len(phis), 4):
            raise UserError(f"{path}: phis {phis.shape} and boxes {boxes.shape}, expected (N, {3 * points}) and (N, 4)")
        for i, (phi, box) in enumerate(zip(phis.astype(np.float64), boxes.astype(np.float64), strict=True)):
            where, face = f"{path}: face {i + 1}", f"{split}/{i + 1:04d}"
            pixels = picture(i)
            if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
                yield BadEntry(
                    where, f"picture of {pixels.dtype} {pixels.shape}, expected uint8 height x width (x 3)", face
                )
                continue
            target = options.extract_to / f"{face}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            write_image(target, np.ascontiguousarray(pixels))
            x, y, width, height = box
            numbers = phi[: 2 * points].reshape(2, points).T
            yield checked_face(
                where, options, id=face, image=target, root=options.extract_to, split=split,
                landmarks=numbers - 1, numbers=numbers, visible=phi[2 * points :] < 0.5,
                box_xyxy=np.array([x, y, x + width, y + height]) - 1,
            )  # fmt: skip
