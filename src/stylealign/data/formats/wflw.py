"""WFLW (Wu et al., CVPR 2018): 98 points, one line a face, several faces an image.

    WFLW_images/<event>/<name>.jpg
    WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_{train,test}.txt    207 fields:
        196 coordinates, box x_min y_min x_max y_max, six flags (pose expression illumination make-up occlusion blur),
        image
    WFLW_annotations/list_98pt_{train,test}/list_98pt_{train,test}.txt       197 fields: coordinates, image
    WFLW_annotations/list_98pt_test/list_98pt_test_<subset>.txt              197 fields, the six test subsets

A source is the folder holding both, or one list file. Ids are `<image without .jpg>#<list><line>`, e.g.
`4--Dancing/a_576#test12`: the 207- and 197-field lists have the same order, so a face keeps its id.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.formats.entry import (
    BadEntry,
    Entry,
    ReadOptions,
    checked_face,
    folder_of,
    lines_of,
    numbers_of,
    split_of,
    stem_of,
)
from stylealign.data.formats.writing import (
    Pictures,
    WriteOptions,
    box_of,
    by_split,
    decimals,
    whole_landmarks_of,
    write_lines,
)
from stylealign.errors import UserError, counted
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema

ATTRIBUTES = ("pose", "expression", "illumination", "make_up", "occlusion", "blur")
SUBSET_FILES = {
    "largepose": "pose", "expression": "expression", "illumination": "illumination", "makeup": "make_up",
    "occlusion": "occlusion", "blur": "blur",
}  # fmt: skip
_COORDINATES, _WITH_BOX = 196, 206
Key = tuple[str, bytes]


def _key(image: str, landmarks: np.ndarray) -> Key:
    """What makes a line of a subset list the same face as a line of the full list."""
    return image, np.round(landmarks, 3).tobytes()


def _parse(text: str) -> tuple[np.ndarray, str] | str:
    """The numbers (196 or 206) and image of a line, or what is wrong with it."""
    *tokens, image = text.split()
    if len(tokens) not in (_COORDINATES, _WITH_BOX):
        found = counted(len(tokens) + 1, "field")
        return f"{found}, expected {_WITH_BOX + 1} (with box and attributes) or {_COORDINATES + 1}"
    values = numbers_of(tokens, "field")
    return values if isinstance(values, str) else (values, image)


def _lists(source: Path) -> list[tuple[Path, str]]:
    """(list, tag) of a source; the tag is the split in the list's name, or the subset of a subset list read alone."""
    if source.is_file():
        return [(source, source.stem.split("_")[-1])]
    annotations = source / "WFLW_annotations"
    found = sorted((annotations / "list_98pt_rect_attr_train_test").glob("list_98pt_rect_attr_*.txt"))
    if not found:
        found = [p for s in ("test", "train") if (p := annotations / f"list_98pt_{s}" / f"list_98pt_{s}.txt").exists()]
    if not found:
        raise UserError(
            f"{source}: found no list of faces, expected WFLW_annotations/list_98pt_rect_attr_train_test/"
            "list_98pt_rect_attr_test.txt (or _train.txt) and WFLW_images; give --path the folder that holds both, "
            "or a list file"
        )
    return [(path, path.stem.split("_")[-1]) for path in found]


def image_root(source: Path) -> Path:
    """The folder that WFLW_images lies in: the source, or the next above it. Raises UserError where there is none, or
    no list."""
    _lists(source)  # what is no WFLW at all is told as that
    for folder in (folder_of(source), *folder_of(source).absolute().parents):
        if (folder / "WFLW_images").is_dir():
            return folder
    raise UserError(f"{source}: found no WFLW_images in it or above it; say with --images where the pictures are")


def _subsets(source: Path) -> tuple[dict[Key, dict[str, str]], list[BadEntry]]:
    """Face -> {attribute: file:line} of the six official subset lists that are there, and their bad lines."""
    members: dict[Key, dict[str, str]] = {}
    bad = []
    for suffix, attribute in SUBSET_FILES.items() if source.is_dir() else ():
        path = source / "WFLW_annotations" / "list_98pt_test" / f"list_98pt_test_{suffix}.txt"
        for number, text in lines_of(path) if path.exists() else ():
            where, parsed = f"{path}:{number}", _parse(text)
            if isinstance(parsed, str):
                bad.append(BadEntry(where, parsed))
            else:
                members.setdefault(_key(parsed[1], parsed[0][:_COORDINATES]), {})[attribute] = where
    return members, bad


def read(source: Path, options: ReadOptions) -> Iterator[Entry]:
    """Yield the faces of every list; `attributes` come from the flags and from the subset lists."""
    lists, root = _lists(source), options.images or image_root(source) / "WFLW_images"
    has_test = any(tag == "test" for _, tag in lists)
    subsets, bad = _subsets(source) if has_test else ({}, [])
    yield from bad
    for path, tag in lists:
        for number, text in lines_of(path):
            where, parsed = f"{path}:{number}", _parse(text)
            if isinstance(parsed, str):
                yield BadEntry(where, parsed)
                continue
            values, image = parsed
            face = f"{stem_of(image)}#{tag}{number}"
            full = len(values) == _WITH_BOX
            flags = values[200:206] if full else np.zeros(0)
            if not np.isin(flags, (0, 1)).all():
                yield BadEntry(where, f"attributes {flags.tolist()}, expected six of 0 or 1", face)
                continue
            attributes = {name: bool(flag) for name, flag in zip(ATTRIBUTES, flags, strict=False)}
            if tag in SUBSET_FILES:
                attributes[SUBSET_FILES[tag]] = True
            attributes |= dict.fromkeys(subsets.pop(_key(image, values[:_COORDINATES]), {}), True)
            yield checked_face(
                where, options, id=face, image=root / image, root=root, landmarks=values[:_COORDINATES].reshape(-1, 2),
                box_xyxy=values[196:200] if full else None, attributes=attributes, split=split_of(path.stem),
            )  # fmt: skip
    for (image, _), wheres in subsets.items():
        for where in wheres.values():
            yield BadEntry(where, f"no face of the test list has this image ({image}) and these landmarks")


def wflw_line(sample: FaceSample, image: str) -> str:
    """A line of 207 fields. The box is rounded outwards to whole px, as published: many readers parse integers."""
    x0, y0, x1, y1 = box_of(sample)
    box = [str(int(v)) for v in (np.floor(x0), np.floor(y0), np.ceil(x1), np.ceil(y1))]
    flags = [str(int(sample.attributes.get(name, False))) for name in ATTRIBUTES]
    return " ".join([*decimals(whole_landmarks_of(sample, "wflw")), *box, *flags, image])


def write(dataset: FaceDataset, folder: Path, options: WriteOptions) -> None:
    """Write WFLW_images/ and a 207-field list a split, where the published ones lie."""
    pictures = Pictures(folder / "WFLW_images", dataset, options)
    for split, samples in by_split(dataset, by_name=True):
        path = folder / "WFLW_annotations" / "list_98pt_rect_attr_train_test" / f"list_98pt_rect_attr_{split}.txt"
        write_lines(path, (wflw_line(s, pictures.name_of(s.image)) for s in samples))


def write_predicted(folder: Path, faces: Iterable[FaceSample], schema: LandmarkSchema) -> None:
    """Write one list of 207 fields; blanks in names become `_`, and attributes are 0."""
    lines = (wflw_line(face, face.image.as_posix().replace(" ", "_")) for face in faces)
    write_lines(folder / "list_98pt_rect_attr_predicted.txt", lines)
