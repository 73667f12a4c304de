"""Speed and memory, each as a ratio against a floor taken in the same run, so that a slow or noisy machine cancels out.

    python benchmarks/speed.py [--out docs/performance_table.md]

Everything runs on drawn faces at 64 px on the CPU; pairs are measured in turn (A B A B ...) and medians of the ratios
are shown. Steps are of 32 faces; loading is all that comes before the network.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np


def paired(a: Callable[[], object], b: Callable[[], object], rounds: int = 7) -> tuple[float, float, float]:
    """Seconds of a and of b (medians), and the median of the pairwise ratios a / b."""
    a(), b()
    times: list[tuple[float, float]] = []
    for _ in range(rounds):
        start = time.perf_counter()
        a()
        middle = time.perf_counter()
        b()
        times.append((middle - start, time.perf_counter() - middle))
    return median(t for t, _ in times), median(t for _, t in times), median(x / y for x, y in times)


def training_steps(data: Path) -> list[tuple[str, str, float, str]]:
    """A step with loading and augmentation over the same step on a resident, already augmented batch."""
    import torch

    from stylealign.batches.augment import AugmentConfig, augment
    from stylealign.batches.crops import CropCache
    from stylealign.batches.source import BatchSource
    from stylealign.batches.structure_maps import structure_maps
    from stylealign.data.dataset import FaceDataset
    from stylealign.detectors.losses import LossConfig, landmark_loss
    from stylealign.detectors.resnet import ResNet18, ResNetConfig
    from stylealign.face.crop import CropConfig
    from stylealign.training.devices import place
    from stylealign.translators.kl import kl_nats
    from stylealign.translators.vunet.config import PRESETS
    from stylealign.translators.vunet.network import VUNet, initialise

    rows = []
    faces = FaceDataset.open(data)
    schema = faces.schema
    source = BatchSource([CropCache(faces, CropConfig(size=64), margin=1.25)], [1.0], 32, seed=0)
    counter = iter(range(10**9))

    def fresh() -> object:
        step = next(counter)
        return augment(source.batch(step), 64, AugmentConfig(), torch.Generator().manual_seed(step), schema)

    resident = fresh()
    for name, config in (("width 16", ResNetConfig(width=16)), ("width 64", ResNetConfig(width=64))):
        model = place(ResNet18(schema.num_points, 64, config), "cpu")
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

        def detector_step(batch, model=model, optimizer=optimizer) -> None:
            loss = landmark_loss(
                model(batch.image).landmarks, batch.landmarks, batch.visible, batch.weight, LossConfig()
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        loaded, floor, ratio = paired(lambda: detector_step(fresh()), lambda: detector_step(resident), 15)
        what = f"detector step, ResNet-18 {name}, 64 px: with loading / resident batch"
        rows.append((what, f"{loaded * 1e3:.0f} / {floor * 1e3:.0f} ms", ratio, "1.10"))

    translator = place(VUNet(PRESETS["small64"]), "cpu")
    optimizer = torch.optim.Adam(translator.parameters(), lr=1e-4)
    maps = structure_maps(resident.landmarks, 64, "points", schema)
    initialise(translator, resident.image, maps)

    def translator_step(batch, maps) -> None:
        out = translator(batch.image, maps)
        loss = (out.image - batch.image).abs().sum() + kl_nats(out.posterior, out.prior)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def loaded_step() -> None:
        batch = fresh()
        translator_step(batch, structure_maps(batch.landmarks, 64, "points", schema))

    loaded, floor, ratio = paired(loaded_step, lambda: translator_step(resident, maps))
    what = "translator step, small64: with loading / resident batch"
    rows.append((what, f"{loaded * 1e3:.0f} / {floor * 1e3:.0f} ms", ratio, "1.10"))
    return rows


def transfer(translator_run: Path, data: Path, n: int) -> list[tuple[str, str, float, str]]:
    """The n x n pass over n^2 bare decodes, and over encoding every pair."""

    from stylealign.batches.crops import CropCache
    from stylealign.data.dataset import FaceDataset
    from stylealign.translators.loaded import load_translator
    from stylealign.translators.swapping import swap_matrix

    translator = load_translator(translator_run)
    cache = CropCache(FaceDataset.open(data), translator.crop)
    batch = cache.batch(np.arange(n))
    content, style = translator.encode_structure(batch.landmarks), translator.encode_style(batch.image)

    def bare() -> None:
        for row in range(n):
            translator.decode([f[row : row + 1].expand(n, -1, -1, -1) for f in content], style)

    def each_pair() -> None:
        for row in range(n):
            own = translator.encode_structure(batch.landmarks[row : row + 1].expand(n, -1, -1))
            translator.decode(own, translator.encode_style(batch.image))

    whole = lambda: swap_matrix(translator, batch.landmarks, batch.image)  # noqa: E731
    a, b, ratio = paired(whole, bare)
    c, d, faster = paired(each_pair, whole)
    return [
        (f"{n} x {n} transfer / {n * n} bare decodes", f"{a * 1e3:.0f} / {b * 1e3:.0f} ms", ratio, "1.15"),
        ("encoding each pair / the n x n pass", f"{c * 1e3:.0f} / {d * 1e3:.0f} ms", faster, "above 1"),
    ]


def generation(translator_run: Path, data: Path, scratch: Path) -> list[tuple[str, str, float, str]]:
    """`generate` from its first encode to the finished folder with JPEGs, over the bare network passes it needs."""
    import torch

    from stylealign.batches.crops import CropCache
    from stylealign.data.dataset import FaceDataset
    from stylealign.jobs.generate.job import Generate, generate
    from stylealign.translators.loaded import load_translator

    translator = load_translator(translator_run)
    faces = FaceDataset.open(data).select("train")
    k, unit = 8, 8
    cache = CropCache(faces, translator.crop)
    number = iter(range(1000))

    def whole() -> None:
        out = scratch / f"generated{next(number)}"
        generate(
            Generate(data=data, translator=translator_run, out=out, styles_per_face=k, sheets=0, accept_gap=True),
            translator,
        )

    batches = [cache.batch(np.arange(s, min(s + unit, len(cache)))) for s in range(0, len(cache), unit)]

    def bare() -> None:
        with torch.no_grad():
            styles = [translator.encode_style(b.image) for b in batches]
            for batch, style in zip(batches, styles, strict=True):
                content = translator.encode_structure(batch.landmarks)
                index = torch.arange(len(batch.image)).repeat_interleave(k)
                translator.decode([f[index] for f in content], [s[index] for s in style])

    a, b, ratio = paired(whole, bare, 3)
    return [
        (
            f"generate {len(cache)} faces x {k} with JPEG / the bare network",
            f"{a:.2f} / {b:.2f} s ({len(cache) * k / a:.0f} images/s)",
            ratio,
            "1.20",
        )
    ]


def _peak_mb(code: str) -> dict[str, float]:
    """Run code in a fresh process, which prints JSON; its peak memory above the import is added.

    VmHWM says the peak: ru_maxrss would be the parent's.
    """
    start = (
        "import json, numpy, cv2, yaml; import stylealign.data.dataset, stylealign.jobs.prepare\n"
        "peak = lambda: int(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1]) / 1024\n"
        "before = peak()\n"
    )
    end = "\nprint(json.dumps({**result, 'mb': peak() - before}))"
    done = subprocess.run([sys.executable, "-c", start + code + end], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def index_memory(scratch: Path, count: int) -> list[tuple[str, str, float | None, str]]:
    """Open a data set index of `count` faces: time, peak memory above the import, state bytes a face."""
    folder = scratch / f"index{count}"
    folder.mkdir()
    landmarks = [[float(i % 97), float(i % 89)] for i in range(68)]
    tail = f'"digest": "0123456789abcdef", "landmarks": {json.dumps(landmarks)}}}\n'
    with open(folder / "index.jsonl", "w") as file:
        for i in range(count):
            file.write(
                f'{{"id": "face{i}", "image": "{i}.jpg", "split": "train", "box_xyxy": [0.0, 0.0, 9.0, 9.0], {tail}'
            )
    from stylealign.data.dataset_writer import write_meta
    from stylealign.face.schema import IBUG68

    write_meta(
        folder, schema=IBUG68, name="many", count=count, splits={"train": count}, labelled=count,
        image_root="images", source="", licence="", how={},
    )  # fmt: skip
    code = (
        "import time; start = time.perf_counter()\n"
        f"d = stylealign.data.dataset.FaceDataset.open({str(folder)!r})\n"
        "seconds = time.perf_counter() - start\n"
        "assert d[len(d) // 2].landmarks.shape == (68, 2)\n"
        "result = {'seconds': seconds, 'bytes': d._offsets.nbytes / len(d)}"
    )
    found = _peak_mb(code)
    shutil.rmtree(folder)
    text = f"{found['seconds']:.2f} s, {found['mb']:.0f} MB, {found['bytes']:.0f} bytes a face held"
    return [(f"open an index of {count:,} faces", text, None, "")]


def prepare_memory(scratch: Path, count: int) -> list[tuple[str, str, float | None, str]]:
    """Peak memory of `prepare` over `count` faces (one small picture, a CSV of 68 points)."""
    from stylealign.data.image import write_image

    folder = scratch / f"csv{count}"
    folder.mkdir()
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    header = "image," + ",".join(f"x{i},y{i}" for i in range(68))
    points = ",".join(f"{v:.1f}" for v in rng.uniform(8, 56, 136))
    (folder / "images").mkdir()
    write_image(folder / "images" / "first.png", picture)
    for i in range(count):
        os.link(folder / "images" / "first.png", folder / "images" / f"{i}.png")
    with open(folder / "train.csv", "w") as file:
        file.write(header + "\n" + "".join(f"{i}.png,{points}\n" for i in range(count)))
    source, out = str(folder), str(scratch / f"prepared{count}")
    code = (
        "from pathlib import Path; import time; start = time.perf_counter()\n"
        "from stylealign.jobs.prepare import Prepare\n"
        f"config = Prepare(reader='csv', path=Path({source!r}), out=Path({out!r}), schema='ibug68')\n"
        "stylealign.jobs.prepare.main(config)\n"
        "result = {'seconds': time.perf_counter() - start}"
    )
    found = _peak_mb(code)
    shutil.rmtree(folder)
    shutil.rmtree(scratch / f"prepared{count}")
    return [(f"prepare {count:,} faces", f"{found['seconds']:.1f} s, {found['mb']:.0f} MB above the import", None, "")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the table to this Markdown file")
    parser.add_argument("--faces", type=int, default=1_000_000, help="faces of the largest index (default one million)")
    parser.add_argument("--prepared", type=int, default=10_000, help="faces of the largest prepared set")
    options = parser.parse_args()
    from stylealign.jobs import draw_faces
    from stylealign.jobs.train_translator.job import TrainTranslator
    from stylealign.jobs.train_translator.job import main as train_translator
    from stylealign.jobs.train_translator.small_detectors import AuxiliaryConfig
    from stylealign.training.loop import LoopConfig

    scratch = Path(tempfile.mkdtemp(prefix="stylealign-bench-"))
    os.environ["STYLEALIGN_CACHE"] = str(scratch / "cache")
    try:
        draw_faces.main(draw_faces.DrawFaces(out=scratch / "faces", count=400, size=96, seed=0))
        loop = LoopConfig(steps=2, batch_size=8, preview_every=0)
        auxiliary = AuxiliaryConfig(steps=2)
        data, run = scratch / "faces", scratch / "translator"
        train_translator(TrainTranslator(data=data, run=run, auxiliary=auxiliary, loop=loop))
        rows: list[tuple[str, str, float | None, str]] = []
        rows += training_steps(scratch / "faces")
        for n in (12, 32):
            rows += transfer(scratch / "translator", scratch / "faces", n)
        rows += generation(scratch / "translator", scratch / "faces", scratch)
        for count in (1000, options.prepared):
            rows += prepare_memory(scratch, count)
        for count in (10_000, options.faces):
            rows += index_memory(scratch, count)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    lines = ["| what | measured | ratio | aim |", "|---|---|---|---|"]
    lines += [
        f"| {what} | {measured} | {'' if ratio is None else f'{ratio:.2f}'} | {aim} |"
        for what, measured, ratio, aim in rows
    ]
    import torch

    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    lines += ["", f"{machine}, Python {platform.python_version()}, torch {torch.__version__}."]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
