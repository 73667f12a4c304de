"""LaPa (Liu et al., AAAI 2020): 106 points, a text file a picture.

    {train,val,test}/images/<name>.jpg
    {train,val,test}/landmarks/<name>.txt    106 and then `x y` a line
    {train,val,test}/labels/<name>.png       masks of parts, which are not read

Coordinates are used as published, counted from 0.
"""

from collections.abc import Iterator
from pathlib import Path

from stylealign.data.formats.entry import BadEntry, Entry, ReadOptions, checked_face, split_of
from stylealign.data.formats.files import Beside, with_suffix
from stylealign.data.formats.text_points import read_points
from stylealign.data.image import IMAGE_SUFFIXES
from stylealign.errors import UserError


def _folders(source: Path) -> list[Path]:
    """The folders that hold images/ and landmarks/: the source, or those in it."""
    candidates = [source, *sorted(path for path in source.glob("*") if path.is_dir())]
    return [path for path in candidates if (path / "landmarks").is_dir()]


def read(source: Path, options: ReadOptions) -> Iterator[Entry]:
    """Yield a face for every file in the folders landmarks/. Ids are `<split>/<name>`."""
    folders = _folders(source) if source.is_dir() else []
    if not folders:
        raise UserError(f"{source}: found no folder landmarks/ in it or in its folders, expected train/, val/ or test/")
    images = Beside(IMAGE_SUFFIXES)
    for folder in folders:
        for path in with_suffix(folder / "landmarks", ".txt"):
            face = f"{folder.name}/{path.stem}" if folder != source else path.stem
            parsed = read_points(path, has_count=True)
            if isinstance(parsed, BadEntry):
                yield BadEntry(parsed.where, parsed.message, face)
                continue
            found = images.of(folder / "images" / path.name)
            if len(found) != 1:
                what = f"several images {', '.join(p.name for p in found)}, expected one" if found else "no such image"
                yield BadEntry(str(path), f"{what} in {folder / 'images'} for {path.stem}", face)
                continue
            landmarks, where = parsed
            yield checked_face(
                where, options, id=face, image=found[0], root=source, landmarks=landmarks, split=split_of(folder.name)
            )
