"""One face as one line of a dataset folder's index.jsonl, and the digests that tell whether anything has changed since.

Knows the lines of format 1 (docs/formats.md) and no folder: dataset.py reads and writes those.
"""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from stylealign.errors import UserError
from stylealign.face.sample import FaceSample, Provenance
from stylealign.face.schema import LandmarkSchema

LANDMARKS_KEY = b', "landmarks": '
"""What stands before the landmarks of a line: a reader that needs none stops here."""

_Kinds = dict[str, tuple[type | tuple[type, ...], str]]
_KINDS: _Kinds = {
    "id": (str, "text"),
    "image": (str, "a path"),
    "split": (str, "a word"),
    "digest": (str, "text"),
    "attributes": (dict, "names with true or false"),
    "visible": ((str, type(None)), "a text of 0 and 1"),
    "provenance": ((dict, type(None)), "a mapping"),
    "trust": ((int, float, type(None)), "a number"),
    "orientation": (int, "a whole number"),
}
_MADE_KINDS: _Kinds = {
    "content_id": (str, "text"),
    "style_id": ((str, type(None)), "text"),
    "translator": (str, "text"),
    "seed": (int, "a whole number"),
    "mode": (str, "a word"),
}


def _numbers(array: np.ndarray) -> list:
    """float32 values as the shortest decimals that read back to the same float32."""
    return _decimals(array.tobytes(), array.shape)


@lru_cache(maxsize=32)
def _decimals(content: bytes, shape: tuple[int, ...]) -> list:
    """`_numbers` of an array's bytes. Kept, for a face in many styles has the same numbers many times in a row."""
    flat = [float(str(value)) for value in np.frombuffer(content, np.float32)]
    return flat if len(shape) == 1 else [flat[i : i + shape[1]] for i in range(0, len(flat), shape[1])]


@lru_cache(maxsize=32)
def _text(content: bytes, shape: tuple[int, ...]) -> str:
    """`_decimals` as JSON; kept for the same reason."""
    return json.dumps(_decimals(content, shape))


def to_row(sample: FaceSample, image: str, digest: str) -> dict[str, Any]:
    """The values of a face's line in index.jsonl: its image's path below image_root, the digest of the image's file."""
    row = _all_but_landmarks(sample, image, digest)
    row["landmarks"] = None if sample.landmarks is None else _numbers(sample.landmarks)
    return row


def _all_but_landmarks(sample: FaceSample, image: str, digest: str) -> dict[str, Any]:
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
    if sample.orientation != 1:
        row["orientation"] = sample.orientation
    row["digest"] = digest
    return row


def to_line(sample: FaceSample, image: str, digest: str, **more: Any) -> bytes:
    """The values of `to_row`, and more before the landmarks, as a line without its end."""
    rest = json.dumps({**_all_but_landmarks(sample, image, digest), **more}, ensure_ascii=False)
    points = "null" if sample.landmarks is None else _text(sample.landmarks.tobytes(), sample.landmarks.shape)
    return rest[:-1].encode() + LANDMARKS_KEY + points.encode() + b"}"


def row_problem(row: dict[str, Any]) -> str | None:
    """The first value of a line that is not of its kind, in words, whatever the line says of landmarks."""
    for key, (kinds, expected) in _KINDS.items():
        if key in row and not isinstance(row[key], kinds):
            return f"{key} is {row[key]!r}, expected {expected}"
    if not all(isinstance(on, int) and on in (0, 1) for on in row.get("attributes", {}).values()):
        return f"attributes are {row['attributes']!r}, expected names with true or false"
    for key in ("id", "image", "split"):
        if not row[key].isprintable() and any("\ud800" <= letter <= "\udfff" for letter in row[key]):
            return f"{key} is {row[key]!r}, expected text that UTF-8 can hold"
    if row.get("visible") and not set(row["visible"]) <= {"0", "1"}:
        return f"visible is {row['visible'][:20]!r}, expected a text of 0 and 1"
    made = row.get("provenance") or {}
    for key, (kinds, expected) in _MADE_KINDS.items():
        if key in made and not isinstance(made[key], kinds):
            return f"provenance.{key} is {made[key]!r}, expected {expected}"
    return None


def from_row(row: dict[str, Any], image: Path) -> FaceSample:
    """The face of a line's values (those of `row_problem` in order), and where its image lies."""
    provenance = row.get("provenance")
    if provenance is not None:
        crop = provenance.get("crop_from_source")
        provenance = Provenance(**{**provenance, "crop_from_source": crop and tuple(tuple(r) for r in crop)})
    visible = row.get("visible")
    return FaceSample(
        id=row["id"],
        image=image,
        landmarks=row.get("landmarks"),
        box_xyxy=row.get("box_xyxy"),
        visible=None if visible is None else np.array([c == "1" for c in visible]),
        attributes=row.get("attributes", {}),
        split=row["split"],
        provenance=provenance,
        trust=row.get("trust"),
        point_trust=row.get("point_trust"),
        orientation=row.get("orientation", 1),
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
