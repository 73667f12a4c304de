"""Shards, format 2: faces that are cut already, a thousand or so in a tar file, for trainings on more than loose files
serve (docs/formats.md). The tar files are WebDataset's and go in and out through the library of that name.

    shards.json       format, name, schema, splits, crop, margin, how it was made, content hash; and of each shard its
                      name, split, number of faces, bytes and digest
    train-00000.tar   of each face a picture, 00000007.jpg, and a row as of format 1, 00000007.json, whose landmarks,
                      box and crop_from_source are in px of that picture

A folder, or an address that fsspec knows (s3://bucket/faces). What is open holds a line a shard, however many faces
there are. Knows no tensors; batches/shards.py reads faces in an order.
"""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from stylealign.config import from_dict, parse_json, to_dict
from stylealign.data.atomic import write_whole
from stylealign.data.paths import inside
from stylealign.data.rows import digest_of, from_row, row_problem, to_line
from stylealign.errors import UserError, counted
from stylealign.face.crop import CropConfig
from stylealign.face.sample import FaceSample
from stylealign.face.schema import SCHEMAS, LandmarkSchema, schema_from_dict

FORMAT = 2
INDEX = "shards.json"
INSTALL = "pip install 'stylealign[scale]'"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardConfig:
    """How the faces of shards are cut and kept; a training reads them with the same crop."""

    crop: CropConfig = field(default_factory=CropConfig)
    margin: float = 1.25
    """Side of the picture over the crop's: the room in which a training turns and moves a face."""
    image_format: Literal["jpg", "png"] = "jpg"
    """png keeps every value, and takes about four times the bytes."""
    quality: int = 95
    """Of JPEG, 1 to 100."""

    def __post_init__(self) -> None:
        if not (1 <= self.margin <= 4 and 1 <= self.quality <= 100):
            raise ValueError(f"shard of margin {self.margin} and quality {self.quality}: expected 1 to 4, and 1 to 100")


def refuse_few(faces: int) -> None:
    """Raise ValueError for a number of faces a shard that is none."""
    if faces < 0:
        raise ValueError(f"shards is {faces}, expected faces a shard, or 0 for loose files")


def shown(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration as a data set says it: of shards only where there are some."""
    return {k: v for k, v in config.items() if config["shards"] or k not in ("shards", "shard")}


class Shard(NamedTuple):
    """One tar file."""

    name: str
    split: str
    faces: int
    size: int
    """bytes"""
    digest: str


class Packed(NamedTuple):
    """A face as it lies in a shard, its bytes not looked at yet."""

    where: str
    """for sentences"""
    image: bytes
    row: bytes


class LabelSums(NamedTuple):
    """Of the faces of a split: what the mean of their labels is made from."""

    sum: np.ndarray
    """(P, 2) of landmarks in px of the picture"""
    num: np.ndarray
    """(P,) faces that have each of them"""


def _library() -> Any:
    try:
        import webdataset
    except ImportError:
        raise UserError(f"shards need the package webdataset, which is not installed; get it with: {INSTALL}") from None
    return webdataset


def address_of(path: Path | str) -> str:
    """An address again that became a path on its way, as s3:/bucket/faces did; a path as it is.

    >>> address_of(Path("s3://bucket/faces")), address_of(Path("data/faces"))
    ('s3://bucket/faces', 'data/faces')
    """
    return re.sub(r"^([a-z][a-z0-9+.-]+):/+", r"\1://" + ("/" if str(path).startswith("file:") else ""), str(path))


def _file_system(address: str) -> tuple[Any, str]:
    """The file system of an address, and where it lies there."""
    import fsspec

    try:
        return fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise UserError(f"{address}: no file system for this address ({error})") from None


def _read(fs: Any, place: str, where: str, remedy: str) -> bytes:
    try:
        return fs.cat_file(place)
    except FileNotFoundError:
        raise UserError(f"{where}: missing{remedy}") from None
    except Exception as error:  # each file system has its own
        raise UserError(f"{where}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def holds_shards(path: Path | str) -> bool:
    """Whether a folder or address is one of shards: has their index, or is an address at all, which nothing else is."""
    return "://" in address_of(path) or (Path(path) / INDEX).exists()


class ShardedFaces:
    """The faces of shards, or those of one split. Opened for good: the sizes of all shards are compared."""

    def __init__(self, address: str, fs: Any, root: str, meta: dict[str, Any], shards: tuple[Shard, ...]):
        self.address, self.meta, self.shards = address, meta, shards
        self._fs, self._root = fs, root
        self.folder = Path(address)
        schema = meta["schema"]
        self.schema: LandmarkSchema = (
            SCHEMAS[schema]
            if isinstance(schema, str) and schema in SCHEMAS
            else schema_from_dict(schema, f"{address}/{INDEX}: schema")
        )
        self.crop = from_dict(CropConfig, meta["crop"], f"{address}/{INDEX}: crop")
        self.margin = float(meta["margin"])

    @classmethod
    def open(cls, path: Path | str) -> "ShardedFaces":
        """Read the index, and ask for the sizes of the shards."""
        address = address_of(path)
        fs, root = _file_system(address)
        where = f"{address}/{INDEX}"
        remedy = "; `stylealign prepare --shards` and `generate --shards` make shards"
        meta = parse_json(_read(fs, f"{root}/{INDEX}", where, remedy), where)
        if not isinstance(meta, dict) or meta.get("format") != FORMAT:
            found = meta.get("format") if isinstance(meta, dict) else None
            raise UserError(f"{where}: format {found!r}, expected {FORMAT}")
        kinds = {
            "name": str, "schema": (str, dict), "splits": dict, "labelled": dict, "content_hash": str, "crop": dict,
            "margin": (int, float), "how": dict, "shards": list, "label_sums": dict,
        }  # fmt: skip
        wrong = [key for key, kind in kinds.items() if not isinstance(meta.get(key), kind)]  # type: ignore[arg-type]
        if wrong:
            raise UserError(f"{where}: {wrong[0]}: found {str(meta.get(wrong[0]))[:80]!r}, expected another kind")
        shards = tuple(_shard(row, number, where) for number, row in enumerate(meta["shards"]))
        if not shards:
            raise UserError(f"{where}: no shard in it")
        opened = cls(address, fs, root, meta, shards)
        opened._compare_sizes()
        return opened

    def _compare_sizes(self) -> None:
        """Raises UserError for a shard that is missing or cut short, before anything is learnt."""
        try:
            there = {str(file["name"]).rsplit("/", 1)[-1]: file.get("size") for file in self._fs.ls(self._root, True)}
        except Exception as error:
            raise UserError(f"{self.address}: its files cannot be listed ({error})") from None
        for shard in self.shards:
            if shard.name not in there:
                raise UserError(
                    f"{self.address}/{shard.name}: shard missing, expected {counted(shard.faces, 'face')} in it"
                )
            size = there[shard.name]
            if size is not None and size != shard.size:
                raise UserError(
                    f"{self.address}/{shard.name}: shard of {counted(size, 'byte')}, expected {shard.size:,}: "
                    f"{'cut short' if size < shard.size else 'changed'} since it was made"
                )

    @property
    def name(self) -> str:
        return self.meta["name"]

    @property
    def content_hash(self) -> str:
        return self.meta["content_hash"]

    def __len__(self) -> int:
        return sum(shard.faces for shard in self.shards)

    def select(
        self, split: str | None = None, subset: str | None = None, labelled: bool | None = None
    ) -> "ShardedFaces":
        """The faces of a split. Raises UserError where there is none, for a subset, and where not all are labelled."""
        if subset is not None:
            raise UserError(
                f"{self.address}: shards have no subsets (found {subset!r}): prepare shards of those faces alone"
            )
        kept = tuple(shard for shard in self.shards if split is None or shard.split == split)
        if not kept:
            raise UserError(f"{self.address}: no face with split {split!r}; it has splits {self.meta['splits']}")
        view = ShardedFaces(self.address, self._fs, self._root, self.meta, kept)
        if labelled:
            known = sum(self.meta["labelled"].get(name, 0) for name in {shard.split for shard in kept})
            if known != len(view):
                raise UserError(
                    f"{self.address}: {len(view) - known:,} of {counted(len(view), 'face')} without landmarks, "
                    "expected labelled faces alone: prepare shards of those"
                )
        return view

    def label_sums(self) -> LabelSums:
        """Those of all its splits together."""
        splits, points = {shard.split for shard in self.shards}, self.schema.num_points
        found = [self.meta["label_sums"].get(split) for split in splits]
        try:
            sums = [np.array(one["sum"], dtype=np.float64).reshape(points, 2) for one in found if one]
            counts = [np.array(one["count"], dtype=np.float64).reshape(points) for one in found if one]
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{self.address}/{INDEX}: label_sums: expected {points} sums and counts a split") from None
        return LabelSums(sum(sums, np.zeros((points, 2))), sum(counts, np.zeros(points)))

    def read(self, shard: Shard) -> list[Packed]:
        """All faces of a shard, in its order. Raises UserError that names it where it is not as it was made."""
        where = f"{self.address}/{shard.name}"
        content = _read(
            self._fs, f"{self._root}/{shard.name}", where, f", expected {counted(shard.faces, 'face')} in it"
        )
        if len(content) != shard.size:
            raise UserError(f"{where}: {counted(len(content), 'byte')}, expected {shard.size:,}: cut short or changed")
        if digest_of(content) != shard.digest:
            raise UserError(f"{where}: shard has changed since it was made (its digest is another)")
        tar = _library().tariterators
        try:
            files = ({**file, "__url__": where} for file in tar.tar_file_iterator(io.BytesIO(content)))
            found = [
                Packed(f"{where}: {one['__key__']}", one["jpg" if "jpg" in one else "png"], one["json"])
                for one in tar.group_by_keys(files)
            ]
        except Exception as error:
            raise UserError(f"{where}: not a shard that can be read ({str(error)[:200]})") from None
        if len(found) != shard.faces:
            raise UserError(f"{where}: {counted(len(found), 'face')} in the shard, expected {shard.faces:,}")
        return found

    def face(self, packed: Packed) -> tuple[FaceSample, np.ndarray]:
        """A face, its `image` a name for sentences, and its crop_from_source (2, 3)."""
        row = parse_json(packed.row, packed.where)
        if not isinstance(row, dict) or not {"id", "image", "split", "digest", "crop_from_source"} <= row.keys():
            raise UserError(f"{packed.where}: expected a face with id, image, split, digest and crop_from_source")
        try:
            problem = row_problem(row)
            affine = np.array(row.pop("crop_from_source"), dtype=np.float64).reshape(2, 3)
            sample = from_row(row, Path(packed.where))
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{packed.where}: not a face of format {FORMAT} ({error})") from None
        if problem or (sample.landmarks is not None and len(sample.landmarks) != self.schema.num_points):
            problem = problem or f"{counted(len(sample.landmarks), 'landmark')} of {self.schema.num_points}"  # type: ignore[arg-type]
            raise UserError(f"{packed.where}: not a face of format {FORMAT} ({problem})")
        return sample, affine

    def __iter__(self) -> Iterator[FaceSample]:
        return (self.face(packed)[0] for shard in self.shards for packed in self.read(shard))


def _shard(row: Any, number: int, where: str) -> Shard:
    kinds = {"name": str, "split": str, "faces": int, "size": int, "digest": str}
    if not isinstance(row, dict) or any(not isinstance(row.get(key), kind) for key, kind in kinds.items()):
        raise UserError(f"{where}: shards[{number}]: expected name, split, faces, size and digest")
    if not re.fullmatch(r"[^/\\\0]+\.tar", row["name"]) or row["faces"] < 1:
        raise UserError(
            f"{where}: shards[{number}]: found {row['name']!r} with {row['faces']!r} for its faces, expected a tar file"
        )
    return Shard(*(row[key] for key in kinds))


class ShardWriter:
    """Writes shards into a folder, face by face, in memory of a shard a split; `finish` writes the index, without which
    they are none."""

    def __init__(
        self, folder: Path, *, schema: LandmarkSchema, crop: CropConfig, margin: float, faces: int,
        described: dict[str, Any],
    ):  # fmt: skip
        """`faces` a shard; `described`: name, source, licence, how and content_hash of the data set they are of."""
        _library()
        self.folder, self.schema, self.faces = folder, schema, faces
        self._meta = {
            "format": FORMAT, "schema": schema.name if SCHEMAS.get(schema.name) == schema else schema.to_dict(),
            "crop": to_dict(crop), "margin": margin, **described,
        }  # fmt: skip
        self._waiting: dict[str, list[dict[str, Any]]] = {}
        self._shards: list[Shard] = []
        self._labelled: dict[str, int] = {}
        self._sums: dict[str, LabelSums] = {}

    def add(self, sample: FaceSample, image: bytes, suffix: str, affine: np.ndarray) -> None:
        """A face whose landmarks and box are in px of its picture, and how the picture was cut."""
        waiting = self._waiting.setdefault(sample.split, [])
        key = f"{len(waiting):08d}"
        line = to_line(sample, f"{key}{suffix}", digest_of(image), crop_from_source=affine.tolist())
        waiting.append({"__key__": key, suffix[1:]: image, "json": line})
        if sample.landmarks is not None:
            self._count(sample.split, np.asarray(sample.landmarks, dtype=np.float32), sample.labelled_points)
        if len(waiting) == self.faces:
            self._write(sample.split)

    def _count(self, split: str, landmarks: np.ndarray, known: np.ndarray) -> None:
        self._labelled[split] = self._labelled.get(split, 0) + 1
        before = self._sums.get(split, LabelSums(np.zeros(landmarks.shape), np.zeros(len(landmarks))))
        self._sums[split] = LabelSums(before.sum + np.where(known[:, None], landmarks, 0), before.num + known)

    def _write(self, split: str) -> None:
        faces = self._waiting.pop(split)
        number = sum(shard.split == split for shard in self._shards)
        path = inside(self.folder, f"{split}-{number:05d}.tar", f"{self.folder}: split {split!r}")
        if path.parent != self.folder:
            raise UserError(f"{self.folder}: split {split!r}: expected a word that can name a file")
        written = io.BytesIO()
        writer = _library().TarWriter(written, encoder=False, mtime=0)
        for face in faces:
            writer.write(face)
        writer.close()
        content = written.getvalue()
        path.write_bytes(content)
        self._shards.append(Shard(path.name, split, len(faces), len(content), digest_of(content)))

    def finish(self) -> None:
        """Write what waits, and the index. Raises UserError where there is no face."""
        for split in list(self._waiting):
            self._write(split)
        if not self._shards:
            raise UserError(f"{self.folder}: no face to write: the shards would be empty")
        splits: dict[str, int] = {}
        for shard in self._shards:
            splits[shard.split] = splits.get(shard.split, 0) + shard.faces
        meta = {
            **self._meta, "splits": splits, "labelled": self._labelled,
            "label_sums": {k: {"sum": s.sum.tolist(), "count": s.num.tolist()} for k, s in self._sums.items()},
            "shards": [shard._asdict() for shard in self._shards],
        }  # fmt: skip
        write_whole(self.folder / INDEX, json.dumps(meta, indent=1) + "\n")
