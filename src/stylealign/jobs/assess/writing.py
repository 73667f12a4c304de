"""The files of a report: figures as JSON and Markdown, plots, and sheets of pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stylealign.batches.batch import Batch, to_uint8
from stylealign.data.image import write_image
from stylealign.evaluation.draw import contact_sheet, style_sheet
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.assess.measure import Pictures
from stylealign.jobs.assess.plots import drift_plot, matrix_plot
from stylealign.jobs.assess.structure import lengths_of
from stylealign.jobs.assess.tables import to_markdown

PAIRS, WORST = 64, 16  # pairs on the sheets of pairs
SHOWN = 12  # pairs on the sheets of reconstructions and of true answers


def _pairs(
    folder: Path, real: list[np.ndarray], donors: list[np.ndarray], made: list[np.ndarray], errors: np.ndarray,
    seed: int,
) -> None:  # fmt: skip
    """pairs.png: PAIRS pairs by the seed; worst.png: the WORST by the judge, its NME in %."""
    drawn = np.random.default_rng((seed, 65)).permutation(len(made))[:PAIRS]
    for name, rows in (("pairs", drawn), ("worst", np.argsort(-errors, kind="stable")[:WORST])):
        tiles = [image for i in rows for image in (real[i], donors[i], made[i])]
        labels = [text for i in rows for text in ("structure", "style", f"{100 * errors[i]:.1f} %")]
        write_image(folder / f"{name}.png", contact_sheet(tiles, 12, labels))


def _sheets(folder: Path, batch: Batch, pictures: Pictures, truth: np.ndarray | None, others: Batch, seed: int) -> None:
    """Sheets of what was measured."""
    real, made, own = (list(to_uint8(x).numpy()) for x in (batch.image, pictures.swapped, pictures.reconstructed))
    grid = to_uint8(pictures.matrix.flatten(0, 1)).numpy().reshape(*pictures.matrix.shape[:2], *real[0].shape)
    faces = [real[i] for i in pictures.sheet]
    write_image(folder / "swaps.png", style_sheet(faces, faces, list(grid)))
    first = range(min(SHOWN, len(real)))
    rows = [image for i in first for image in (real[i], own[i])]
    write_image(folder / "reconstructions.png", contact_sheet(rows, 8))
    face, donors, varied = pictures.varied
    styles, shown = list(to_uint8(varied).numpy()), to_uint8(others.image[torch.from_numpy(donors)]).numpy()
    write_image(folder / "styles.png", style_sheet([real[face]], list(shown), [styles]))
    _pairs(folder, real, list(to_uint8(pictures.donors).numpy()), made, pictures.errors, seed)
    if truth is not None:
        theirs = to_uint8(pictures.donors).numpy()
        rows = [image for i in first for image in (real[i], theirs[i], made[i], truth[i])]
        labels = [text for _ in first for text in ("structure", "style", "translator", "true")]
        write_image(folder / "truth.png", contact_sheet(rows, 8, labels))


def write_assessment(
    folder: Path,
    found: dict[str, Any],
    pictures: Pictures,
    batch: Batch,
    schema: LandmarkSchema,
    truth: np.ndarray | None,
    others: Batch,
) -> None:
    """Fill the folder; `others` are the donors, perhaps the faces themselves."""
    landmarks = batch.landmarks.double().numpy()
    mean = landmarks.mean(axis=0)
    length = float(lengths_of(landmarks, schema)[0].mean())
    structure = found["structure"]
    drift_plot(
        schema, mean, 100 * np.array(structure["per_point"]), np.array(structure["drift"]), length, folder / "drift.png"
    )
    matrix_plot(100 * np.array(found["matrix"]["gap"]), folder / "matrix.png")
    (folder / "sheets").mkdir()
    _sheets(folder / "sheets", batch, pictures, truth, others, found["seed"])
    (folder / "assessment.json").write_text(
        json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    (folder / "assessment.md").write_text(to_markdown(found), encoding="utf-8")
