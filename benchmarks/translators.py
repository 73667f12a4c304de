"""Images a second of every translator in `generate`, beside its bare network, and peak memory.

    python benchmarks/translators.py [--sizes 64 128 256] [--models vunet spade bilateral] [--out table.md]

Each line is one fresh process: drawn faces, a translator of two updates (speed does not depend on what it has learnt)
with the networks' default widths, `generate` of 24 faces x 4 styles with JPEGs, and the bare network: encode every face
and style once, decode every pair.
Medians of three. Memory is the peak of the process above what it held before the translator was opened.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

FACES, STYLES, BATCH = 24, 4, 8


def measure(model: str, size: int, scratch: Path) -> dict[str, float]:
    """One line of the table, in this process."""
    import numpy as np
    import torch

    from stylealign.batches.crops import CropCache
    from stylealign.data.dataset import FaceDataset
    from stylealign.face.crop import CropConfig
    from stylealign.jobs import draw_faces
    from stylealign.jobs.generate.job import Generate, generate
    from stylealign.jobs.train_translator.job import TrainTranslator
    from stylealign.jobs.train_translator.job import main as train_translator
    from stylealign.jobs.train_translator.small_detectors import AuxiliaryConfig
    from stylealign.training.loop import LoopConfig
    from stylealign.translators.loaded import load_translator
    from stylealign.translators.swapping import encode_contents
    from stylealign.translators.warp.fit import WarpConfig

    # Of a translator that bends donors: drawn faces are few, and what the pictures look like takes no time.
    any_that_does_not_fold = WarpConfig(stretch=100.0, stretched=1.0, apart=10.0)
    faces, run = scratch / "faces", scratch / "run"
    draw_faces.main(draw_faces.DrawFaces(out=faces, count=FACES, size=size, seed=0))
    training = TrainTranslator(
        data=faces, run=run, model=model, crop=CropConfig(size=size, scale=1.6), auxiliary=AuxiliaryConfig(steps=2),
        loop=LoopConfig(steps=2, batch_size=2, preview_every=0),
    )  # fmt: skip
    train_translator(training)

    def peak() -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024

    Path("/proc/self/clear_refs").write_text("5")  # the peak so far was the training's
    before = peak()
    translator = load_translator(run)
    data = FaceDataset.open(faces).select("train")
    cache = CropCache(data, translator.crop)
    times: list[tuple[float, float]] = []
    for number in range(4):
        start = time.perf_counter()
        config = Generate(
            data=faces, translator=run, out=scratch / f"out{number}", styles_per_face=STYLES, sheets=0,
            accept_gap=True, warp=any_that_does_not_fold, skip_unfit=True,
        )  # fmt: skip
        generate(config, translator)
        middle = time.perf_counter()
        if number == 0:
            memory = peak() - before
        with torch.no_grad():
            batches = [cache.batch(np.arange(s, min(s + BATCH, len(cache)))) for s in range(0, len(cache), BATCH)]
            for batch in batches:
                style = translator.encode_style(batch.image, batch.landmarks)
                content = encode_contents(translator, batch.landmarks, batch.image)
                for turn in range(STYLES):
                    translator.decode(content, [s.roll(turn, 0) for s in style])
        times.append((middle - start, time.perf_counter() - middle))
    made, drawn = len(FaceDataset.open(scratch / "out0")), len(data) * STYLES
    whole, bare = (median(t[i] / count for t in times[1:]) for i, count in ((0, made), (1, drawn)))
    parameters = sum(p.numel() for p in translator.model.parameters()) / 1e6  # type: ignore[attr-defined]
    return {
        "parameters": parameters, "whole": 1 / whole, "bare": 1 / bare, "ratio": whole / bare, "mb": memory,
    }  # fmt: skip


def main() -> None:
    from stylealign.translators import trained_names

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--models", nargs="+", help="not given: all")
    parser.add_argument("--out", type=Path, help="also write the table to this Markdown file")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        with tempfile.TemporaryDirectory() as scratch:
            os.environ["STYLEALIGN_CACHE"] = str(Path(scratch) / "cache")
            found = measure(options.one[0], int(options.one[1]), Path(scratch))
        print(json.dumps(found))
        return
    header = "translator", "px", "parameters M", "`generate`, images/s", "bare network, images/s"
    header = (*header, "time of `generate` over bare", "peak MB")
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    print("\n".join(lines))
    for model in options.models or trained_names():
        for size in options.sizes:
            code = [sys.executable, __file__, "--one", model, str(size)]
            done = subprocess.run(code, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr)
            f = json.loads(done.stdout.strip().splitlines()[-1])
            speeds = f"{f['whole']:.0f} | {f['bare']:.0f} | {f['ratio']:.2f}"
            lines.append(f"| `{model}` | {size} | {f['parameters']:.2f} | {speeds} | {f['mb']:.0f} |")
            print(lines[-1], flush=True)
    lines += ["", f"{platform.machine()}, {os.cpu_count()} cores, {FACES} faces x {STYLES} styles, batches of {BATCH}."]
    print("\n".join(lines[-2:]))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
