"""The job `gen-landmark`: mosaics of the original release -> a data set in our format, each face with its right label.

The original counted lines to find a mosaic's labels, which is right only when the checkpoint's step is a multiple of
log_freq (docs/paper_map.md 2.4, 2.8). Here a mosaic's own structure tiles are compared with the structure maps that
the label file renders to, and a mosaic that matches no line is refused. Our own style sheets are cut by the sidecar
that lies beside them. Knows the original's layouts; its recipes are read by train_translator/legacy_recipes.py.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch

from stylealign.batches.structure_maps import structure_maps
from stylealign.config import read_json
from stylealign.data.atomic import making
from stylealign.data.dataset_writer import DatasetWriter
from stylealign.data.formats import schema_of
from stylealign.data.formats.entry import lines_of, numbers_of, stem_of
from stylealign.data.image import read_image
from stylealign.data.rows import from_row
from stylealign.errors import UserError, counted
from stylealign.face import geometry
from stylealign.face.sample import FaceSample, Provenance
from stylealign.face.schema import LandmarkSchema, get_schema, schema_from_dict
from stylealign.jobs.generate.maker import GREY
from stylealign.progress import say, track

_SIDECAR = ("tile", "schema", "translator", "seed", "mode", "structure_ids", "style_ids", "landmarks",
            "crop_from_source", "tiles_xy")  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class GenLandmark:
    """Cut mosaics of translated faces into a data set: the original's by structures shown, ours by their sidecar."""

    gen_dir: Path
    """Folder of mosaics: transfer_0010001.png ... of the original, or sheet_00.png with sheet_00.json of `generate`."""
    out_dir: Path
    """Data set folder to make."""
    label_file: Path | None = None
    """The original's list, `x1 y1 ... xL yL filename` a line (not needed for our own sheets)."""
    checkpoint_iter: int = 10000
    """Step of the checkpoint the original resumed from: its mosaics are numbered from the next step on."""
    batch_size: int = 4
    """Faces a mosaic: n structures x n styles."""
    num_grids: int | None = None
    """Mosaics to cut; default: all that are there."""
    first_label_row: int | None = None
    """Line (counted from 0) of the first mosaic's first structure, if you know it; checked against the picture all the
    same."""
    frame: int = 384
    """Side of the square frame the labels live in."""
    tile: int = 256
    """Side of a mosaic's tiles."""
    sigma: float = 1.0
    """Standard deviation in pixels of the original's structure maps."""
    schema: str | None = None
    """Mark-up: a built-in name or a YAML file; default: by the number of points."""
    image_format: Literal["png", "jpg"] = "png"
    upsample: bool = False
    """Enlarge tiles to `frame` pixels, as the original did; it adds no detail."""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.frame < 1 or self.tile < 8:
            raise ValueError(
                f"batch_size {self.batch_size}, frame {self.frame}, tile {self.tile}: expected at least 1, 1 and 8"
            )


def read_labels(path: Path, schema: LandmarkSchema) -> tuple[np.ndarray, list[str]]:
    """(N, P, 2) landmarks in the frame, and file names, of the original's list. Pictures need not exist."""
    landmarks, names = [], []
    count = 2 * schema.num_points
    for number, text in lines_of(path):
        fields = text.split(maxsplit=count)
        values = numbers_of(fields[:count])
        if len(fields) != count + 1 or isinstance(values, str):
            raise UserError(
                f"{path}:{number}: expected {counted(count, 'number')} ({schema.name}) and a file name, found "
                f"{counted(len(text.split()), 'field')}"
            )
        landmarks.append(values.reshape(-1, 2))
        names.append(fields[count])
    if not landmarks:
        raise UserError(f"{path}: no line in it")
    return np.stack(landmarks), names


def batch_rows(batch: int, num_rows: int, batch_size: int) -> np.ndarray:
    """(n,) label rows of the original loader's batch number `batch`, in the order of the file (docs/paper_map.md 2.3).

    The last batch of an epoch is topped up with the first rows, and the next epoch starts from row 0 again.
    """
    batches = -(-num_rows // batch_size)
    return (batch % batches * batch_size + np.arange(batch_size)) % num_rows


def rendered(landmarks: np.ndarray, config: GenLandmark, schema: LandmarkSchema) -> np.ndarray:
    """(T, T) values 0..1 of the structure map that the original drew for these (P, 2) landmarks of its frame."""
    points = torch.from_numpy(landmarks * (config.tile / config.frame))[None].double()
    return structure_maps(points, config.tile, "points", schema, config.sigma, integer_centres=True)[0, 0].numpy()


def _shown(tile: np.ndarray) -> np.ndarray:
    """A structure tile's values: the original showed 0..1 as 127..255."""
    return (tile.astype(np.float64).mean(axis=-1) / 127.5 - 1).clip(0, 1)


def matching_rows(
    tile: np.ndarray, labels: np.ndarray, config: GenLandmark, schema: LandmarkSchema, rows: np.ndarray | None = None
) -> list[int]:
    """Label rows (of `rows`, else of all) whose structure map is the one this tile shows.

    Peaks first, for all rows at once: every point of the right row is a lit pixel. What passes is rendered and
    compared whole.
    """
    rows = np.arange(len(labels)) if rows is None else rows
    shown = _shown(tile)
    centres = np.trunc(labels[rows] * (config.tile / config.frame))
    inside = np.asarray(((centres >= 0) & (centres < config.tile)).all(axis=-1))  # (rows, P)
    x, y = np.moveaxis(centres.clip(0, config.tile - 1).astype(int), -1, 0)  # (rows, P) each
    lit = np.all((shown[y, x] > 0.95) | ~inside, axis=1) & np.any(inside, axis=1)
    tolerance = 3 / 127.5  # of the picture's 8 bits; another face's map differs by 1
    return [int(r) for r in rows[lit] if np.abs(rendered(labels[r], config, schema) - shown).max() < tolerance]


def cut(mosaic: np.ndarray, path: Path, config: GenLandmark) -> np.ndarray:
    """(n + 1, n + 1, T, T, 3) tiles of a mosaic (docs/paper_map.md 2.4).

    Tile (0, 0) is black, row 0 has structures, column 0 styles.
    """
    n, size = config.batch_size + 1, config.tile
    if mosaic.shape[:2] != (n * size, n * size):
        height, width = mosaic.shape[:2]
        raise UserError(
            f"{path}: {width} x {height} pixels, expected {n * size} x {n * size} "
            f"((--batch_size {n - 1} + 1) tiles of {size})"
        )
    return mosaic.reshape(n, size, n, size, 3).swapaxes(1, 2)


def find_rows(
    tiles: np.ndarray, expected: int | None, labels: np.ndarray, config: GenLandmark, schema: LandmarkSchema
) -> tuple[np.ndarray, int] | None:
    """(label rows of the mosaic's n structures, batch number), or None where some structure is no line's.

    The batch that continues the mosaic before is tried first, which also settles faces that two lines render alike.
    """
    n = config.batch_size
    batches = -(-len(labels) // n)

    def fits(batch: int) -> bool:
        rows = batch_rows(batch, len(labels), n)
        return all(matching_rows(tiles[0, j + 1], labels, config, schema, rows[j : j + 1]) for j in range(n))

    if expected is not None and fits(expected):
        return batch_rows(expected, len(labels), n), expected % batches
    first = matching_rows(tiles[0, 1], labels, config, schema)
    for batch in sorted({r // n for r in first if r % n == 0}):
        if fits(batch):
            return batch_rows(batch, len(labels), n), batch
    return None


def _mosaics(config: GenLandmark) -> list[tuple[int, Path]]:
    """(step, path) of every mosaic after the checkpoint."""
    found = {
        int(m[1]): p
        for p in sorted(config.gen_dir.glob("transfer_*.png"))
        if (m := re.fullmatch(r"transfer_(\d+)", p.stem))
    }
    steps = sorted(s for s in found if s > config.checkpoint_iter)
    if config.num_grids is not None:
        steps = list(range(config.checkpoint_iter + 1, config.checkpoint_iter + 1 + config.num_grids))
        for step in steps:
            if step not in found:
                raise UserError(
                    f"{config.gen_dir / f'transfer_{step:07d}.png'}: no such mosaic; leave out --num_grids to cut "
                    "those that are there"
                )
    if not steps:
        raise UserError(
            f"{config.gen_dir}: found {counted(len(found), 'mosaic')}, none of a step after --checkpoint_iter "
            f"{config.checkpoint_iter}"
            + (
                f" (theirs are {min(found)} to {max(found)})"
                if found
                else " (transfer_0010001.png, or our sheet_00.png with sheet_00.json)"
            )
        )
    return [(step, found[step]) for step in steps]


def _original(
    config: GenLandmark, labels: np.ndarray, names: list[str], schema: LandmarkSchema
) -> Iterator[tuple[FaceSample, np.ndarray]]:
    """Faces and pictures of the original's mosaics."""
    n, batches = config.batch_size, -(-len(labels) // config.batch_size)
    if config.first_label_row is not None and (
        config.first_label_row % n or not 0 <= config.first_label_row < len(labels)
    ):
        raise UserError(
            f"first_label_row: found {config.first_label_row}, expected a multiple of --batch_size {n} below "
            f"{len(labels)}, since batches start there"
        )
    expected = None if config.first_label_row is None else config.first_label_row // n
    side = config.frame if config.upsample else config.tile
    tile_from_frame = geometry.resize_affine(side / config.frame)
    moved = labels if config.upsample else labels @ tile_from_frame[:, :2].T + tile_from_frame[:, 2]
    affine = tuple(tuple(float(v) for v in row) for row in tile_from_frame)
    mosaics = _mosaics(config)
    shift, before = None, mosaics[0][0]
    for step, path in track(mosaics, "cutting mosaics"):
        tiles = cut(read_image(path), path, config)
        if expected is not None:
            expected += max(0, step - before - 1)  # a mosaic that is missing took its batch with it
        found = find_rows(tiles, expected, labels, config, schema)
        if found is None:
            raise UserError(
                f"{path}: its structures are not those of any batch of {counted(n, 'line')} of {config.label_file}: "
                f"another list, another --frame ({config.frame}), --sigma ({config.sigma:g}) or --batch_size"
            )
        rows, batch = found
        if config.first_label_row is not None and (step, path) == mosaics[0] and batch != expected:
            raise UserError(
                f"first_label_row: found {config.first_label_row}, but {path.name} shows the structures of line "
                f"{batch * n} on (counted from 0)"
            )
        i = step - config.checkpoint_iter - 1
        if shift is None:
            shift = (batch - i) % batches
            right = shift == 1 % batches
            say(
                f"{path.name} shows label rows {batch * n} to {batch * n + n - 1}: "
                + (
                    "the original's own count is right here"
                    if right
                    else f"the original would have labelled it with rows {(i + 1) * n} on, which is wrong"
                )
            )
        expected, before = batch + 1, step
        for j, row in enumerate(rows):
            for s, style_row in enumerate(rows):  # a batch gives its own styles: style s is the picture of its row s
                sample = FaceSample(
                    id=f"{step:07d}-{s}-{j}",
                    image=Path(f"{step:07d}-{s}-{j}.{config.image_format}"),
                    landmarks=moved[row],
                    provenance=Provenance(
                        content_id=stem_of(names[row]), style_id=stem_of(names[style_row]),
                        translator=f"original release, step {config.checkpoint_iter}", seed=0,
                        crop_from_source=affine,  # type: ignore[arg-type]
                    ),
                )  # fmt: skip
                picture = tiles[s + 1, j + 1]
                if config.upsample:
                    picture = cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC)
                yield sample, picture


def _ours(sidecars: Mapping[Path, dict[str, Any]]) -> Iterator[tuple[FaceSample, np.ndarray]]:
    """Faces and pictures of our own style sheets, each tile where its sidecar says. A grey one is no face."""
    num_grey = 0
    for path, side in track(sidecars.items(), "cutting style sheets"):
        sheet = read_image(path.with_suffix(".png"))
        size = side["tile"]
        for i, content in enumerate(side["structure_ids"]):
            for j, style in enumerate(side["style_ids"]):
                x, y = side["tiles_xy"][i][j]
                picture = sheet[y : y + size, x : x + size]
                if picture.shape != (size, size, 3):
                    raise UserError(
                        f"{path}: tile ({i}, {j}) at ({x}, {y}) does not lie on {path.with_suffix('.png').name}"
                    )
                if (picture == GREY).all():
                    num_grey += 1
                    continue
                name = f"{path.stem}-{i}-{j}"
                try:
                    row = side["faces"][i][j] if "faces" in side else _earlier_row(side, i, content, style)
                    row = {**row, "id": name, "landmarks": side["landmarks"][i]}
                    face = from_row(row, Path(f"{name}.png"))
                except (LookupError, TypeError, ValueError) as error:
                    raise UserError(f"{path}: tile ({i}, {j}): not a face of format 1 ({error})") from None
                yield face, np.ascontiguousarray(picture)
    if num_grey:
        say(f"{counted(num_grey, 'tile')} of pairs that could not be drawn: left out")


def _earlier_row(side: dict[str, Any], i: int, content: str, style: str | None) -> dict[str, Any]:
    """What the sidecar of an earlier version says of a tile: less of its face than `faces` does now."""
    row: dict[str, Any] = {"split": "train"}
    if missing := side.get("missing", [[]] * (i + 1))[i]:
        placed = np.isin(np.arange(len(side["landmarks"][i])), missing, invert=True)
        row |= {"visible": "".join("01"[there] for there in placed.astype(int)), "point_trust": placed.astype(float)}
    told = {key: side[key] for key in ("translator", "seed", "mode")}
    affine = side["crop_from_source"][i]
    return {**row, "provenance": {"content_id": content, "style_id": style, **told, "crop_from_source": affine}}


def _read_sidecar(path: Path) -> dict[str, Any]:
    try:
        side = read_json(path)
    except UserError as error:
        raise UserError(f"{path}: not a sidecar that can be read ({error})") from None
    if not isinstance(side, dict) or side.get("format") != 1:
        raise UserError(f"{path}: not a style sheet's sidecar of format 1")
    if lacking := [key for key in _SIDECAR if key not in side]:
        raise UserError(f"{path}: a style sheet's sidecar without {', '.join(lacking)}")
    return side


def _schema_of(described: Any, where: Path) -> LandmarkSchema:
    return get_schema(described) if isinstance(described, str) else schema_from_dict(described, f"{where}: schema")


@making("out_dir")
def main(config: GenLandmark) -> None:
    """Cut mosaics into a data set (`stylealign export-dataset` turns it into the original's list, .pts and others)."""
    if not config.gen_dir.is_dir():
        raise UserError(f"{config.gen_dir}: no such folder of mosaics")
    sidecars = {path: _read_sidecar(path) for path in sorted(config.gen_dir.glob("sheet_*.json"))}
    if sidecars:
        where, first = next(iter(sidecars.items()))
        for path, side in sidecars.items():
            if any(side.get(key) != first.get(key) for key in ("schema", "inputs")):
                raise UserError(
                    f"{path}: its faces are of another mark-up, or were made of others, than those of "
                    f"{where.name}: expected the sheets of one data set"
                )
        schema, licence = _schema_of(first["schema"], where), first.get("licence", "")
        faces, how = _ours(sidecars), {"sheets": len(sidecars), "inputs": first.get("inputs", {})}
    else:
        if config.label_file is None:
            raise UserError(
                f"{config.gen_dir}: holds no sheet_*.json of ours, and mosaics of the original need --label_file"
            )
        found = schema_of("list", config.label_file, config.schema)
        assert found is not None
        schema = found
        labels, names = read_labels(config.label_file, schema)
        faces, licence = _original(config, labels, names, schema), ""
        how = {
            "checkpoint_iter": config.checkpoint_iter,
            "batch_size": config.batch_size,
            "frame": config.frame,
            "tile": config.tile,
        }
    source = f"cut from mosaics in {config.gen_dir.name}"
    with DatasetWriter(
        config.out_dir,
        schema=schema,
        images="own",
        source=source,
        licence=licence,
        how={"verb": "gen-landmark", **how},
    ) as writer:
        count = 0
        for sample, picture in faces:
            written = writer.add_image(sample.image.name, picture)
            writer.add(dataclasses.replace(sample, image=written))
            count += 1
    say(f"finished: {config.out_dir}: {counted(count, 'face')}")
