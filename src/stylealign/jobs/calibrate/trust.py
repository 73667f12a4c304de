"""How sure a detector says it is of each point, made true (evaluation/point_trust.py): the same model, with that in its
card."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from stylealign.batches.crops import CropCache
from stylealign.data.atomic import whole_folder
from stylealign.data.dataset import FaceDataset, describe_data
from stylealign.detectors.loaded import learnt_lean, load_detector
from stylealign.errors import UserError, counted
from stylealign.evaluation.metrics import denominators, usual_denominator
from stylealign.evaluation.point_trust import BASES
from stylealign.evaluation.reliability import reliability, tables_of
from stylealign.evaluation.tables import print_table
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.calibrate.config import Calibrate
from stylealign.predicting.on_datasets import answer_crops, calibrated_on, lean_on
from stylealign.predicting.validation import Validation
from stylealign.progress import open_console, say
from stylealign.training.devices import pick_device
from stylealign.training.weights import load_model, save_model


def calibrate_trust(config: Calibrate, path: Path, faces_of: Callable[[LandmarkSchema], FaceDataset]) -> None:
    """Fit the trust, write the model at `path` with it, print what it is worth on the faces of its mark-up."""

    if path.suffix == ".onnx":
        raise UserError(f"{path}: an ONNX file has no card to put a trust in, expected the run folder it was made from")
    loaded = load_detector(path, pick_device(config.accelerator))
    schema = loaded.schema
    faces = faces_of(schema)
    cache = CropCache(faces, loaded.crop)
    lean = lean_on(loaded.model, cache) if schema.flip_pairs and learnt_lean(loaded.card) else loaded.lean
    fitted = calibrated_on(loaded.model, cache)
    if fitted is None and schema.flip_pairs:
        fitted = calibrated_on(loaded.model, cache, "mirror", lean)
        say(
            "this detector answers neither covariances nor heatmaps: how sure it is, it says by the mirrored face alone"
        )
    if fitted is None:
        raise UserError(
            f"{path}: this detector answers neither covariances nor heatmaps, and {schema.name} has no mirror twins to "
            "ask it about the mirrored face: nothing to calibrate"
        )
    trust, fit = fitted
    answers = answer_crops(loaded.model, cache, config.batch_size, trust.basis == "mirror", trust, lean)
    assert answers.covariance is not None
    truth = faces.landmarks_array().astype(np.float64)
    boxes = [sample.box_xyxy for sample in faces if sample.box_xyxy is not None]
    boxed = len(boxes) == len(faces)
    denominator = usual_denominator(schema, boxed)
    lengths = denominators(truth, np.stack(boxes) if boxed else None, schema, denominator, faces.ids())
    figures = reliability(answers.landmarks, answers.covariance, truth, lengths, schema, faces.labelled_array())
    described = {**trust.to_dict(), **fit, "data": describe_data(faces, split=config.split)}
    state, card = load_model(path, "detector")
    if config.split == "val" and "val" not in card:  # of averaged weights, say, which no training has measured
        validation = Validation(faces, loaded.crop)
        card["val"] = validation.entry(validation.nme(loaded.model), described["data"])
    with whole_folder(config.out) as partial:
        save_model(partial, state, {**card, "trust": described, **({"lean": lean} if lean else {})})
        content = {"trust": described, "lean": lean, "denominator": denominator, **figures}
        (partial / "calibration.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for table in tables_of(figures, path.name):
        print_table(open_console(), table)
    temperature = np.array(trust.temperature)
    say(
        f"from {BASES[trust.basis]}: {'a temperature' if len(temperature) == 1 else 'temperatures'} of "
        + (f"{temperature[0]:.3g}" if len(temperature) == 1 else f"{temperature.min():.3g} to {temperature.max():.3g}")
        + f", power {trust.power:.2f}, on {counted(len(faces), 'face')} ({denominator}): an error surprises by "
        f"{fit['surprise']:.3f} nats, before by {fit['surprise_before']:.3f}"
    )
    say(f"wrote {config.out}: the same detector with this trust in its card")
