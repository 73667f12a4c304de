"""Dataset folder, format 1: the one contract between making faces and using them.

    dataset.yaml   format, name, schema, count, splits, labelled, image_root, source, licence, how it was made, content
                   hash
    index.jsonl    a face a line, UTF-8 (rows.py): id, image (relative to image_root), split, attributes, box_xyxy,
                   visible, provenance, trust, point_trust, digest (of the image file), landmarks - last, so that a
                   reader of splits can stop before them
    images/        only where the data set owns its images (image_root: images)

A folder is written as `<name>.partial` and renamed when complete: a folder that exists is whole. An open data set
holds the byte offset of each line and nothing else, so that a million faces open in megabytes. Knows no published
format (formats/ do).
"""

import mmap
import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from stylealign.config import parse_json, read_yaml
from stylealign.data.atomic import partial_of
from stylealign.data.paths import inside
from stylealign.data.rows import LANDMARKS_KEY, content_hash, file_digest, from_row, row_problem
from stylealign.data.shards import INDEX, ShardedFaces
from stylealign.errors import UserError, counted
from stylealign.face.sample import FaceSample
from stylealign.face.schema import SCHEMAS, LandmarkSchema, schema_from_dict

FORMAT = 1
MAX_LINE = 16_000_000
"""Bytes of a face's line at most: 400,000 landmarks."""
_META: dict[str, tuple[tuple[type, ...], str]] = {
    "name": ((str, int, float), "a name"),
    "count": ((int,), "a number of faces"),
    "splits": ((dict,), "a count of each split"),
    "image_root": ((str,), "a folder"),
    "content_hash": ((str,), "text"),
    "how": ((dict, type(None)), "a mapping"),
}


def evenly_spread(length: int, most: int) -> np.ndarray:
    """At most `most` of the positions 0 to `length` - 1, from first to last at even distances, in order."""
    return np.unique(np.linspace(0, length - 1, min(most, length)).round().astype(int))


class FaceDataset:
    """An open data set, or a view of some of its faces. `dataset[i]` reads and decodes one line."""

    def __init__(
        self,
        folder: Path,
        meta: dict[str, Any],
        schema: LandmarkSchema,
        offsets: np.ndarray,
        rows: np.ndarray | None = None,
    ):
        self.folder, self.meta, self.schema = folder, meta, schema
        self._offsets, self._rows = offsets, rows
        self._map: mmap.mmap | None = None

    @classmethod
    def open(cls, folder: Path | str) -> "FaceDataset":
        """Open a data set folder. Reads the YAML and finds line starts; decodes no face."""
        folder = Path(folder)
        if not folder.exists() and partial_of(folder).exists():
            raise UserError(
                f"{folder}: only a half-written {partial_of(folder).name} is there; run the command that makes it again"
            )
        if not (folder / "dataset.yaml").exists() and (folder / INDEX).exists():
            raise UserError(
                f"{folder}: holds shards (format 2), which `train-detector` reads as --real, --synthetic or --other; "
                "expected a data set folder of loose files (format 1)"
            )
        if not (folder / "dataset.yaml").exists():
            why = "no dataset.yaml in it" if folder.exists() else "there is no such folder"
            raise UserError(f"{folder}: not a dataset folder ({why}); make one with `stylealign prepare`")
        meta = read_yaml(folder / "dataset.yaml")
        if not isinstance(meta, dict) or meta.get("format") != FORMAT:
            found = meta.get("format") if isinstance(meta, dict) else None
            raise UserError(f"{folder / 'dataset.yaml'}: format {found!r}, expected {FORMAT}")
        missing = [
            key for key in ("name", "schema", "count", "splits", "image_root", "content_hash") if key not in meta
        ]
        if missing:
            raise UserError(f"{folder / 'dataset.yaml'}: missing key {', '.join(missing)}")
        for key, (kinds, expected) in _META.items():
            if key in meta and not isinstance(meta[key], kinds):
                raise UserError(f"{folder / 'dataset.yaml'}: {key}: found {meta[key]!r}, expected {expected}")
        if not all(isinstance(count, int) for count in meta["splits"].values()):
            raise UserError(
                f"{folder / 'dataset.yaml'}: splits: found {meta['splits']!r}, expected a count of each split"
            )
        meta["name"] = str(meta["name"])
        if not Path(meta["image_root"]).is_absolute():  # an absolute one is the user's own folder, which `check` says
            inside(folder, meta["image_root"], f"{folder / 'dataset.yaml'}: image_root")
        schema = meta["schema"]
        schema = (
            SCHEMAS[schema]
            if isinstance(schema, str) and schema in SCHEMAS
            else schema_from_dict(schema, f"{folder / 'dataset.yaml'}: schema")
        )
        offsets = _line_offsets(folder / "index.jsonl")
        if len(offsets) != meta["count"]:
            raise UserError(
                f"{folder / 'index.jsonl'}: {counted(len(offsets), 'face')}, expected {meta['count']} (dataset.yaml)"
            )
        if not len(offsets):
            raise UserError(f"{folder / 'index.jsonl'}: no face in it")
        return cls(folder, meta, schema, offsets)

    @property
    def name(self) -> str:
        """Name of the data set, of which this may be a view."""
        return self.meta["name"]

    @property
    def content_hash(self) -> str:
        """SHA-256 of all its faces and its mark-up, as dataset.yaml has it."""
        return self.meta["content_hash"]

    @property
    def image_root(self) -> Path:
        """The folder that all its images lie below."""
        return self.folder / self.meta["image_root"]  # an absolute image_root stays absolute

    def _line(self, row: int) -> bytes:
        if self._map is None:
            with open(self.folder / "index.jsonl", "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        end = self._map.find(b"\n", self._offsets[row])
        end = end if end >= 0 else len(self._map)
        if end - self._offsets[row] > MAX_LINE:
            found = f"a line of {counted(end - self._offsets[row], 'byte')}"
            raise UserError(f"{self.folder / 'index.jsonl'}:{row + 1}: {found}, expected at most {MAX_LINE:,}")
        return self._map[self._offsets[row] : end]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}

    def row_number(self, i: int) -> int:
        """The line (0-based) of index.jsonl that face `i` of this view stands in; negatives count from its end."""
        if isinstance(i, bool | np.bool_):
            raise TypeError(f"face {i}: expected a whole number; the positions of a mask are np.flatnonzero(mask)")
        at = operator.index(i)
        if not -len(self) <= at < len(self):
            raise IndexError(f"face {at} of a view of {counted(len(self), 'face')}")
        at %= len(self)
        return int(at if self._rows is None else self._rows[at])

    def _decode(self, i: int, line: bytes) -> dict[str, Any]:
        row = parse_json(line, self._where(i))
        if not isinstance(row, dict) or not {"id", "image", "split", "digest"} <= row.keys():
            raise UserError(f"{self._where(i)}: expected a face with id, image, split and digest")
        if problem := row_problem(row):
            raise UserError(f"{self._where(i)}: not a face of format {FORMAT} ({problem})")
        return row

    def _image(self, i: int, row: dict[str, Any]) -> Path:
        """Where a line's image lies. Raises UserError where that is not below `image_root`."""
        return inside(self.image_root, row["image"], self._where(i))

    def _where(self, i: int) -> str:
        return f"{self.folder / 'index.jsonl'}:{self.row_number(i) + 1}"

    def row(self, i: int) -> dict[str, Any]:
        """The values of face i's line, as they stand there."""
        return self._decode(i, self._line(self.row_number(i)))

    def head(self, i: int) -> dict[str, Any]:
        """Face i's line without its landmarks (fast); `labelled` says whether it has any."""
        line = self._line(self.row_number(i))
        cut = line.rfind(LANDMARKS_KEY)
        if cut < 0:  # not as we write it: without landmarks, or with other spaces
            row = self._decode(i, line)
            labelled = row.pop("landmarks", None) is not None
            return {**row, "labelled": labelled}
        unlabelled = line.startswith(b"null", cut + len(LANDMARKS_KEY))
        return {**self._decode(i, line[:cut] + b"}"), "labelled": not unlabelled}

    def __len__(self) -> int:
        return len(self._offsets if self._rows is None else self._rows)

    @overload
    def __getitem__(self, i: int) -> FaceSample: ...
    @overload
    def __getitem__(self, i: slice) -> "FaceDataset": ...
    def __getitem__(self, i: int | slice) -> "FaceSample | FaceDataset":
        """A face; negative numbers count from the end. Of a slice a view, as `take` gives."""
        if isinstance(i, slice):
            return self.take(range(len(self))[i])
        row = self.row(i)
        image = self._image(i, row)
        try:
            sample = from_row(row, image)
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{self._where(i)}: not a face of format {FORMAT} ({error})") from None
        if sample.landmarks is not None and len(sample.landmarks) != self.schema.num_points:
            found, schema = len(sample.landmarks), self.schema
            raise UserError(
                f"{self._where(i)}: {counted(found, 'landmark')}, expected {schema.num_points} of {schema.name}"
            )
        return sample

    def __iter__(self) -> Iterator[FaceSample]:
        return (self[i] for i in range(len(self)))

    def ids(self) -> list[str]:
        """The ids of this view's faces, in order."""
        return [self.head(i)["id"] for i in range(len(self))]

    def subset_names(self) -> list[str]:
        """Every attribute that at least one face of this view has set."""
        return sorted({name for i in range(len(self)) for name, on in self.head(i).get("attributes", {}).items() if on})

    def held_out_splits(self) -> list[str]:
        """The splits of this view's faces that by their names are not trained on: `val`, `test` and its like."""
        splits = {self.head(i)["split"] for i in range(len(self))}
        return sorted(split for split in splits if split == "val" or split.startswith("test"))

    def training_faces(self) -> "FaceDataset":
        """A view of this view's faces of the split `train`; all of them where none is."""
        kept = [i for i in range(len(self)) if self.head(i)["split"] == "train"]
        return self.take(kept) if kept else self

    def landmarks_array(self) -> np.ndarray:
        """(N, P, 2) float32 of a view whose faces are all labelled; UserError where one is not."""
        found = np.empty((len(self), self.schema.num_points, 2), dtype=np.float32)
        for i, sample in enumerate(self):
            if sample.landmarks is None:
                raise UserError(f"{self._where(i)}: face '{sample.id}' has no landmarks, expected labelled faces")
            found[i] = sample.landmarks
        return found

    def labelled_array(self) -> np.ndarray:
        """(N, P) bool beside `landmarks_array`: the landmarks that count as labels, which those of trust 0 do not."""
        found = np.empty((len(self), self.schema.num_points), dtype=bool)
        for i, sample in enumerate(self):
            found[i] = sample.labelled_points
        return found

    def take(self, indices: Iterable[int]) -> "FaceDataset":
        """A view of the faces at these positions (whole numbers, no mask), in this order."""
        rows = np.array([self.row_number(i) for i in indices], dtype=np.int64)
        return FaceDataset(self.folder, self.meta, self.schema, self._offsets, rows)

    def select(
        self, split: str | None = None, subset: str | None = None, labelled: bool | None = None
    ) -> "FaceDataset":
        """A view of the faces of a split, of a subset (attribute), labelled or not; UserError where there is none."""

        def keep(head: dict[str, Any]) -> bool:
            return (
                (split is None or head["split"] == split)
                and (subset is None or head.get("attributes", {}).get(subset, False))
                and (labelled is None or head["labelled"] == labelled)
            )

        kept = [i for i in range(len(self)) if keep(self.head(i))]
        if not kept:
            wanted = " and ".join(f"{k} {v!r}" for k, v in (("split", split), ("subset", subset)) if v is not None)
            kind = "" if labelled is None else f" that is {'' if labelled else 'un'}labelled"
            splits = ", ".join(f"{name} ({count:,})" for name, count in self.meta["splits"].items())
            has = f"splits {splits or 'none'}; subsets {', '.join(self.subset_names()) or 'none'}"
            raise UserError(f"{self.folder}: no face{' with ' if wanted else ''}{wanted}{kind}; it has {has}")
        return self.take(kept)

    def refuse_changed_images(self, positions: Iterable[int]) -> None:
        """Raises UserError for a face whose image is another file than the one that the data set was made of, by its
        digest. One that is missing is for its reader to tell. Reads the files."""
        from stylealign.data.image import read_image  # whose libraries an open data set does without

        for i in positions:
            head = self.head(i)
            path = self._image(i, head)
            if os.path.exists(path) and file_digest(path) != head["digest"]:
                read_image(path)  # one that is damaged is told as such
                raise UserError(
                    f"{path}: image of face '{head['id']}' has changed since {self.folder} was made, expected the "
                    "picture it was made of"
                )

    def verify(self) -> list[str]:
        """Sentences on what is not as dataset.yaml says: a changed index, images that are missing or have changed."""
        edited = _edited(self.folder, self.content_hash, self.schema)
        problems, seen = [edited] if edited else [], set[str]()
        for i in range(len(self)):
            head = self.head(i)
            if head["id"] in seen:
                problems.append(f"{self._where(i)}: the id '{head['id']}' is that of another face too, expected one")
            seen.add(head["id"])
            try:
                path = self._image(i, head)
            except UserError as error:  # a file that the data set has no business with is not opened
                problems.append(str(error))
                continue
            if not os.path.exists(path):  # unlike Path.exists, not with a name too long either
                problems.append(f"{path}: image of face '{head['id']}' is missing")
            elif file_digest(path) != head["digest"]:
                problems.append(f"{path}: image of face '{head['id']}' has changed since the data set was made")
        return problems


def _line_offsets(path: Path) -> np.ndarray:
    """Byte offset of every line's start, found block by block."""
    starts, position = [np.zeros(1, dtype=np.int64)], 0
    try:
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 22), b""):
                starts.append(
                    np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == 10).astype(np.int64) + position + 1
                )
                position += len(block)
    except FileNotFoundError:
        raise UserError(f"{path}: missing, though its folder has a dataset.yaml") from None
    offsets = np.concatenate(starts)
    return offsets[offsets < position]


def _edited(folder: Path, said: str, schema: LandmarkSchema) -> str | None:
    """That an index is not the one of that content hash, in a sentence; None where it is."""
    found = content_hash(folder / "index.jsonl", schema)
    if found == said:
        return None
    return f"{folder / 'index.jsonl'}: content hash {found[:12]}, expected {said[:12]}: edited since it was made"


def describe_data(dataset: "FaceDataset | ShardedFaces", **more: Any) -> dict[str, Any]:
    """Name, content hash and number of faces, and `more`: what a card or a result says of a data set.

    Raises UserError where its index has been edited since it was made: its content hash is then another's.
    """
    schema = dataset.schema if isinstance(dataset, FaceDataset) else None
    if schema is not None and (edited := _edited(dataset.folder, dataset.content_hash, schema)):
        raise UserError(
            f"{edited}; `stylealign prepare --reader dataset --path {dataset.folder} --out NEW` makes a data set of it "
            "as it is now"
        )
    return {"name": dataset.name, "content_hash": dataset.content_hash, "faces": len(dataset), **more}


def describe_source(dataset: "FaceDataset | ShardedFaces") -> dict[str, Any]:
    """`describe_data` of what another is made from, and its `origins`."""
    return describe_data(dataset, **origins([dataset.meta]))


def origins(metas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What dataset.yaml files say of how their faces were made, where they do: the content hashes of the data sets that
    they were made from (`made_from`), the detectors whose answers are labels (`labelled_by`), and what the translators
    learnt from that drew them (`drawn_by`)."""
    known = {
        "made_from": list(dict.fromkeys(content for meta in metas for content in sources_of(meta))),
        "labelled_by": [detector for meta in metas for detector in labellers_of(meta)],
        "drawn_by": [learnt for meta in metas for learnt in drawn_by(meta)],
    }
    return {name: value for name, value in known.items() if value}


def _inputs(meta: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What dataset.yaml says that the faces were made with, and of the data set that they were made from."""
    inputs = (meta.get("how") or {}).get("inputs") or {}
    return inputs, inputs.get("data") or {}


def sources_of(meta: dict[str, Any]) -> list[str]:
    """The content hashes of the data sets that the faces of one, of that dataset.yaml, were made from: the last
    first."""
    _, source = _inputs(meta)
    return [*([source["content_hash"]] if "content_hash" in source else []), *source.get("made_from", [])]


def labellers_of(meta: dict[str, Any]) -> list[dict[str, Any]]:
    """The detectors whose answers are labels of a data set of that dataset.yaml, of `pseudo-label`: each with the
    `data` that it learnt from."""
    inputs, source = _inputs(meta)
    now = inputs.get("detectors", []) if (meta.get("how") or {}).get("verb") == "pseudo-label" else []
    return [*now, *source.get("labelled_by", [])]


def drawn_by(meta: dict[str, Any]) -> list[dict[str, Any]]:
    """The data sets that the translators learnt from which drew the faces of one, of that dataset.yaml, as their cards
    describe them."""
    inputs, source = _inputs(meta)
    return [*(inputs.get("translator") or {}).get("learnt_from", []), *source.get("drawn_by", [])]
