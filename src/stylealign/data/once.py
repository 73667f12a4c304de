"""What many faces of a source share, met again: the same face noticed, the same picture copied once."""

import hashlib
import os
import shutil
from pathlib import Path

from stylealign.data.paths import inside
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
