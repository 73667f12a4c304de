"""A translator that paints instead of learning, faces of one colour each for it, and a small `generate` of them.

Beside it an untrained network in a run folder, for tests of what opens runs.
"""

from pathlib import Path

import numpy as np
import torch

from stylealign.batches.structure_maps import StructureConfig, structure_maps
from stylealign.config import to_dict
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.image import write_image
from stylealign.face.crop import CropConfig
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema, get_schema
from stylealign.jobs.generate.job import Generate
from stylealign.training.weights import save_model
from stylealign.translators.vunet.config import PRESETS
from stylealign.translators.vunet.network import VUNet, initialise

SIZE, FIVE = 32, get_schema("five")


class PaintedTranslator:
    """Paints the structure map in the style's mean colour: what a perfect translator would keep and change."""

    schema, crop, card, hash = FIVE, CropConfig(size=SIZE, scale=2.0), {}, "f" * 64
    needs_content, style_needs_landmarks, pairs_a_pass = False, False, 32

    def __init__(self, stop_after: int | None = None):
        self.decodes, self.structures, self.styles, self.stop_after = 0, 0, 0, stop_after

    def encode_style(self, image, landmarks=None):
        self.styles += len(image)
        return [image.mean((2, 3))[..., None, None], image.std((2, 3))[..., None, None].expand(-1, -1, 2, 2)]

    def encode_structure(self, landmarks):
        self.structures += len(landmarks)
        return [structure_maps(landmarks, SIZE, "points", FIVE)]

    def decode(self, features, style):
        self.decodes += len(style[0])
        if self.stop_after is not None and self.decodes > self.stop_after:
            raise KeyboardInterrupt
        return (style[0] * (1 - features[0])).expand(-1, -1, SIZE, SIZE) + features[0]

    def sample_prior(self, features, generator):
        return self.decode(features, [torch.rand((len(features[0]), 3, 1, 1), generator=generator)])


def make_faces(
    folder: Path, count: int, seed: int = 0, labelled: bool = True, split: str = "train", prefix: str = "a/face"
) -> FaceDataset:
    """Pictures of one colour each, with five landmarks."""
    rng = np.random.default_rng((seed, 9))
    (folder.parent / f"{folder.name}_images").mkdir(parents=True)
    samples = []
    for i in range(count):
        path = folder.parent / f"{folder.name}_images" / f"{i}.png"
        write_image(path, np.full((40, 48, 3), rng.integers(0, 256, 3), np.uint8))
        points = np.array([[14, 14], [30, 14], [22, 22], [16, 30], [28, 30]]) + rng.normal(0, 1.5, (5, 2))
        samples.append(
            FaceSample(
                id=f"{prefix}{i}", image=path, landmarks=points if labelled else None, split=split,
                visible=[True, False, True, True, True] if labelled else None, box_xyxy=[8, 8, 36, 36],
                attributes={"pose": i % 2 == 0, "illumination": True, "tenth": i < 6},
            )
        )  # fmt: skip
    return write_dataset(folder, samples, schema=FIVE, name=folder.name)


def job(faces: FaceDataset, out: Path, **more) -> Generate:
    """A small `generate` by a translator that the test brings along."""
    values = {
        "data": faces.folder, "translator": Path("none"), "out": out, "styles_per_face": 3, "faces_per_unit": 2,
        "sheets": 1, "sheet_size": 3, **more,
    }  # fmt: skip
    return Generate(**values)


def untrained_translator(run: Path, schema: LandmarkSchema = FIVE) -> Path:
    """A run folder of an untrained tiny VUNet: what matters is that it is the real code."""
    run.mkdir()
    torch.manual_seed(0)
    model = VUNet(PRESETS["tiny32"])
    initialise(model, torch.rand(8, 3, 32, 32), torch.rand(8, 3, 32, 32), torch.Generator().manual_seed(0))
    crop = CropConfig(size=32, scale=2.0)
    card = {
        "kind": "translator", "model": "vunet", "schema": schema.to_dict(), "crop": to_dict(crop), "data": [],
        "config": {"vunet": to_dict(PRESETS["tiny32"]), "structure": to_dict(StructureConfig())},
    }  # fmt: skip
    save_model(run, model.state_dict(), card)
    return run
