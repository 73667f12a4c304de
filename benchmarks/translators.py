"""Images a second of every translator in `generate`, beside its bare network; the n x n pass; peak memory.

    python benchmarks/translators.py [--sizes 64 128 256] [--models vunet spade bilateral] [--faces 24] [--out table.md]

Each line is one fresh process: drawn faces, a translator of two updates (speed does not depend on what it has learnt)
with the networks' default widths, `generate` of N faces x 4 styles with JPEGs, and the bare network: encode every face
and style once, decode every pair. The n x n pass is every structure of 8 faces in every style of them, over the 64 bare
decodes. Each is measured in turn with its bare work, medians of three, by the clock and in CPU seconds: a busy machine
changes the first far more. Memory is the peak of the process above what it held before the translator was opened.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

STYLES, BATCH = 4, 8
TURNS = 3


def measure(model: str, size: int, num_faces: int, scratch: Path) -> dict[str, float]:
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
    from stylealign.translators.swapping import encode_contents, swap_matrix
    from stylealign.translators.warp.fit import WarpConfig

    # Of a translator that bends donors: drawn faces are few, and what the pictures look like takes no time.
    any_that_does_not_fold = WarpConfig(stretch=100.0, stretched=1.0, apart=10.0, variety=0.0)
    faces, run = scratch / "faces", scratch / "run"
    draw_faces.main(draw_faces.DrawFaces(out=faces, count=num_faces, size=size, seed=0))
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
    number = iter(range(1000))

    def whole() -> None:
        out = scratch / f"out{next(number)}"
        generate(
            Generate(
                data=faces, translator=run, out=out, styles_per_face=STYLES, sheets=0, accept_gap=True,
                warp=any_that_does_not_fold, skip_unfit=True,
            ),
            translator,
        )  # fmt: skip

    whole()
    memory = peak() - before
    batches = [cache.batch(np.arange(s, min(s + BATCH, len(cache)))) for s in range(0, len(cache), BATCH)]

    @torch.no_grad()
    def bare() -> None:
        for batch in batches:
            style = translator.encode_style(batch.image, batch.landmarks)
            content = encode_contents(translator, batch.landmarks, batch.image)
            for turn in range(STYLES):
                translator.decode(content, [s.roll(turn, 0) for s in style])

    first = batches[0]
    content = encode_contents(translator, first.landmarks, first.image)
    style = translator.encode_style(first.image, first.landmarks)

    def every_pair() -> None:
        swap_matrix(translator, first.landmarks, first.image, first.landmarks, first.image)

    @torch.no_grad()
    def every_decode() -> None:
        for turn in range(len(first.image)):
            translator.decode(content, [s.roll(turn, 0) for s in style])

    made, drawn = len(FaceDataset.open(scratch / "out0")), len(data) * STYLES
    generated, matrix = in_turn(whole, bare), in_turn(every_pair, every_decode)
    times = [seconds / count for seconds, count in zip(generated, (made, drawn) * 2, strict=True)]  # a picture
    parameters = sum(p.numel() for p in translator.model.parameters()) / 1e6  # type: ignore[attr-defined]
    return {
        "parameters": parameters, "whole": 1 / times[0], "bare": 1 / times[1],
        "ratio": times[0] / times[1], "cpu": times[2] / times[3],
        "pass": matrix[0] / matrix[1], "pass_cpu": matrix[2] / matrix[3], "mb": memory,
    }  # fmt: skip


def in_turn(one: Callable[[], None], other: Callable[[], None]) -> tuple[float, float, float, float]:
    """Median seconds by the clock of each, then CPU seconds of each; the two in turn, after a first try of both."""
    found = []
    for _ in range(TURNS + 1):
        spans = []
        for work in (one, other):
            clock, cpu = time.perf_counter(), time.process_time()
            work()
            spans.append((time.perf_counter() - clock, time.process_time() - cpu))
        found.append((spans[0][0], spans[1][0], spans[0][1], spans[1][1]))
    return tuple(median(column) for column in zip(*found[1:], strict=True))  # type: ignore[return-value]


def main() -> None:
    from stylealign.translators import trained_names

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--models", nargs="+", help="not given: all")
    parser.add_argument("--faces", type=int, default=24, help="few of them, and starting and ending weigh more")
    parser.add_argument("--out", type=Path, help="also write the table to this Markdown file")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        with tempfile.TemporaryDirectory() as scratch:
            os.environ["STYLEALIGN_CACHE"] = str(Path(scratch) / "cache")
            found = measure(options.one[0], int(options.one[1]), options.faces, Path(scratch))
        print(json.dumps(found))
        return
    header = "translator", "px", "parameters M", "`generate`, images/s", "bare network, images/s"
    header = (*header, "`generate` over bare, clock / CPU", "n x n pass over bare, clock / CPU", "peak MB")
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    print("\n".join(lines))
    for model in options.models or trained_names():
        for size in options.sizes:
            code = [sys.executable, __file__, "--one", model, str(size), "--faces", str(options.faces)]
            done = subprocess.run(code, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr)
            f = json.loads(done.stdout.strip().splitlines()[-1])
            speeds = f"{f['whole']:.0f} | {f['bare']:.0f} | {f['ratio']:.2f} / {f['cpu']:.2f}"
            speeds = f"{speeds} | {f['pass']:.2f} / {f['pass_cpu']:.2f}"
            lines.append(f"| `{model}` | {size} | {f['parameters']:.2f} | {speeds} | {f['mb']:.0f} |")
            print(lines[-1], flush=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    lines += ["", f"{machine}, {options.faces} faces x {STYLES} styles, batches of {BATCH}."]
    print("\n".join(lines[-2:]))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
