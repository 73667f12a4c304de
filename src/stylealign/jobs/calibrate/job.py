"""The job `calibrate`: how far a detector's error grows when its boxes are off, or its faces turned; or how sure it is.

calibration.json    every number;  calibration.png  the two curves of boxes
card.json, model.safetensors    of `--what trust`: the same model with its trust
"""

import json
from functools import partial

import numpy as np

from stylealign.data.atomic import making, refuse_existing, whole_folder
from stylealign.data.dataset import FaceDataset
from stylealign.data.describe import whole_faces
from stylealign.errors import UserError, counted
from stylealign.evaluation.tables import print_table
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.calibrate.boxes import boxes_text, measure_boxes, plot_boxes
from stylealign.jobs.calibrate.config import Calibrate
from stylealign.jobs.calibrate.rolls import measure_rolls, table_of_rolls
from stylealign.jobs.evaluate.arms import num_learnt_from
from stylealign.predicting.network import model_path, open_network
from stylealign.progress import open_console, say


def faces_of(config: Calibrate, schema: LandmarkSchema) -> FaceDataset:
    """The faces to calibrate on, of the detector's mark-up; warns where it has learnt from some."""
    opened, path = FaceDataset.open(config.data), model_path(config.model)
    faces = opened.select(split=config.split, subset=config.subset, labelled=True)
    faces = whole_faces(faces, "the calibration")
    if faces.schema != schema:
        raise UserError(
            f"{config.data}: faces of {faces.schema.name} ({counted(faces.schema.num_points, 'point')}), the detector "
            f"answers in {schema.name} ({counted(schema.num_points, 'point')}): expected one mark-up"
        )
    if 0 < config.faces < len(faces):
        faces = faces.take(np.linspace(0, len(faces) - 1, config.faces).round().astype(int).tolist())
    if seen := num_learnt_from(path, opened, set(faces.ids())):
        say(
            f"warning: {path} learnt from {seen} of {counted(len(faces), 'face')} of split {config.split} of "
            f"{config.data}: on faces that it does not know it errs more than this says"
        )
    return faces


@making("out")
def main(config: Calibrate) -> None:
    """Measure, print, write."""
    refuse_existing(config.out)
    if config.what == "trust":
        from stylealign.jobs.calibrate.trust import calibrate_trust  # torch, which an ONNX file's boxes need not

        calibrate_trust(config, model_path(config.model), partial(faces_of, config))
        return
    network = open_network(config.model, config.accelerator)
    faces = faces_of(config, network.schema)
    found = (measure_boxes if config.what == "boxes" else measure_rolls)(config, network, faces)
    found |= {
        "faces": len(faces),
        "split": config.split,
        "data": faces.content_hash,
        "model_hash": network.card.get("model_hash"),
    }
    with whole_folder(config.out) as folder:
        (folder / "calibration.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        if config.what == "boxes":
            plot_boxes(found, folder / "calibration.png")
    if config.what == "boxes":
        print(boxes_text(found))
    else:
        table, console = table_of_rolls(found), open_console()
        print_table(console, table)
        console.print(table.note)
    say(f"wrote {config.out}")
