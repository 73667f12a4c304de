"""What style arms cost: a detector's training step with each arm over the step without, measured in turn (A B A B ...).

    python benchmarks/styling.py [--arms adain fda] [--steps 40] [--width 64] [--translator RUN]

ResNet-18, of width 16 where `--width` names no other, on drawn faces, 64 px crops with a margin of 1.25, batches of
32, one thread of the CPU. A step loads, gathers donors, restyles, augments and updates, as `train-detector` does. The
share is `prob` 1, every face restyled (which costs most), then the default 0.6; "ms a face" is the arm alone, with its
donors, on the margin crop. Times depend on the machine; the ratios less so.
"""

import argparse
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from stylealign.batches.augment import AugmentConfig, augment
from stylealign.batches.batch import Step
from stylealign.batches.crops import CropCache
from stylealign.batches.source import BatchSource
from stylealign.data.dataset import FaceDataset
from stylealign.detectors.losses import LossConfig, landmark_loss
from stylealign.detectors.mixstyle import MixStyleConfig
from stylealign.detectors.resnet import ResNet18, ResNetConfig
from stylealign.face.crop import CropConfig
from stylealign.jobs.draw_faces import DrawFaces
from stylealign.jobs.draw_faces import main as draw_faces
from stylealign.styling.arms import names_without_run
from stylealign.styling.chain import PRESETS, ArmConfig, StyleConfig
from stylealign.styling.on_the_fly import Styling, open_styling
from stylealign.training.devices import place

SIZE, BATCH, MARGIN = 64, 32, 1.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--arms", nargs="*", default=[*names_without_run(), *(name for name in PRESETS if name != "none")]
    )
    parser.add_argument("--steps", type=int, default=40, help="pairs of steps measured of each arm")
    parser.add_argument("--width", type=int, default=16, help="of the ResNet-18; 64 is the usual one")
    parser.add_argument(
        "--translator", type=Path, help="a finished train-translator run of the schema wflw98 (drawn faces)"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)

    with TemporaryDirectory() as folder:
        draw_faces(DrawFaces(out=Path(folder) / "faces", count=96, size=96))
        faces = FaceDataset.open(Path(folder) / "faces")
        crop = CropConfig(size=SIZE)
        caches = [CropCache(faces, crop, MARGIN, Path(folder))]
        measure(options, faces.schema, crop, caches)


def measure(options: argparse.Namespace, schema, crop: CropConfig, caches: list[CropCache]) -> None:
    """Print a row an arm."""
    source = BatchSource(caches, [1.0], BATCH, seed=0)

    def learner(mixstyle: float):
        torch.manual_seed(0)
        model = place(
            ResNet18(
                schema.num_points, SIZE, ResNetConfig(width=options.width, mixstyle=MixStyleConfig(prob=mixstyle))
            ),
            "cpu",
        )
        return model.train(), torch.optim.AdamW(model.parameters(), lr=1e-4)

    plain, mixing = learner(0.0), learner(1.0)

    def step(number: int, styling: Styling | None, learn=plain) -> float:
        model, optimizer = learn
        start = time.perf_counter()
        batches = Step(heads=(source.batch(number),))
        faces = batches.heads[0]
        if styling:
            (faces,) = styling.restyled(styling.with_donors(batches, 0, number, 0), 0, number, 0)
        batch = augment(faces, SIZE, AugmentConfig(), torch.Generator().manual_seed(number), schema)
        loss = landmark_loss(model(batch.image).landmarks, batch.landmarks, batch.visible, batch.weight, LossConfig())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return time.perf_counter() - start

    def row(name: str, every_face: Styling | None, usual: Styling | None, learn=plain) -> None:
        step(0, every_face, learn), step(0, None)
        times = [(step(n, every_face, learn), step(n, usual, learn), step(n, None)) for n in range(options.steps)]
        arm_alone = 0.0
        if every_face:
            batches = Step(heads=(source.batch(0),))
            spent = []
            for n in range(10):
                start = time.perf_counter()
                every_face.restyled(every_face.with_donors(batches, 0, n, 0), 0, n, 0)
                spent.append(time.perf_counter() - start)
            arm_alone = median(spent) / BATCH
        full, part = (median(t[i] / t[2] for t in times) for i in (0, 1))
        print(
            f"{name:16}{full:10.2f}{part:12.2f}{median(t[2] for t in times) * 1e3:16.0f}{arm_alone * 1e3:14.2f}",
            flush=True,
        )

    def opened(style: StyleConfig) -> Styling | None:
        return open_styling(style, crop, MARGIN, [caches], [schema], None, torch.device("cpu"))

    print(f"{'arm':16}{'ratio p=1':>10}{'ratio p=.6':>12}{'plain step, ms':>16}{'ms a face':>14}")
    for name in options.arms:
        row(name, opened(StyleConfig(preset=name, prob=1.0)), opened(StyleConfig(preset=name)))
    row("mixstyle", None, None, mixing)
    if options.translator:
        arms = (ArmConfig(kind="translator", run=options.translator),)
        row("translator", opened(StyleConfig(arms=arms, prob=1.0)), opened(StyleConfig(arms=arms)))


if __name__ == "__main__":
    main()
