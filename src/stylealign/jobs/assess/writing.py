"""The files of a report: figures as JSON and Markdown, plots, and sheets of pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from stylealign.batches.batch import Batch, to_uint8
from stylealign.data.image import write_image
from stylealign.evaluation.draw import contact_sheet, style_sheet
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.assess.measure import Pictures
from stylealign.jobs.assess.plots import drift_plot, matrix_plot
from stylealign.jobs.assess.structure import lengths_of
from stylealign.jobs.assess.tables import to_markdown

SHOWN = 12  # pairs on the sheets of reconstructions and of true answers


def _sheets(folder: Path, batch: Batch, pictures: Pictures, truth: np.ndarray | None) -> None:
    """Sheets of what was measured."""
    real, made, own = (list(to_uint8(x).numpy()) for x in (batch.image, pictures.swapped, pictures.reconstructed))
    grid = to_uint8(pictures.matrix.flatten(0, 1)).numpy().reshape(*pictures.matrix.shape[:2], *real[0].shape)
    faces = [real[i] for i in pictures.sheet]
    write_image(folder / "swaps.png", style_sheet(faces, faces, list(grid)))
    first = range(min(SHOWN, len(real)))
    rows = [image for i in first for image in (real[i], own[i])]
    write_image(folder / "reconstructions.png", contact_sheet(rows, 8))
    face, donors, varied = pictures.varied
    styles = list(to_uint8(varied).numpy())
    write_image(folder / "styles.png", style_sheet([real[face]], [real[i] for i in donors], [styles]))
    if truth is not None:
        rows = [image for i in first for image in (real[i], real[pictures.partners[i]], made[i], truth[i])]
        labels = [text for _ in first for text in ("structure", "style", "translator", "true")]
        write_image(folder / "truth.png", contact_sheet(rows, 8, labels))


def write_assessment(
    folder: Path,
    found: dict[str, Any],
    pictures: Pictures,
    batch: Batch,
    schema: LandmarkSchema,
    truth: np.ndarray | None,
) -> None:
    """Fill the folder."""
    landmarks = batch.landmarks.double().numpy()
    mean = landmarks.mean(axis=0)
    length = float(lengths_of(landmarks, schema)[0].mean())
    structure = found["structure"]
    drift_plot(
        schema, mean, 100 * np.array(structure["per_point"]), np.array(structure["drift"]), length, folder / "drift.png"
    )
    matrix_plot(100 * np.array(found["matrix"]["gap"]), folder / "matrix.png")
    (folder / "sheets").mkdir()
    _sheets(folder / "sheets", batch, pictures, truth)
    (folder / "assessment.json").write_text(
        json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    (folder / "assessment.md").write_text(to_markdown(found), encoding="utf-8")
