"""The faces a training is measured on: their NME, what they say of a model's trust in its points, a picture of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from stylealign.batches.crops import CropCache
from stylealign.data.dataset import FaceDataset
from stylealign.errors import UserError, counted
from stylealign.evaluation import metrics
from stylealign.evaluation.draw import contact_sheet, draw_landmarks
from stylealign.evaluation.scoring import measured_by
from stylealign.face.crop import CropConfig
from stylealign.predicting.on_datasets import answer_crops, calibrated_on, lean_on
from stylealign.progress import say

PREVIEW_FACES = 12
CORNER = 2.0  # px of the crop: no detector that has learnt a little answers all landmarks of all faces in there


class Validation:
    """The validation faces, cut once. Gives a model's NME on them, and a sheet of them to look at.

    `faces` are those that the denominator can be measured on; the others are left out, and said.
    """

    def __init__(self, faces: FaceDataset, crop: CropConfig):
        labelled, schema = faces.labelled_array(), faces.schema
        truth = faces.landmarks_array().astype(np.float64)
        given = [s.box_xyxy for s in faces if s.box_xyxy is not None]
        boxes = np.stack(given) if len(given) == len(faces) else None
        known = np.where(labelled[..., None], truth, np.nan)  # no distance to a landmark without a label
        usual = metrics.usual_denominator(schema, boxed=boxes is not None)
        self.denominator, rows = measured_by(known, schema, usual, fixed=False)
        self.faces, self.schema, self.truth = faces.take(rows), schema, truth[rows]
        self.cache = CropCache(self.faces, crop)
        self.mask = None if labelled[rows].all() else labelled[rows]
        self.denominators = metrics.denominators(
            known[rows], None if boxes is None else boxes[rows], schema, self.denominator, self.faces.ids()
        )

    def nme(self, model: nn.Module) -> float:
        """Mean NME of a model on them, a fraction."""
        return self.nme_of(answer_crops(model, self.cache).landmarks)

    def nme_of(self, found: np.ndarray) -> float:
        """Mean NME of (N, P, 2) landmarks found, source px, a fraction."""
        return float(metrics.nme_per_face(found, self.truth, self.denominators, self.mask).mean())

    def entry(self, nme: float, described: Mapping[str, Any]) -> dict[str, Any]:
        """What a card says under `val` of that NME on them; `described`: the data set (describe_data)."""
        divided_by = metrics.describe_denominator(self.denominator, self.schema)
        return {"nme": nme, "denominator": self.denominator, "divided_by": divided_by, **described}

    def trust(self, model: nn.Module) -> dict[str, Any] | None:
        """How a model's raw answers of how sure it is are to be taken, for its card; None where it has none.

        None and a warning where they cannot be used (a model that answers no numbers, faces without labels).
        """
        try:
            found = calibrated_on(model, self.cache)
        except UserError as error:
            say(f"warning: no trust in the card: {error}")
            return None
        return None if found is None else {**found[0].to_dict(), **found[1]}

    def lean(self, model: nn.Module) -> float:
        """By how much a model's answers lean to the right, for its card, as a share of the crop's side; 0 where the
        mark-up has no mirror twins."""
        return lean_on(model, self.cache) if self.schema.flip_pairs else 0.0

    @torch.no_grad()
    def _first(self, model: nn.Module) -> tuple[np.ndarray, np.ndarray]:
        """The positions (n,) of the first PREVIEW_FACES faces, and a model's landmarks (n, P, 2) on them, crop px."""
        shown = np.arange(min(PREVIEW_FACES, len(self.cache)))
        batch = self.cache.batch(shown)
        was_training, device = model.training, next(model.parameters()).device
        predicted = model.eval()(batch.image.to(device)).landmarks.float().cpu().numpy()
        model.train(was_training)
        return shown, predicted

    def warn_of_units(self, model: nn.Module) -> None:
        """Say so where a model that has learnt answers every landmark in the crop's first corner, as one does whose
        answers are shares of the crop (0 to 1, or -1 to 1) and not its pixels."""
        _, found = self._first(model)
        low, high = found.min(axis=(0, 1)), found.max(axis=(0, 1))
        if max(-low.min(), high.max()) < CORNER:
            say(
                f"warning: on {counted(len(found), 'validation face')} this detector answers every landmark between "
                f"({low[0]:.2f}, {low[1]:.2f}) and ({high[0]:.2f}, {high[1]:.2f}): expected pixels of a crop of "
                f"{self.cache.size} px. A network that answers shares of the crop has to multiply them by its side"
            )

    def sheet(self, model: nn.Module) -> np.ndarray:
        """(H, W, 3) uint8: the first PREVIEW_FACES faces with predicted and true landmarks."""
        shown, predicted = self._first(model)
        tiles = []
        for i in shown:
            # Enlarged, so that dots do not hide a small face; pixel areas correspond.
            k = max(1, 192 // self.cache.size)
            image = self.cache.images[i].repeat(k, axis=0).repeat(k, axis=1)
            found, truth = ((points + 0.5) * k - 0.5 for points in (predicted[i], self.cache.landmarks[i]))
            tiles.append(draw_landmarks(image, found, self.schema, truth=truth))
        return contact_sheet(tiles, columns=4)
