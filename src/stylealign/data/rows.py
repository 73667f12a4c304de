"""One face as one line of a dataset folder's index.jsonl, and the digests that tell whether anything has changed since.

Knows the lines of format 1 (docs/formats.md) and no folder: dataset.py reads and writes those.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from stylealign.errors import UserError
from stylealign.face.sample import FaceSample, Provenance
from stylealign.face.schema import LandmarkSchema

LANDMARKS_KEY = b', "landmarks": '
"""What stands before the landmarks of a line: a reader that needs none stops here."""


def _numbers(array: np.ndarray) -> list:
    """float32 values as the shortest decimals that read back to the same float32."""
    return [float(str(v)) for v in array.ravel()] if array.ndim == 1 else [_numbers(row) for row in array]


def to_row(sample: FaceSample, image: str, digest: str) -> dict[str, Any]:
    """The values of a face's line in index.jsonl: its image's path below image_root, the digest of the image's file."""
    row: dict[str, Any] = {"id": sample.id, "image": image, "split": sample.split}
    if sample.attributes:
        row["attributes"] = {k: bool(v) for k, v in sample.attributes.items()}
    if sample.box_xyxy is not None:
        row["box_xyxy"] = _numbers(sample.box_xyxy)
    if sample.visible is not None:
        row["visible"] = "".join("1" if v else "0" for v in sample.visible)
    if sample.provenance is not None:
        p = sample.provenance
        row["provenance"] = {name: getattr(p, name) for name in p.__slots__}
    if sample.trust is not None:
        row["trust"] = float(sample.trust)
    if sample.point_trust is not None:
        row["point_trust"] = _numbers(sample.point_trust)
    row["digest"] = digest
    row["landmarks"] = None if sample.landmarks is None else _numbers(sample.landmarks)
    return row


def from_row(row: dict[str, Any], image_root: Path) -> FaceSample:
    """The face of a line's values; `image_root` is the folder that its image is named relative to."""
    provenance = row.get("provenance")
    if provenance is not None:
        crop = provenance.get("crop_from_source")
        provenance = Provenance(**{**provenance, "crop_from_source": crop and tuple(tuple(r) for r in crop)})
    visible = row.get("visible")
    return FaceSample(
        id=row["id"],
        image=image_root / row["image"],
        landmarks=row.get("landmarks"),
        box_xyxy=row.get("box_xyxy"),
        visible=None if visible is None else np.array([c == "1" for c in visible]),
        attributes=row.get("attributes", {}),
        split=row["split"],
        provenance=provenance,
        trust=row.get("trust"),
        point_trust=row.get("point_trust"),
    )


def digest_of(content: bytes) -> str:
    """First 16 hex digits of the SHA-256 of a file's content."""
    return hashlib.sha256(content).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """`digest_of` a file on disk."""
    try:
        return digest_of(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def content_hash(index: Path, schema: LandmarkSchema) -> str:
    """SHA-256 of the index (which holds the images' digests) and the schema: equal hashes mean the same faces."""
    digest = hashlib.sha256(json.dumps(schema.to_dict(), sort_keys=True).encode())
    with open(index, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
