"""What many faces share, met again: the same face noticed, the same picture known by another path, or copied once."""

import hashlib
import os
import shutil
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from stylealign.data.dataset import FaceDataset
from stylealign.data.paths import inside
from stylealign.data.rows import file_digest
from stylealign.errors import UserError, counted
from stylealign.face.sample import FaceSample


class Twins:
    """Notices a face that stands twice: the same picture with the same landmarks, or box where there are none."""

    def __init__(self) -> None:
        self._seen: dict[bytes, str] = {}

    def of(self, sample: FaceSample) -> str | None:
        """The id of the same face, seen before."""
        array = sample.box_xyxy if sample.landmarks is None else sample.landmarks
        digest = hashlib.blake2b(os.fsencode(os.path.abspath(sample.image)), digest_size=12)
        digest.update(b"" if array is None else array.tobytes())
        before = self._seen.setdefault(digest.digest(), sample.id)
        return None if before == sample.id else before


def in_several_splits(dataset: FaceDataset) -> str | None:
    """Of the pictures, by their content, that are learnt from and held out too, in words; None: no picture is."""
    held, splits, first = dataset.held_out_splits(), dict[str, set[str]](), dict[str, str]()
    for head in (dataset.head(i) for i in range(len(dataset))):
        splits.setdefault(head["digest"], set()).add(head["split"])
        first.setdefault(head["digest"], head["image"])
    shared = [picture for picture, own in splits.items() if "train" in own and own & set(held)]
    if not shared:
        return None
    also = [split for split in held if any(split in splits[picture] for picture in shared)]
    return (
        f"{counted(len(shared), 'picture stands', 'pictures stand')} in train and in {' or '.join(also)} too, such as "
        f"{first[shared[0]]}: errors there are of what was learnt"
    )


class KnownPictures:
    """Tells whether a picture is one of these, or a copy of one: by its path, else by its content."""

    def __init__(self, pictures: Iterable[Path]):
        self._paths = {os.path.abspath(path) for path in pictures}
        self._by_size: dict[int, list[str]] = {}  # so that files of no known size need not be read
        for path in self._paths:
            if os.path.isfile(path):
                self._by_size.setdefault(os.path.getsize(path), []).append(path)
        self._digests = lru_cache(maxsize=None)(lambda size: {file_digest(Path(p)) for p in self._by_size[size]})

    def __contains__(self, picture: Path) -> bool:
        if os.path.abspath(picture) in self._paths:
            return True
        try:
            size = os.path.getsize(picture)
            return size in self._by_size and file_digest(picture) in self._digests(size)
        except (OSError, UserError):
            return False  # whoever opens it says what is wrong with it


class Copies:
    """Copies each picture once, keeping its path below its source's folder."""

    def __init__(self, images: Path):
        self._images, self._done = images, dict[Path, Path]()

    def of(self, image: Path, root: Path, prefix: str) -> Path:
        """Where the copy of a picture is, made now unless it is there; `prefix` sets sources apart."""
        if image.is_relative_to(self._images):
            return image
        if image not in self._done:
            relative = (
                image.relative_to(root).as_posix()
                if image.is_relative_to(root)
                else f"{len(self._done):07d}{image.suffix}"
            )
            self._done[image] = inside(self._images, f"{prefix}{relative}", f"a copy of {image}")
            self._done[image].parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(image, self._done[image])
        return self._done[image]
