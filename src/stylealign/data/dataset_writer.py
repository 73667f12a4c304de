"""Writing a data set (dataset.py says what is in its folder), face by face. Knows no published format."""

import json
import os
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import yaml

from stylealign.config import to_dict
from stylealign.data.atomic import partial_of, whole_folder
from stylealign.data.dataset import FORMAT, FaceDataset, describe_source
from stylealign.data.image import write_image
from stylealign.data.paths import inside
from stylealign.data.rows import content_hash, file_digest, row_problem, to_row
from stylealign.errors import UserError, counted
from stylealign.face.sample import FaceSample
from stylealign.face.schema import SCHEMAS, LandmarkSchema, get_schema


def called(folder: Path | str) -> str:
    """What a data set in this folder is called where nothing else is said: the folder's name; of a folder `data`, as
    in runs/300w/data, that of the folder it lies in, so that a table of several names each."""
    path = Path(folder)
    above = path.parent.name
    return above if path.name == "data" and above not in ("", "..") else path.absolute().name


class DatasetWriter:
    """A context manager that writes a data set face by face, in constant memory; an exception leaves no folder behind.

    images="reference" points at images where they are; "copy" copies each into the folder; "own" means that the
    caller writes them below `writer.images` (or with `add_image`) and that samples point there. Without a `name` it is
    `called` by its folder.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        schema: LandmarkSchema | str,
        name: str = "",
        images: Literal["reference", "copy", "own"] = "reference",
        image_root: Path | None = None,
        source: str = "",
        licence: str = "",
        how: dict[str, Any] | None = None,
    ):
        if images not in ("reference", "copy", "own"):
            raise ValueError(f"images is {images!r}, expected reference, copy or own")
        self.schema = get_schema(schema) if isinstance(schema, str) else schema
        self.folder, self.name, self.how = Path(folder), name or called(folder), to_dict(how or {})
        self._mode, self._root, self._source, self._licence = images, image_root, source, licence
        self.partial = partial_of(self.folder)
        self.images = self.partial / "images"
        self._ids: set[int] = set()
        self._splits: dict[str, int] = {}
        self._labelled = 0

    @classmethod
    def made_from(cls, faces: FaceDataset, config: Any, verb: str, done: str) -> "DatasetWriter":
        """A writer at `config.out` of pictures of its own, made from `faces`, the split `config.split` of a data set.

        `done` says what the verb did to them.
        """
        told = {key: value for key, value in to_dict(config).items() if key != "out"}
        return cls(
            config.out, schema=faces.schema, images="own",
            source=f"{faces.name}, split {config.split}, {done} by stylealign {verb}",
            licence=faces.meta.get("licence", ""),
            how={"verb": verb, "inputs": {"data": describe_source(faces)}, "config": told},
        )  # fmt: skip

    def __enter__(self) -> "DatasetWriter":
        with ExitStack() as stack:
            stack.enter_context(whole_folder(self.folder))
            if self._mode != "reference":
                self.images.mkdir()
            self._file = open(self.partial / "index.jsonl", "w", encoding="utf-8", newline="\n")
            self._whole = stack.pop_all()
        return self

    def add_image(self, name: str, rgb: np.ndarray, quality: int = 95) -> Path:
        """Write an image into the folder; returns the path to put into the sample."""
        path = inside(self.images, name, f"{self.folder}: a picture to write")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, rgb, quality)
        return path

    def add(self, sample: FaceSample) -> None:
        """Append one face. Raises UserError for a repeated id or a landmark count that is not the schema's."""
        key = hash(sample.id)  # 8 bytes a face; a false alarm needs two of a million to collide in 64 bits
        if key in self._ids:
            raise UserError(f"{self.folder}: two faces have the id '{sample.id}'")
        self._ids.add(key)
        if sample.landmarks is not None and len(sample.landmarks) != self.schema.num_points:
            raise UserError(
                f"face '{sample.id}': {counted(len(sample.landmarks), 'landmark')}, expected {self.schema.num_points} "
                f"of {self.schema.name}"
            )
        if not sample.id:
            raise UserError(f"a face of {sample.image}: its id is '', expected text")
        if not (sample.split and sample.split.isprintable()):  # splits are keys of dataset.yaml, and words for --split
            raise UserError(f"face '{sample.id}': its split is {sample.split!r}, expected a word")
        path = sample.image
        if self._mode == "copy":
            name = f"{sample.id}{path.suffix}"
            path = inside(self.images, name, f"face '{sample.id}': its id cannot be a file name")
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(sample.image, path)
        root = (self._root or Path("/")) if self._mode == "reference" else self.images
        try:
            relative = Path(os.path.abspath(path)).relative_to(os.path.abspath(root)).as_posix()
        except ValueError:
            raise UserError(f"face '{sample.id}': image {path} is not below {root}") from None
        row = to_row(sample, relative, file_digest(path))
        if problem := row_problem(row):  # what could not be read again
            raise UserError(f"face '{sample.id}': {problem}")
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._splits[sample.split] = self._splits.get(sample.split, 0) + 1
        self._labelled += sample.landmarks is not None

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._whole:  # gives the folder its name, or removes it: whatever is raised from here on
            with self._file:
                if value is not None:
                    raise value
            if not self._ids:
                raise UserError(f"{self.folder}: no face to write: the data set would be empty")
            root = "images" if self._mode != "reference" else os.path.abspath(self._root or "/")
            write_meta(
                self.partial, schema=self.schema, name=self.name, count=len(self._ids), splits=self._splits,
                labelled=self._labelled, image_root=root, source=self._source, licence=self._licence, how=self.how,
            )  # fmt: skip


def write_meta(
    folder: Path, *, schema: LandmarkSchema, name: str, count: int, splits: dict[str, int], labelled: int,
    image_root: str, source: str, licence: str, how: dict[str, Any],
) -> None:  # fmt: skip
    """Write dataset.yaml beside a finished index.jsonl."""
    meta = {
        "format": FORMAT,
        "name": name,
        "schema": schema.name if SCHEMAS.get(schema.name) == schema else schema.to_dict(),
        "count": count,
        "splits": splits,
        "labelled": labelled,
        "image_root": image_root,
        "source": source,
        "licence": licence,
        "how": how,
        "content_hash": content_hash(folder / "index.jsonl", schema),
    }
    (folder / "dataset.yaml").write_text(yaml.safe_dump(meta, sort_keys=False, allow_unicode=True), encoding="utf-8")


def write_dataset(folder: Path | str, samples: Iterable[FaceSample], **options: Any) -> FaceDataset:
    """Write all `samples` (options as of DatasetWriter) and open the result."""
    with DatasetWriter(folder, **options) as writer:
        for sample in samples:
            writer.add(sample)
    return FaceDataset.open(folder)
