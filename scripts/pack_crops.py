"""Cut the faces of data sets out of their pictures, small enough to take them where the pictures cannot go.

    python scripts/pack_crops.py 300w=runs/300w/data ytfaces=runs/ytfaces/data --out build/accelerator

Each data set becomes OUT/NAME, of the same splits: JPEG crops with a margin for what training does to them,
landmarks moved along. Test splits stay behind, so that nothing can be chosen on them. Faces without landmarks
come as the whole picture, made smaller.
"""

import argparse
import dataclasses
import shutil
from pathlib import Path

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import DatasetWriter
from stylealign.data.image import image_size, read_image, warp
from stylealign.errors import UserError
from stylealign.face.geometry import apply, crop_affine, landmark_box
from stylealign.face.sample import FaceSample
from stylealign.progress import say, track


def cut(sample: FaceSample, size: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """(size, size, 3) uint8 crop of `scale` times the landmarks' box, never enlarged, and the affine it came by."""
    if sample.landmarks is None:
        width, height = image_size(sample.image)
        box, scale = np.array([0.0, 0.0, width - 1.0, height - 1.0]), 1.0
    else:
        box = landmark_box(sample.landmarks)
    side = min(size, int(np.ceil(scale * max(box[2:] - box[:2]))))
    affine = crop_affine(box, scale, max(side, 16))
    return warp(read_image(sample.image), affine, max(side, 16)), affine


def pack(data: Path, out: Path, splits: list[str], size: int, scale: float, quality: int) -> None:
    """Write one data set's crops to `out`, in place of those that were cut otherwise; what is there already stays."""
    faces = FaceDataset.open(data)
    cuts = {"of": faces.content_hash, "splits": splits, "size": size, "scale": scale, "quality": quality}
    if out.exists():
        before = (FaceDataset.open(out).meta.get("how") or {}).get("cut")
        if before == cuts:
            return
        if before is None:
            raise UserError(f"{out}: exists and does not say how it was cut; choose another NAME, or remove it")
        shutil.rmtree(out)
    with DatasetWriter(
        out,
        schema=faces.schema,
        name=out.name,
        images="own",
        source=f"{faces.name}, cut to {scale} times the landmarks' box and at most {size} px",
        licence=faces.meta.get("licence", ""),
        how={"cut": cuts},
    ) as writer:
        for i in track(range(len(faces)), f"cutting {faces.name}", len(faces)):
            sample = faces[i]
            if sample.split not in splits:
                continue
            crop, affine = cut(sample, size, scale)
            box = None if sample.box_xyxy is None else apply(affine, sample.box_xyxy.reshape(2, 2)).reshape(4)
            moved = None if sample.landmarks is None else apply(affine, sample.landmarks)
            path = writer.add_image(f"{i:06d}.jpg", crop, quality)
            writer.add(dataclasses.replace(sample, image=path, landmarks=moved, box_xyxy=box))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="NAME=FOLDER", help="data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder that gets a folder a data set")
    parser.add_argument("--splits", nargs="+", default=["train", "val"], help="which are taken")
    parser.add_argument("--size", type=int, default=160, help="longest side of a crop, px")
    parser.add_argument("--scale", type=float, default=1.8, help="side of a crop over the landmarks' box")
    parser.add_argument("--quality", type=int, default=80, help="of the JPEG files")
    parser.add_argument("--most", type=float, default=60, help="megabytes that all may take")
    given = parser.parse_args()
    total = 0
    for data in given.data:
        name, equals, folder = data.partition("=")
        if not (name and equals):
            raise SystemExit(f"{data}: expected NAME=FOLDER")
        pack(Path(folder), given.out / name, given.splits, given.size, given.scale, given.quality)
        total += sum(path.stat().st_size for path in (given.out / name).rglob("*") if path.is_file())
        say(f"{given.out / name}: {total / 1e6:.1f} MB so far")
    if total > given.most * 1e6:
        raise SystemExit(f"{given.out}: {total / 1e6:.1f} MB, expected at most {given.most:g}: a smaller --size")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
