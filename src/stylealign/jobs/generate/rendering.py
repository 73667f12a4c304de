"""The work of `generate`, in units of a few faces whose results depend on nothing but (configuration, unit).

A unit's pictures are drawn by a maker, written, and then, as a whole or not at all, its lines of the index. Sheets to
look at are written with a sidecar that says what every tile is. Knows nothing of when and by whom a unit is done:
that is job.py's.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stylealign.data.atomic import write_whole
from stylealign.data.image import encode_image
from stylealign.data.rows import digest_of, to_line, to_row
from stylealign.evaluation.draw import style_sheet
from stylealign.face.orientation import map_box
from stylealign.face.sample import FaceSample, Provenance
from stylealign.face.schema import SCHEMAS
from stylealign.jobs.generate.maker import Maker, NothingToPrepare, Plan
from stylealign.jobs.generate.pairing import inherited_attributes
from stylealign.progress import track
from stylealign.translators.swapping import crops_of, pictures, structures_of

_SHEETS = 3  # stream of random numbers


@dataclass(frozen=True, kw_only=True)
class Work:
    """A plan, cut into units, and who draws it."""

    plan: Plan
    maker: Maker
    inputs: dict[str, Any] = field(default_factory=dict)
    """What dataset.yaml says of the data sets and the translator at work"""

    @property
    def num_units(self) -> int:
        return -(-len(self.plan.contents) // self.plan.faces_per_unit)

    def faces_of(self, unit: int) -> range:
        """The positions of a unit's faces."""
        start = unit * self.plan.faces_per_unit
        return range(start, min(start + self.plan.faces_per_unit, len(self.plan.contents)))

    def unit_file(self, unit: int) -> Path:
        """Where a finished unit's lines of the index are."""
        return self.plan.folder / "units" / f"{unit:06d}.jsonl"

    def is_done(self, unit: int) -> bool:
        path, num_lines = self.unit_file(unit), len(self.faces_of(unit)) * self.plan.styles_per_face
        return path.exists() and path.read_bytes().count(b"\n") == num_lines

    def sheet_file(self, number: int) -> Path:
        return self.plan.folder / "sheets" / f"sheet_{number:02d}.png"

    def render(self, unit: int) -> None:
        """Draw and write one unit: its pictures, then, as a whole or not at all, its lines of the index."""
        plan, faces = self.plan, self.faces_of(unit)
        self._refuse_changed_images(faces)
        samples = [plan.contents[i] for i in faces]
        structures, affines = structures_of(samples, self.maker.crop)
        described = [self._described(*each) for each in zip(samples, structures, affines, strict=True)]
        folder = plan.folder / "images" / f"{unit:06d}"
        folder.mkdir(exist_ok=True)
        lines: list[bytes] = []
        for drawn in self.maker.draw(plan, faces, structures):
            for number, picture in enumerate(pictures(drawn.images)):
                row, style = divmod(len(lines), plan.styles_per_face)
                sample, face, own = samples[row], faces[row], described[row]
                slug = re.sub(r"[^A-Za-z0-9.-]+", "_", sample.id)[-60:]
                name = f"{face:08d}_{slug}@{style}.{plan.image_format}"
                content = encode_image(picture, f".{plan.image_format}", plan.quality)
                with open(f"{folder}/{name}", "wb") as file:
                    file.write(content)
                told = (None if array is None else array[number] for array in (drawn.visible, drawn.lost))
                style_id = plan.style_id(face, style) if drawn.styled else None
                made = _made(own, f"{sample.id}@{style}", style_id, drawn.made_by[number], *told)
                lines.append(to_line(made, f"{folder.name}/{name}", digest_of(content)) + b"\n")
        assert len(lines) == plan.styles_per_face * len(faces)
        write_whole(self.unit_file(unit), b"".join(lines))

    def _refuse_changed_images(self, faces: Iterable[int]) -> None:
        """Raises UserError where a picture was replaced since its data set was made, perhaps since this work was begun:
        the index of what is made would not tell."""
        plan = self.plan
        plan.contents.refuse_changed_images(faces)
        if plan.donors is not None and isinstance(self.maker, NothingToPrepare):  # else they were read before
            plan.donors.refuse_changed_images(plan.donors_of(faces))

    def _described(self, sample: FaceSample, structure: np.ndarray, affine: np.ndarray) -> FaceSample:
        """What all pictures of a face have in common: its landmarks (P, 2) and box in px of the crop, and the like."""
        box = sample.box_xyxy
        return FaceSample(
            id=sample.id,
            image=sample.image,
            landmarks=structure,
            box_xyxy=None if box is None else map_box(affine, box),
            visible=sample.visible,
            trust=sample.trust,
            point_trust=sample.point_trust,
            attributes=inherited_attributes(sample),
            split="train",
            provenance=Provenance(
                content_id=sample.origin,
                style_id=None,
                translator="",
                seed=self.plan.seed,
                mode=self.maker.mode,
                crop_from_source=sample.from_origin(affine),
            ),
        )

    def write_sheet(self, number: int) -> None:
        """Write sheet_00.png, and sheet_00.json which says what every tile is."""
        plan, crop = self.plan, self.maker.crop
        rng = np.random.default_rng((plan.seed, number, _SHEETS))
        chosen = rng.choice(len(plan.contents), min(plan.sheet_size, len(plan.contents)), replace=False)
        self._refuse_changed_images(chosen)
        samples = [plan.contents[int(i)] for i in chosen]
        structures, affines = structures_of(samples, crop)
        real, _ = crops_of(samples, crop, self.maker.schema)
        header, ids, images, told = self.maker.tiles(plan, number, chosen, structures, rng)
        described = [self._described(*each) for each in zip(samples, structures, affines, strict=True)]
        made = iter(told or [(None, None)] * len(images))
        faces = [
            [_made(own, f"{own.id}@{j}", style, self.maker.hash, *next(made)) for j, style in enumerate(ids)]
            for own in described
        ]
        tiles = pictures(images).reshape(len(samples), len(header), crop.size, crop.size, 3)
        sheet = style_sheet(list(real), list(header), [list(row) for row in tiles])
        places = [[find_tile(sheet, tiles, i, j) for j in range(len(header))] for i in range(len(samples))]
        schema = plan.contents.schema
        sidecar = {
            "format": 1, "tile": crop.size,
            "schema": schema.name if SCHEMAS.get(schema.name) == schema else schema.to_dict(),
            "translator": self.maker.hash, "seed": plan.seed, "mode": self.maker.mode,
            "structure_ids": [s.id for s in samples], "style_ids": ids,
            "landmarks": [[[float(str(v)) for v in point] for point in face] for face in structures],
            "missing": [np.flatnonzero(~sample.labelled_points).tolist() for sample in samples],
            "crop_from_source": affines.tolist(), "tiles_xy": places,
            "faces": [[_without_landmarks(face) for face in row] for row in faces],
            "inputs": self.inputs, "licence": plan.contents.meta.get("licence", ""),
        }  # fmt: skip
        path = self.sheet_file(number)
        write_whole(path.with_suffix(".json"), (json.dumps(sidecar, ensure_ascii=False) + "\n").encode())
        write_whole(path, encode_image(sheet, path.suffix))


def _made(
    face: FaceSample, name: str, style_id: str | None, made_by: str, visible: np.ndarray | None = None,
    lost: np.ndarray | None = None,
) -> FaceSample:  # fmt: skip
    """A face in one of its pictures; `visible` and `lost` (P,) as of `Drawn`.

    A landmark that nobody placed stays so, whatever lies there. One that the donor lacks is no label; the face is cut
    round it all the same, so it does not count as hidden.
    """
    assert face.provenance is not None
    missing, trust = face.missing_points, face.point_trust
    if visible is not None:
        visible = (visible if lost is None else visible | lost) & ~missing
    if lost is not None and lost.any():
        trust = np.where(lost, 0, np.ones(len(lost)) if trust is None else trust)
    return dataclasses.replace(
        face, id=name, visible=face.visible if visible is None else visible, point_trust=trust,
        provenance=dataclasses.replace(face.provenance, style_id=style_id, translator=made_by),
    )  # fmt: skip


def _without_landmarks(face: FaceSample) -> dict[str, Any]:
    """The values of a tile's face as its line of an index would have them, but for its landmarks and its picture."""
    row = to_row(face, "", "")
    return {key: value for key, value in row.items() if key not in ("image", "digest", "landmarks")}


def find_tile(sheet: np.ndarray, tiles: np.ndarray, i: int, j: int) -> list[int]:
    """(x, y) of the upper left pixel of tile (i, j) on a style sheet, checked against the tile itself."""
    n, _, size = tiles.shape[:3]
    # n + 2 gaps between and round n + 1 tiles, and two more below the header
    gap = (sheet.shape[0] - (n + 1) * size) // (n + 4)
    x, y = gap + (j + 1) * (size + gap) + 2 * gap, gap + (i + 1) * (size + gap) + 2 * gap
    assert np.array_equal(sheet[y : y + size, x : x + size], tiles[i, j]), "the layout of style sheets has changed"
    return [x, y]


def run_all(task: Callable[[int], None], todo: list[int], workers: int, what: str) -> None:
    """Do a task for every number, `workers` at a time, each on one thread of its own."""
    pool = ThreadPoolExecutor(workers, initializer=lambda: torch.set_num_threads(1))
    try:
        for _ in track(pool.map(task, todo), what, len(todo)):
            pass
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
