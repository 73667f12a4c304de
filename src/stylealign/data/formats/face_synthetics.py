"""Microsoft's FaceSynthetics (Wood et al., ICCV 2021): rendered faces with 70 points, the last two in the pupils.

    000000.png    000000_ldmks.txt (`x y` a line)    000000_seg.png (parts, which are not read)

Coordinates are used as published, counted from 0. They are projected from a mesh: those behind the face lie where the
head hides them, and the first 68 are of the kind that iBUG's are.
"""

from collections.abc import Iterator
from pathlib import Path

from stylealign.data.formats.entry import BadEntry, Entry, ReadOptions, checked_face, split_of
from stylealign.data.formats.files import Beside, with_suffix
from stylealign.data.formats.text_points import read_points
from stylealign.data.image import IMAGE_SUFFIXES
from stylealign.errors import UserError

_END = "_ldmks"


def read(source: Path, options: ReadOptions) -> Iterator[Entry]:
    """Yield a face for every `*_ldmks.txt` below the folder, sorted. Ids are pictures' paths without suffix."""
    files = with_suffix(source, ".txt", deep=True) if source.is_dir() else []
    files = [path for path in files if path.stem.lower().endswith(_END)]
    if not files:
        raise UserError(f"{source}: found no file *{_END}.txt in it or below it")
    images = Beside(IMAGE_SUFFIXES)
    for path in files:
        name = path.stem[: -len(_END)]
        relative = path.relative_to(source).parent
        face = (relative / name).as_posix()
        parsed = read_points(path, has_count=False)
        if isinstance(parsed, BadEntry):
            yield BadEntry(parsed.where, parsed.message, face)
            continue
        found = images.of(path.parent / f"{name}.png")
        if len(found) != 1:
            what = f"several images {', '.join(p.name for p in found)}, expected one" if found else "no such image"
            yield BadEntry(str(path), f"{what} for it: {path.parent / name}.png", face)
            continue
        landmarks, where = parsed
        yield checked_face(
            where, options, id=face, image=found[0], root=source, landmarks=landmarks,
            split=split_of(relative.as_posix()),
        )  # fmt: skip
