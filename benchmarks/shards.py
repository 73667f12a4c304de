"""Memory and speed of streaming from shards, from ten thousand to a million faces, beside a data set folder.

    python benchmarks/shards.py [--faces 10000 100000 1000000] [--loose 100000] [--batches 300]

Drawn faces of 32 px are cut once into a few shards; more are hard links to those, so that a million faces take no more
room on the disk than the first thousands. Each row is a process of its own: its memory once the data set is open and
after so many batches of 32, the seconds to open it, and CPU seconds a thousand faces. Folders (format 1), up to
`--loose` faces, repeat the lines of one index; their crops are cut and kept in a file first. `--step` adds what an
update of ResNet-18 at 128 px costs beside a batch of 128 px from either.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 32


def drawn(folder: Path, count: int, size: int) -> Any:
    from stylealign.data.dataset import FaceDataset
    from stylealign.jobs.draw_faces import DrawFaces, main

    main(DrawFaces(out=folder, count=count, size=2 * size, val_frac=0.0, test_frac=0.0))
    return FaceDataset.open(folder)


def shards_of(loose: Any, folder: Path, size: int, a_shard: int) -> Path:
    from stylealign.batches.shards import pack
    from stylealign.data.shards import ShardConfig
    from stylealign.face.crop import CropConfig

    folder.mkdir()
    many = loose.take(np.arange(2 * a_shard) % len(loose))
    pack(many, folder, a_shard, ShardConfig(crop=CropConfig(size=size)))
    return folder


def repeated_shards(first: Path, folder: Path, faces: int) -> Path:
    """So many faces in shards that are links to those of `first`."""
    meta = json.loads((first / "shards.json").read_text())
    rows, total = [], 0
    folder.mkdir()
    while total < faces:
        row = dict(meta["shards"][len(rows) % len(meta["shards"])])
        name = f"train-{len(rows):05d}.tar"
        os.link(first / row["name"], folder / name)
        rows.append({**row, "name": name})
        total += row["faces"]
    meta |= {"shards": rows, "splits": {"train": total}, "labelled": {"train": total}}
    (folder / "shards.json").write_text(json.dumps(meta))
    return folder


def repeated_folder(loose: Any, folder: Path, faces: int) -> Path:
    """So many faces whose pictures are those of `loose`."""
    from stylealign.data.dataset_writer import write_meta

    folder.mkdir()
    lines = (loose.folder / "index.jsonl").read_text().splitlines()
    with open(folder / "index.jsonl", "w") as file:
        for number in range(faces):
            row = json.loads(lines[number % len(lines)]) if number < len(lines) else None
            text = lines[number % len(lines)] if row is None else json.dumps(row)
            file.write(text.replace('"id": "', f'"id": "{number}_', 1) + "\n")
    write_meta(
        folder, schema=loose.schema, name="repeated", count=faces, splits={"train": faces}, labelled=faces,
        image_root=str((loose.folder / "images").resolve()), source="", licence="", how={},
    )  # fmt: skip
    return folder


def resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(kind: str, folder: Path, size: int, batches: int, step: bool) -> dict[str, float]:
    """In a process of its own: memory, seconds to open, CPU seconds a thousand faces."""
    import torch

    from stylealign.batches.crops import CropCache
    from stylealign.batches.shards import ShardCache
    from stylealign.batches.source import BatchSource
    from stylealign.data.dataset import FaceDataset
    from stylealign.data.shards import ShardedFaces
    from stylealign.face.crop import CropConfig

    torch.set_num_threads(1)
    crop, before = CropConfig(size=size), resident_mb()
    if kind == "loose":
        CropCache(FaceDataset.open(folder), crop, 1.25)  # cut, where they are not yet
    began = time.process_time()
    cache: Any = (
        ShardCache(ShardedFaces.open(folder).select("train", labelled=True), crop, 1.25)
        if kind == "shards"
        else CropCache(FaceDataset.open(folder).select("train", labelled=True), crop, 1.25)
    )
    opened, memory = time.process_time() - began, resident_mb()
    source = BatchSource([cache], [1.0], BATCH, 0)
    began = time.process_time()
    for number in range(batches):
        source.batch(number)
    seconds = time.process_time() - began
    found = {
        "faces": len(cache), "open_s": opened, "opened_mb": memory - before, "after_mb": resident_mb() - before,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 - before,
        "cpu_s_per_1000": 1000 * seconds / (batches * BATCH),
    }  # fmt: skip
    if step:
        found["step_cpu_s"] = one_update(size)
    return found


def one_update(size: int, steps: int = 3) -> float:
    """CPU seconds of an update of ResNet-18 on a batch, without its data."""
    import torch

    from stylealign.detectors import build_detector
    from stylealign.detectors.resnet import ResNetConfig
    from stylealign.face.schema import SCHEMAS

    model = build_detector("resnet18", (SCHEMAS["ibug68"],), size, ResNetConfig())
    images = torch.rand(BATCH, 3, size, size).contiguous(memory_format=torch.channels_last)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    times = []
    for _ in range(steps):
        began = time.process_time()
        optimizer.zero_grad()
        model(images).landmarks.square().mean().backward()
        optimizer.step()
        times.append(time.process_time() - began)
    return float(np.median(times))


def in_a_process(*words: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, "--measure", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--loose", type=int, default=100_000, help="measure folders of at most so many faces")
    parser.add_argument("--batches", type=int, default=300)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--drawn", type=int, default=100, help="faces that are really drawn")
    parser.add_argument("--step", action="store_true", help="also an update of ResNet-18 at this size")
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        kind, folder, size, batches, step = args.measure
        print(json.dumps(measure(kind, Path(folder), int(size), int(batches), step == "True")))
        return
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        os.environ.setdefault("STYLEALIGN_CACHE", str(root / "cache"))
        loose = drawn(root / "drawn", args.drawn, args.size)
        first = shards_of(loose, root / "first", args.size, 1000)
        print("| kept as | faces | to open, CPU s | memory open, MB | after batches, MB | CPU s a 1,000 faces |")
        print("|---|---:|---:|---:|---:|---:|")
        for faces in args.faces:
            places = {"shards": repeated_shards(first, root / f"shards{faces}", faces)}
            if faces <= args.loose:
                places["loose"] = repeated_folder(loose, root / f"loose{faces}", faces)
            for kind, place in places.items():
                row = in_a_process(kind, str(place), str(args.size), str(args.batches), str(args.step))
                print(
                    f"| {'shards' if kind == 'shards' else 'folder'} | {int(row['faces']):,} | {row['open_s']:.2f} | "
                    f"{row['opened_mb']:.0f} | {row['after_mb']:.0f} | {row['cpu_s_per_1000']:.2f} |"
                    + (f" update {row['step_cpu_s']:.2f} s |" if args.step else ""),
                    flush=True,
                )


if __name__ == "__main__":
    main()
