"""Write the ONNX twin of weights in the package, which OpenCV answers from without torch (opencv_network.py).

    python scripts/write_twin.py [src/stylealign/weights/compact]

To be run whenever the weights or their card change; a test says so. Shapes are fixed to one crop and constants folded,
as OpenCV cannot compute some graphs else. Nothing is written where OpenCV's answers on drawn faces are more than
0.01 px of the crop from torch's.
"""

import argparse
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime

from stylealign.data.atomic import write_whole
from stylealign.detectors.loaded import load_detector
from stylealign.evaluation.point_trust import trust_of_card
from stylealign.jobs.export.graph import answering, trace
from stylealign.jobs.export.job import PARITY, drawn_crops, torch_model
from stylealign.predicting.opencv_network import ABOUT, TWIN

FOLDER = Path(__file__).parents[1] / "src" / "stylealign" / "weights" / "compact"


def for_one_crop(graph: Any) -> Any:
    """The graph with a batch of one, and whatever follows from that computed."""
    batch = graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.add_free_dimension_override_by_name(batch, 1)
        options.optimized_model_filepath = str(Path(folder) / TWIN)
        onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        folded = onnx.load(options.optimized_model_filepath)
    for other in [entry for entry in folded.opset_import if entry.domain]:  # domains of which no node is
        folded.opset_import.remove(other)
    return folded


def write_twin(folder: Path) -> float:
    """Write twin.onnx and twin.json into a folder of weights; the largest difference, px. Raises SystemExit."""
    loaded = load_detector(folder)
    trust = trust_of_card(loaded.card, loaded.schema.num_points, f"{folder}/card.json")
    content = for_one_crop(trace(answering(loaded.model, trust), loaded.crop.size)).SerializeToString()
    outputs = [output.name for output in onnx.load_from_string(content).graph.output]
    network = cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8))
    crops = drawn_crops(loaded.crop)
    wanted = torch_model(loaded, folder / "model.safetensors", trust).answer(crops)
    apart = 0.0
    for i, crop in enumerate(crops):
        network.setInput(crop[None])
        for name, found, true in zip(outputs, network.forward(outputs), wanted, strict=True):
            far = np.abs(found[0] - true[i]).max()
            if not far <= PARITY * max(1.0, np.abs(true[i]).max() if name == "covariance" else 1.0):
                raise SystemExit(f"{folder}: OpenCV's {name} is {far:.4f} from torch's: no twin was written")
            apart = max(apart, float(far) if name == "landmarks" else 0.0)
    about: dict[str, Any] = {
        "model_hash": loaded.card["model_hash"],
        "sha256": hashlib.sha256(content).hexdigest(),
        "outputs": outputs,
    }
    if loaded.upright is not None:
        about["upright"] = loaded.upright.round(4).tolist()
    write_whole(folder / TWIN, content)
    write_whole(folder / ABOUT, (json.dumps(about, indent=1) + "\n").encode())
    return apart


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    folder = parser.parse_args().folder
    apart = write_twin(folder)
    size = (folder / TWIN).stat().st_size
    print(f"{folder / TWIN}: {size / 1e6:.1f} MB, at most {apart:.6f} px of the crop from torch")


if __name__ == "__main__":
    main()
