"""A plain folder of pictures without landmarks, one face each: style donors, or faces to pseudo-label."""

from collections.abc import Iterator
from pathlib import Path

from stylealign.data.formats.entry import Entry, ReadOptions, checked_face
from stylealign.data.formats.files import find_images
from stylealign.errors import UserError


def read(source: Path, options: ReadOptions) -> Iterator[Entry]:
    """Yield every picture below the folder as a face of the split `unlabelled`.

    Ids are paths without suffix, or with it where two pictures differ in nothing else. Other files are noted.
    """
    if not source.is_dir():
        raise UserError(f"{source}: no such folder")
    seen: set[str] = set()
    for image in find_images(source, options.notes):
        relative = image.relative_to(source)
        face = relative.with_suffix("").as_posix()
        face = relative.as_posix() if face in seen else face
        seen.add(face)
        yield checked_face(str(image), options, id=face, image=image, root=source, split="unlabelled")
