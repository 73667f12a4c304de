"""What is fuzzed: for each kind a function that writes small valid inputs, and one that reads an input as the jobs do.

A kind's inputs are folders: `write(folder)` makes `folder`/0, 1, ... of one input each; `read(folder, rng)` reads one
of them, damaged, and may write below `folder.parent / "out"` only.
"""

import dataclasses
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import yaml

from builders.layouts import own_schema, picture, points, three_faces
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.formats import FORMATS, WriteOptions
from stylealign.errors import UserError
from stylealign.face.sample import FaceSample
from stylealign.face.schema import FIVE, SCHEMAS


class Kind(NamedTuple):
    """One kind of input."""

    write: Callable[[Path], None]
    read: Callable[[Path, random.Random], object]
    damaged: str = "**/*"
    """which files are damaged"""
    weight: float = 1.0
    """its share of the inputs"""


def _only(folder: Path) -> Path:
    """The file of an input of one file; a name that is not there where the damage took it away."""
    return next(iter(sorted(folder.iterdir())), folder / "away")


# --------------------------------------------------------------------------------------------------------------------
# Data sets in published layouts, and ours


def _writes_format(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        entry = FORMATS[name]
        schema = FIVE if entry.num_points in (None, 5) else SCHEMAS["wflw98"]
        dataset = three_faces(folder.parent / f"{name}-dataset", schema)
        (folder / "0").mkdir(parents=True)
        assert entry.write is not None
        entry.write(dataset.select(labelled=True), folder / "0", WriteOptions())

    return write


def _write_cofw(folder: Path) -> None:
    import h5py
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (20, 30, 3) if i % 2 else (20, 30), dtype=np.uint8) for i in range(2)]
    landmarks = np.stack([points(29, i) / 2 for i in range(2)])
    phis = np.concatenate([landmarks[..., 0] + 1, landmarks[..., 1] + 1, rng.integers(0, 2, (2, 29))], axis=1)
    boxes = np.tile([5.0, 6, 20, 10], (2, 1))
    for name in ("0", "1", "2"):
        (folder / name).mkdir(parents=True)
    cells = np.empty((2, 1), dtype=object)
    cells[:, 0] = pictures
    for name, compressed in (("0", False), ("2", True)):
        content = {"IsT": cells, "phisT": phis, "bboxesT": boxes}
        savemat(folder / name / "COFW_test.mat", content, do_compression=compressed)
    with h5py.File(folder / "1" / "COFW_test_color.mat", "w", userblock_size=512) as hdf:
        references = [hdf.create_dataset(f"#refs#/{i}", data=p.T).ref for i, p in enumerate(pictures)]
        held = hdf.create_dataset("IsT", (1, 2), dtype=h5py.ref_dtype)
        for i, reference in enumerate(references):
            held[0, i] = reference
        hdf["phisT"], hdf["bboxesT"] = phis.T, boxes.T


def _write_aflw(folder: Path) -> None:
    from scipy.io import savemat

    landmarks = np.stack([points(19, i) for i in range(3)])
    names = np.empty((3, 1), dtype=object)
    for i in range(3):
        names[i, 0] = f"0/image{i}.jpg"
    content = {
        "nameList": names, "data": np.concatenate([landmarks[..., 0], landmarks[..., 1]], axis=1),
        "mask_new": np.ones((3, 19)), "bbox": np.tile([3.0, 50, 4, 30], (3, 1)), "ra": [[3, 1, 2]],
    }  # fmt: skip
    for number in range(2):
        for i in range(3):
            picture(folder / str(number) / "data" / "flickr" / "0" / f"image{i}.jpg")
        savemat(folder / str(number) / "AFLWinfo_release.mat", content, do_compression=number == 1)


def _write_merl_rav(folder: Path) -> None:
    for number in range(2):
        for i in range(2):
            path = folder / str(number) / "frontal" / ("trainset", "testset")[i] / f"image{i}.pts"
            picture(path.with_suffix(".jpg"), 60, 40)
            numbers = points(68, i) + 1
            numbers[: 5 * number] = -1
            numbers[10:14] *= -1
            body = "".join(f"{x:.3f} {y:.3f}\n" for x, y in numbers)
            path.write_text(f"version: 1\nn_points:  68\n{{\n{body}}}\n")


def _write_lapa(folder: Path) -> None:
    for split in ("train", "val"):
        picture(folder / "0" / split / "images" / "a.jpg", 60, 40)
        body = "".join(f"{x:.3f} {y:.3f}\n" for x, y in points(106))
        (folder / "0" / split / "landmarks").mkdir()
        (folder / "0" / split / "landmarks" / "a.txt").write_text(f"106\n{body}")


def _write_face_synthetics(folder: Path) -> None:
    for i in range(2):
        picture(folder / "0" / f"00000{i}.png", 60, 40)
        body = "".join(f"{x:.3f} {y:.3f}\n" for x, y in points(70, i))
        (folder / "0" / f"00000{i}_ldmks.txt").write_text(body)


def _write_300w_lp(folder: Path) -> None:
    from scipy.io import savemat

    for number in range(2):
        for i in range(2):
            path = folder / str(number) / "AFW" / f"AFW_{i}_0.mat"
            picture(path.with_suffix(".jpg"), 60, 40)
            flat = points(68, i).T + 1
            content = {"pt2d": flat, "roi": [1, 2, 3, 4]}
            if number:
                content = {"pt2d": flat[:, :21], "pt3d_68": np.concatenate([flat, flat[:1]]).astype(np.float32)}
            savemat(path, content, do_compression=bool(i))


def _write_folder(folder: Path) -> None:
    picture(folder / "0" / "a.png", 30, 20)
    picture(folder / "0" / "b" / "c.jpg", 30, 20)


def _write_dataset(folder: Path) -> None:
    """Two of ours: one that points at pictures elsewhere, and one that owns them, with all that a row may hold."""
    work = Path(os.environ["FUZZ_WORK"])
    found = work / "referenced" / "dataset"
    outside = FaceDataset.open(found) if found.exists() else three_faces(found, FIVE)
    shutil.copytree(outside.folder, folder / "0")
    samples = [
        dataclasses.replace(s, id=f"f{i}", trust=0.5 if s.landmarks is not None else None)
        for i, s in enumerate(outside)
    ]
    write_dataset(folder / "1", samples, schema=FIVE, name="own", images="copy", how={"num_skipped": 3})


def _options_of(name: str, rng: random.Random) -> dict[str, Any]:
    entry = FORMATS[name]
    schema = None if isinstance(entry.schema, str) or callable(entry.schema) or name != "folder" else "five"
    if name == "ibug":
        schema = "five"
    return {
        "schema": schema, "skip_bad": rng.random() < 0.5, "copy": rng.random() < 0.3,
        "box_frac": 0.5 if name == "folder" else None, "missing": "keep" if name == "merl-rav" else "refuse",
    }  # fmt: skip


def _prepares(name: str) -> Callable[[Path, random.Random], object]:
    def read(folder: Path, rng: random.Random) -> object:
        from stylealign.jobs.prepare import Prepare, main

        return main(Prepare(reader=name, path=folder, out=folder.parent / "out" / "data", **_options_of(name, rng)))

    return read


def _write_lists(folder: Path) -> None:
    _write_folder(folder)
    (folder / "0" / "train.txt").write_text("a.png\nb/c.jpg\n")
    (folder / "0" / "few.txt").write_text("\ufeffb/c\n", encoding="utf-8")


def _read_lists(folder: Path, rng: random.Random) -> object:
    from stylealign.jobs.prepare import Prepare, main

    return main(
        Prepare(reader="folder", path=folder, out=folder.parent / "out" / "data", schema="five", box_frac=0.5,
                splits=("train=train.txt",), subsets=("few=few.txt",), skip_bad=rng.random() < 0.5)
    )  # fmt: skip


def _checks(folder: Path, rng: random.Random) -> object:
    from stylealign.jobs.check import Check, main

    draw = 2 if rng.random() < 0.2 else 0
    return main(Check(path=folder, draw=draw, size=32, out=folder.parent / "out" / "check" if draw else None))


def _exports(folder: Path, rng: random.Random) -> object:
    from stylealign.jobs.export_dataset import ExportDataset, main

    name = rng.choice([name for name, entry in FORMATS.items() if entry.write and entry.num_points is None])
    return main(ExportDataset(data=folder, out=folder.parent / "out" / "data", format=name))


# --------------------------------------------------------------------------------------------------------------------
# Answers and places of faces


def _write_predictions(folder: Path) -> None:
    for name in ("csv", "jsonl", "pts"):
        (folder / name).mkdir(parents=True)
    header = ",".join(["image", *(f"{axis}{i}" for i in range(5) for axis in "xy")])
    rows = [",".join([f"face {i}", *(f"{v:.3f}" for v in points(5, i).ravel())]) for i in range(3)]
    (folder / "csv" / "p.csv").write_text("\n".join([header, *rows]) + "\n")
    record = {"schema": "five", "score": [0.5] * 5, "box_xyxy": [1, 2, 30, 30]}
    lines = [json.dumps({"id": f"face {i}", "landmarks": points(5, i).tolist(), **record}) for i in range(3)]
    (folder / "jsonl" / "p.jsonl").write_text("\n".join(lines) + "\n")
    for i in range(3):
        body = "".join(f"{x:.3f} {y:.3f}\n" for x, y in points(5, i))
        (folder / "pts" / f"face {i}.pts").write_text(f"version: 1\nn_points: 5\n{{\n{body}}}\n")


def _read_predictions(folder: Path, rng: random.Random) -> object:
    from stylealign.jobs.evaluate.job import Evaluate, main

    found = sorted(p for p in folder.iterdir() if p.suffix in (".csv", ".jsonl"))
    data = Path(os.environ["FUZZ_WORK"]) / "five"
    return main(Evaluate(data=data, split="test", arms=(f"a={found[0] if found else folder}",), draw=0,
                         out=folder.parent / "out" / "evaluation", denominator="landmark_box"))  # fmt: skip


def _write_boxes(folder: Path) -> None:
    for name in ("0", "1", "2", "3"):
        (folder / name).mkdir(parents=True)
    (folder / "0" / "b.csv").write_text("image,x0,y0,x1,y1\na.png,1,2,30,40\nb/c.jpg,1.5,2,3,4e1\n")
    (folder / "1" / "b.json").write_text('{"a.png": [1, 2, 30, 40], "b/c.jpg": [[1, 2, 3, 4], [2, 3, 4, 5]]}')
    (folder / "2" / "b.json").write_text(
        '[{"image": "a.png", "box_xyxy": [1, 2, 3, 4]}, {"id": "c", "box": [1, 2, 3, 4]}]'
    )
    (folder / "3" / "b.jsonl").write_text(
        '{"image": "a.png", "box_xyxy": [1, 2, 3, 4]}\n{"id": "c", "box": [1, 2, 3, 4]}\n'
    )


def _read_boxes(folder: Path, rng: random.Random) -> object:
    from stylealign.predicting.given_boxes import BoxFile

    return BoxFile(_only(folder)).of("a.png")


# --------------------------------------------------------------------------------------------------------------------
# YAML of people


def _write_schemas(folder: Path) -> None:
    for name in ("0", "1"):
        (folder / name).mkdir(parents=True)
    own_schema(folder / "0").rename(folder / "0" / "s.yaml")
    (folder / "1" / "s.yaml").write_text(yaml.safe_dump(SCHEMAS["ibug68"].to_dict()))


def _read_schema(folder: Path, rng: random.Random) -> object:
    from stylealign.face.schema import get_schema

    return get_schema(str(folder / "s.yaml"))


def _write_recipes(folder: Path) -> None:
    from stylealign.cli import recipes
    from stylealign.jobs.train_translator.legacy_recipes import LEGACY_KEYS

    for name, path in recipes().items():
        verb = re.findall(r"stylealign ([a-z-]+) ", path.read_text())[0]
        target = folder / name.replace("/", "_") / f"{verb}.yaml"
        target.parent.mkdir(parents=True)
        shutil.copyfile(path, target)
    (folder / "legacy").mkdir()
    legacy = {**LEGACY_KEYS, "data_dir": "d", "img_list": "d/l.txt"}
    (folder / "legacy" / "train-translator.yaml").write_text(yaml.safe_dump(legacy))
    (folder / "prepare").mkdir()
    (folder / "prepare" / "prepare.yaml").write_text(
        "out: made\nsources:\n  - {reader: csv, path: a, name: a}\n  - {reader: wflw, path: b, split: train}\n"
    )


def _read_recipe(folder: Path, rng: random.Random) -> object:
    from stylealign.cli import _recipe
    from stylealign.jobs import VERBS

    path = _only(folder)
    verb = path.stem if path.stem in VERBS else "prepare"
    return _recipe(verb, VERBS[verb].config_class(), path, [])


def _write_check_yaml(folder: Path) -> None:
    _write_schemas(folder)
    _write_recipes(folder)


def _check_yaml(folder: Path, rng: random.Random) -> object:
    from stylealign.jobs.check import Check, main

    return main(Check(path=_only(folder)))


# --------------------------------------------------------------------------------------------------------------------
# Models


def _detector(folder: Path) -> Any:
    from builders.networks import make, schemas_of, tiny_config
    from stylealign.config import to_dict
    from stylealign.face.crop import CropConfig
    from stylealign.training.weights import save_model

    model = make("resnet18")
    folder.mkdir(parents=True, exist_ok=True)
    crop = to_dict(CropConfig(size=32))
    network = to_dict(tiny_config("resnet18"))
    card = {"kind": "detector", "model": "resnet18", "network": network, "schema": schemas_of("resnet18")[0].to_dict(),
            "other_schemas": [], "crop": crop, "config": {}, "data": [], "step": 3}  # fmt: skip
    save_model(folder, model.state_dict(), card)
    return model, json.loads((folder / "card.json").read_text())


def _write_runs(folder: Path) -> None:
    _detector(folder / "0")


def _read_run(folder: Path, rng: random.Random) -> object:
    from stylealign.detectors.loaded import load_detector

    return load_detector(folder)


def _read_run_rehashed(folder: Path, rng: random.Random) -> object:
    """A stranger's weights have the right hash."""
    import hashlib

    card = json.loads((folder / "card.json").read_text())
    if (folder / "model.safetensors").is_file():
        card["model_hash"] = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "card.json").write_text(json.dumps(card))
    return _read_run(folder, rng)


def _write_translators(folder: Path) -> None:
    from stylealign.data.packaged import TRANSLATOR

    shipped = TRANSLATOR
    (folder / "0").mkdir(parents=True)
    shutil.copyfile(shipped / "card.json", folder / "0" / "card.json")
    (folder / "0" / "model.safetensors").symlink_to(shipped / "model.safetensors")  # 1.6 MB, never damaged


def _read_translator(folder: Path, rng: random.Random) -> object:
    from stylealign.translators.loaded import load_translator

    return load_translator(folder)


def _write_weights(folder: Path) -> None:
    import safetensors.torch
    import torch

    for name in ("0", "1", "2"):
        (folder / name).mkdir(parents=True)
    state = {f"layer.{i}.weight": torch.arange(12.0).reshape(3, 4) + i for i in range(3)}
    safetensors.torch.save_file(state, folder / "0" / "w.safetensors")
    torch.save(state, folder / "1" / "w.pth")
    torch.save(state, folder / "2" / "w.pth", _use_new_zipfile_serialization=False)


def _read_weights(folder: Path, rng: random.Random) -> object:
    from stylealign.training.weights import read_state

    return read_state(_only(folder))


def _write_onnx(folder: Path) -> None:
    import onnx
    import torch

    from stylealign.jobs.export.graph import answering
    from stylealign.predicting.onnx_network import to_metadata

    model, card = _detector(folder.parent / "onnx-run")
    (folder / "0").mkdir(parents=True)
    path = folder / "0" / "m.onnx"
    torch.onnx.export(answering(model), (torch.zeros(2, 3, 32, 32),), path, dynamo=False, opset_version=17,
                      input_names=["image"], output_names=["landmarks"],
                      dynamic_axes={"image": {0: "batch"}, "landmarks": {0: "batch"}})  # fmt: skip
    graph = onnx.load(path)
    for key, value in to_metadata(card, "float32").items():
        graph.metadata_props.add(key=key, value=value)
    onnx.save(graph, path)


def _read_onnx(folder: Path, rng: random.Random) -> object:
    from stylealign.predicting.onnx_network import OnnxDetector

    network = OnnxDetector(folder / "m.onnx", threads=1)
    return network(np.zeros((1, 3, network.crop.size, network.crop.size), np.float32))


def _write_resumed(folder: Path) -> None:
    import torch

    from stylealign.config import save_config
    from stylealign.training.loop import LoopConfig
    from stylealign.training.run import Run

    run = Run.open(folder / "0" / "run", LoopConfig())
    save_config(LoopConfig(), run.folder / "config.yaml")
    run.log(1, {"total": 1.0})
    run.log(2, {"total": 0.5})
    state = {"step": 2, "modules": {"model": {"w": torch.ones(3)}}, "optimizers": {"o": {"state": {0: torch.ones(2)}}}}
    run.write_checkpoint(2, {"w": torch.ones(3)}, {"kind": "detector"}, state)


def _read_resumed(folder: Path, rng: random.Random) -> object:
    from stylealign.training.loop import LoopConfig
    from stylealign.training.run import Run

    run = Run.open(folder / "run", LoopConfig())
    run.forget_after(1)
    return run.read_checkpoint()


# --------------------------------------------------------------------------------------------------------------------
# Pictures, videos, results


def _write_pictures(folder: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (24, 40, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    made: dict[str, tuple[Any, dict[str, Any]]] = {
        "a.png": (rgb, {}), "b.jpg": (rgb, {"exif": exif}), "c.webp": (rgb, {}), "d.bmp": (rgb, {}),
        "e.tif": (rgb, {}), "f.tif": (rgb, {"compression": "tiff_lzw"}), "g.gif": (rgb.convert("P"), {}),
        "h.png": (rgb.convert("P"), {"transparency": 3}), "i.png": (rgb.convert("RGBA"), {}),
        "j.png": (Image.fromarray(rng.integers(0, 65536, (24, 40), dtype=np.uint16)), {}),
        "k.tif": (Image.fromarray(rng.random((24, 40), dtype=np.float32)), {}), "l.jpg": (rgb.convert("CMYK"), {}),
        "m.jpg": (rgb, {"progressive": True}), "n.png": (rgb.convert("1"), {}), "o.webp": (rgb, {"lossless": True}),
        "p.tif": (rgb, {"compression": "tiff_deflate"}),
    }  # fmt: skip
    for name, (image, options) in made.items():
        (folder / name).mkdir(parents=True)
        image.save(folder / name / name, **options)


def _read_picture(folder: Path, rng: random.Random) -> object:
    from stylealign.predicting.sources import read_photo

    path = _only(folder)
    return read_photo(path)


def _write_videos(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name, code in (("a.avi", "MJPG"), ("b.mp4", "mp4v"), ("c.mkv", "mp4v"), ("d.avi", "XVID")):
        (folder / name).mkdir(parents=True)
        writer = cv2.VideoWriter(str(folder / name / name), cv2.VideoWriter_fourcc(*code), 10, (48, 32))
        for _ in range(5):
            writer.write(rng.integers(0, 256, (32, 48, 3), dtype=np.uint8))
        writer.release()


def _read_video(folder: Path, rng: random.Random) -> object:
    from contextlib import closing

    from stylealign.predicting.clock import Clock
    from stylealign.predicting.sources import Source
    from stylealign.predicting.video import Video

    path = _only(folder)
    video = Video(Source("video", path, path.name))
    with closing(video.frames(Clock(), 100)) as frames:
        count = sum(1 for _ in frames)
    problem = video.problem()
    if problem or not count:
        raise UserError(problem or "no frame")
    return count


def _write_results(folder: Path) -> None:
    """What `report` shows: an evaluation, predictions, a run."""
    from stylealign.jobs.evaluate.job import Evaluate, main

    data = Path(os.environ["FUZZ_WORK"]) / "five"
    _write_predictions(folder.parent / "results-predictions")
    arms = (f"a={folder.parent / 'results-predictions' / 'jsonl' / 'p.jsonl'}",)
    main(Evaluate(data=data, split="test", arms=arms, out=folder / "0", draw=0, denominator="landmark_box"))
    (folder / "1").mkdir()
    shutil.copyfile(folder.parent / "results-predictions" / "jsonl" / "p.jsonl", folder / "1" / "predictions.jsonl")
    summary = {"faces": 3, "pictures_and_frames": 2, "left_out": ["x.jpg: no face found"], "schema": "five",
               "videos": {"a.mp4": {"frames": 3, "frames_with_faces": 2, "tracks": 1, "lost": 0,
                          "jitter": 0.1}},
               "timing": {"faces_per_s": 3.0, "stages": {"decoding": 0.5}}, "model_hash": "0" * 64}  # fmt: skip
    (folder / "1" / "summary.json").write_text(json.dumps(summary))
    _detector(folder / "2")
    lines = [json.dumps({"step": s, "total": 1 / s, "evaluate/nme": 0.1}) for s in (1, 2, 3)]
    (folder / "2" / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "2" / "config.yaml").write_text("run: x\n")
    for path in folder.rglob("*.png"):
        path.unlink()


def _report(folder: Path, rng: random.Random) -> object:
    from stylealign.jobs.report.job import Report, main

    return main(Report(inputs=(folder,), out=folder.parent / "out" / "report.html"))


def write_five(folder: Path) -> None:
    """The faces that predictions are compared with."""
    samples = [
        FaceSample(id=f"face {i}", image=picture(folder.parent / "five-pictures" / f"face {i}.png", seed=i),
                   landmarks=points(5, i), split="test")
        for i in range(3)
    ]  # fmt: skip
    write_dataset(folder, samples, schema=FIVE, name="five", image_root=folder.parent / "five-pictures")
    FaceDataset.open(folder)


KINDS: dict[str, Kind] = {
    **{name: Kind(_writes_format(name), _prepares(name)) for name in FORMATS if FORMATS[name].write},
    "cofw": Kind(_write_cofw, _prepares("cofw"), "*.mat"),
    "aflw": Kind(_write_aflw, _prepares("aflw"), "*.mat"),
    "merl-rav": Kind(_write_merl_rav, _prepares("merl-rav"), "**/*.pts"),
    "lapa": Kind(_write_lapa, _prepares("lapa"), "**/*.txt"),
    "face-synthetics": Kind(_write_face_synthetics, _prepares("face-synthetics"), "**/*.txt"),
    "300w-lp": Kind(_write_300w_lp, _prepares("300w-lp"), "**/*.mat"),
    "folder": Kind(_write_folder, _prepares("folder")),
    "lists": Kind(_write_lists, _read_lists, "*.txt"),
    "dataset": Kind(_write_dataset, _prepares("dataset"), "*.*"),
    "check": Kind(_write_dataset, _checks, "*.*"),
    "export": Kind(_write_dataset, _exports, "*.*"),
    "predictions": Kind(_write_predictions, _read_predictions),
    "boxes": Kind(_write_boxes, _read_boxes),
    "schema": Kind(_write_schemas, _read_schema),
    "recipe": Kind(_write_recipes, _read_recipe, weight=0.5),
    "check-yaml": Kind(_write_check_yaml, _check_yaml, weight=0.3),
    "card": Kind(_write_runs, _read_run, "card.json"),
    "weights-of-run": Kind(_write_runs, _read_run_rehashed, "model.safetensors", 0.5),
    "translator-card": Kind(_write_translators, _read_translator, "card.json", 0.3),
    "weights": Kind(_write_weights, _read_weights),
    "onnx": Kind(_write_onnx, _read_onnx, weight=0.5),
    "resumed": Kind(_write_resumed, _read_resumed),
    "picture": Kind(_write_pictures, _read_picture, weight=1.5),
    "video": Kind(_write_videos, _read_video),
    "report": Kind(_write_results, _report),
}
MISSING = [name for name in FORMATS if name not in KINDS]
assert not MISSING, f"no valid inputs to damage are written for {MISSING}: add them to KINDS"
