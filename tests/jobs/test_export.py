"""The verb `export`: ONNX files that answer as their detectors do, say what they are, and run without torch."""

import copy
import json
import os
import pickle
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from builders import tiny
from builders.networks import ON_TRUNK, face, images, on_trunk_config, schemas_of, tiny_config
from builders.places import ROOT, SRC
from stylealign.batches.batch import to_float
from stylealign.cli import main
from stylealign.config import to_dict
from stylealign.data.dataset import FaceDataset
from stylealign.data.image import write_image
from stylealign.detectors import DETECTORS, build_detector
from stylealign.detectors.lab.config import LABConfig
from stylealign.detectors.wing import WingConfig
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.crop import CropConfig
from stylealign.face.schema import SCHEMAS
from stylealign.jobs.draw_faces import DrawFaces
from stylealign.jobs.export import job
from stylealign.jobs.export.graph import MOST_MOVED, answering, halved, kept_in_float, quantize, quantized, trace
from stylealign.predicting.network import open_network
from stylealign.predicting.onnx_network import (
    NEEDED,
    OnnxDetector,
    adds_in_32_bits,
    read_metadata,
    start_session,
    to_metadata,
)
from stylealign.toyfaces import draw_face, face_of
from stylealign.training.weights import save_model

HERE = find_spec("onnx") is not None and find_spec("onnxruntime") is not None
needs_onnx = pytest.mark.skipif(not HERE, reason="needs onnx and onnxruntime: pip install 'stylealign[export]'")
SIZE = 32
# name: (detector, its shape, side of the crop)
CASES: dict[str, tuple[str, Any, int]] = {name: (name, tiny_config(name), SIZE) for name in DETECTORS}
# A lab whose maps of 20 cells go to 3 places, which pooling to a size that divides them does not show.
CASES["lab"] = ("lab", LABConfig(stacks=1, channels=8, depth=1, width=2, hidden=4, feature_fusion=2), 40)
CASES |= {f"{name} on a trunk": (name, on_trunk_config(name), SIZE) for name in ON_TRUNK}
CASES["wing, two stages"] = ("wing", WingConfig(width=2, hidden=8, two_stage=True), SIZE)


def model_of(case: str) -> torch.nn.Module:
    """A network whose normalisations have seen something, so that folding them away matters."""
    name, config, size = CASES[case]
    torch.manual_seed(0)
    schemas = schemas_of(name)
    model = build_detector(name, schemas, size, config)
    model.mean_shape.copy_(face(schemas[0], size))  # type: ignore[operator,union-attr]
    with torch.no_grad():
        model.train()
        for seed in range(3):
            model(images(4, size, seed))
    return model.eval()


@pytest.fixture(scope="module")
def traced() -> dict[str, Any]:
    """(network, graph) of every case, made when first asked for."""
    return {}


def graph_of(case: str, traced: dict[str, Any]) -> tuple[torch.nn.Module, Any]:
    if case not in traced:
        model = model_of(case)
        traced[case] = model, trace(answering(model), CASES[case][2])
    return traced[case]


def run_of(folder: Path, case: str = "resnet18") -> Path:
    """A finished run folder of a network that has learnt nothing."""
    name, config, size = CASES[case]
    schemas = schemas_of(name)
    card = {
        "kind": "detector", "model": name, "network": to_dict(config), "schema": schemas[0].to_dict(),
        "crop": to_dict(CropConfig(size=size)),
        "other_schemas": [s.to_dict() for s in schemas[1:]], "data": [{"name": "drawn", "faces": 4}],
        "start": {"data": [{"name": "before", "faces": 9, "content_hash": "a"}]},
    }  # fmt: skip
    folder.mkdir()
    save_model(folder, model_of(case).state_dict(), card)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(tmp_path_factory.mktemp("runs") / "wflw", "resnet18")


@pytest.fixture(autouse=True)
def _quick(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STYLEALIGN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr(job, "TURNS", 1)
    monkeypatch.setattr(job, "SECONDS", 0.01)
    monkeypatch.setattr(job, "THREADS", (1,))  # two would wait for each other on a busy machine


# --------------------------------------------------------------------------------------------------------------------
# Graphs


@needs_onnx
@pytest.mark.parametrize("case", CASES)
def test_every_detector_answers_the_same_in_onnx_at_any_batch_size(case: str, traced: dict[str, Any]) -> None:
    model, graph = graph_of(case, traced)
    session = start_session(graph.SerializeToString(), 1)
    assert [i.shape for i in session.get_inputs()] == [["batch", 3, CASES[case][2], CASES[case][2]]]
    for batch in (1, 2, 5, 16):
        image = images(batch, CASES[case][2], seed=batch)
        with torch.no_grad():
            expected = model(image)
        landmarks, *confidence = session.run(None, {"image": image.numpy()})
        assert np.abs(landmarks - expected.landmarks.numpy()).max() < 1e-3
        assert bool(confidence) == (expected.heatmaps is not None)
        if confidence:
            peaks = expected.heatmaps.amax(dim=(2, 3)).clamp(0, 1).numpy()
            np.testing.assert_allclose(confidence[0], peaks, atol=1e-4)


def tiny_graph() -> Any:
    """conv -> relu -> conv -> relu -> flatten -> gemm -> mul -> add, and a mean shape that a product
    makes: worked out by hand below."""
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, *shape: int) -> Any:
        values = np.random.default_rng(len(name)).normal(size=shape).astype(np.float32)
        return numpy_helper.from_array(values, name)

    nodes = [
        ("Conv", ["image", "w1"], "a", {"kernel_shape": [3, 3]}), ("Relu", ["a"], "b", {}),
        ("Conv", ["b", "w2"], "c", {"kernel_shape": [3, 3]}), ("Relu", ["c"], "d", {}), ("Flatten", ["d"], "e", {}),
        ("Gemm", ["e", "w3"], "f", {}), ("Mul", ["f", "unit"], "g", {}),
        ("Mul", ["mean", "unit"], "shape", {}), ("Add", ["g", "shape"], "landmarks", {}),
    ]  # fmt: skip
    made = [helper.make_node(op, inputs, [out], name=f"{op}_{out}", **more) for op, inputs, out, more in nodes]
    weights = [constant("w1", 4, 3, 3, 3), constant("w2", 6, 4, 3, 3), constant("w3", 96, 10)]
    weights += [constant("unit", 1), constant("mean", 10)]
    sides = {"image": ["batch", 3, 8, 8], "landmarks": ["batch", 10]}
    info = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in sides.items()}
    graph = helper.make_graph(made, "hand", [info["image"]], [info["landmarks"]], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@needs_onnx
def test_the_last_layer_and_what_is_in_pixels_stays_in_float() -> None:
    assert set(kept_in_float(tiny_graph())) == {"Gemm_f", "Mul_g", "Add_landmarks", "Mul_shape"}


@needs_onnx
def test_the_layer_that_makes_maps_stays_in_float_and_their_moments_are_no_layer() -> None:
    """The product of a map's shares with the places of its cells has a constant, as a layer has weights."""
    kept = kept_in_float(trace(answering(model_of("fpn")), SIZE))
    assert [name for name in kept if name.endswith("/Conv")] == ["/model/head/points/Conv"]
    assert any(name.endswith("/MatMul") for name in kept)


@needs_onnx
def test_half_precision_halves_the_layers_and_not_the_last() -> None:
    from onnx import TensorProto

    graph = tiny_graph()
    half = halved(graph)
    kinds = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert (kinds["w1"], kinds["w2"], kinds["w3"]) == (TensorProto.FLOAT16, TensorProto.FLOAT16, TensorProto.FLOAT)
    assert {t.data_type for t in graph.graph.initializer} == {TensorProto.FLOAT}  # what came in is as it was
    crops = images(3, 8).numpy()
    exact, rough = (start_session(g.SerializeToString(), 1).run(None, {"image": crops})[0] for g in (graph, half))
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - exact).max() < 0.01 * np.abs(exact).max()


@needs_onnx
def test_int8_weights_have_a_scale_a_channel_and_the_last_layer_none() -> None:
    graph, crops = tiny_graph(), images(8, 8).numpy()
    small = quantize(graph, crops, kept_in_float(graph))
    import onnxruntime
    from onnx import numpy_helper

    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in small.graph.initializer}
    assert weights["w1_quantized"].dtype == np.int8
    assert weights["w1_scale"].shape == (4,)
    assert weights["w2_scale"].shape == (6,)
    assert weights["w3"].dtype == np.float32
    # Of a channel's 255 steps each is a 127th of its largest weight.
    np.testing.assert_allclose(weights["w1_scale"], np.abs(numpy_weights(graph, "w1")).max(axis=(1, 2, 3)) / 127,
        rtol=1e-5)  # fmt: skip
    exact, rough = (start_session(g.SerializeToString(), 1).run(None, {"image": crops})[0] for g in (graph, small))
    assert 0 < np.abs(rough - exact).max() < 0.05 * np.abs(exact).max()
    # The same numbers as where every product is one of floats: on processors without VNNI they were ten times as far.
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = onnxruntime.InferenceSession(small.SerializeToString(), options, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(rough, plain.run(None, {"image": crops})[0], atol=0.02 * np.abs(exact).max())


def test_the_slow_way_of_8_bits_is_left_only_where_the_processor_is_known_to_need_it_not(tmp_path: Path) -> None:
    """Asked for on a processor with VNNI too, it made int8 slower than float32: 4.0 ms instead of 2.2."""
    for flags, known in (("fma avx2", False), ("avx2 avx512_vnni", True), ("avx2 avx_vnni", True)):
        (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : fpu {flags}\n")
        assert adds_in_32_bits(tmp_path / "cpuinfo") == known
    assert not adds_in_32_bits(tmp_path / "none")  # not Linux


@needs_onnx
def test_a_layer_that_8_bits_would_ruin_stays_in_float() -> None:
    """One channel of the last map is ten thousand times the others and means nothing to the answer: 256 steps over
    all of it are none for the rest."""
    model = copy.deepcopy(model_of("resnet18"))
    last = model.layer4[-1]  # type: ignore[union-attr,index]
    per_channel = model.fc.in_features // last.bn2.num_features  # type: ignore[union-attr,operator]
    with torch.no_grad():
        model.fc.weight *= 30  # type: ignore[union-attr,operator]
        model.fc.weight[:, :per_channel] = 0  # type: ignore[union-attr,index]
        last.bn2.weight[0] *= 1e4  # type: ignore[union-attr,index]
    crops = images(6, SIZE).numpy()
    graph = trace(answering(model), SIZE)

    def moved(small: Any) -> float:
        exact, rough = (start_session(g.SerializeToString(), 1).run(None, {"image": crops})[0] for g in (graph, small))
        return float(np.linalg.norm(rough - exact, axis=2).mean())

    small, more = quantized(graph, crops)
    assert more >= 1
    assert moved(small) <= MOST_MOVED * SIZE < moved(quantize(graph, crops, kept_in_float(graph)))
    assert set(kept_in_float(graph)) < set(kept_in_float(graph, 1))


@needs_onnx
def test_layers_at_the_image_stay_in_float_where_they_are_the_ones_that_8_bits_would_ruin() -> None:
    """One channel of the first map is ten thousand times the others and means nothing to the next layer."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    shapes = {"w1": (4, 3, 3, 3), "w2": (6, 4, 3, 3), "w3": (6, 6, 3, 3), "w4": (24, 10)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    weights["w1"][0] *= 1e4
    weights["w2"][:, 0] = 0
    nodes, last = [], "image"
    for name in ("w1", "w2", "w3"):
        nodes.append(helper.make_node("Conv", [last, name], [f"{name}_map"], name=f"Conv_{name}", kernel_shape=[3, 3]))
        nodes.append(helper.make_node("Relu", [f"{name}_map"], [last := f"{name}_kept"], name=f"Relu_{name}"))
    nodes.append(helper.make_node("Flatten", [last], ["flat"], name="Flatten"))
    nodes.append(helper.make_node("Gemm", ["flat", "w4"], ["landmarks"], name="Gemm_w4"))
    sides = {"image": ["batch", 3, 8, 8], "landmarks": ["batch", 10]}
    info = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in sides.items()}
    made = helper.make_graph(nodes, "hand", [info["image"]], [info["landmarks"]],
        [numpy_helper.from_array(values, name) for name, values in weights.items()])  # fmt: skip
    graph = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    # Half a pixel at most, of which 8 bits of a fit layer move less than the limit.
    scale = (
        0.5 / np.abs(start_session(graph.SerializeToString(), 1).run(None, {"image": images(8, 8).numpy()})[0]).max()
    )
    graph.graph.initializer[3].CopyFrom(numpy_helper.from_array(weights["w4"] * scale, "w4"))
    small, more = quantized(graph, images(8, 8).numpy())
    assert more == 1, "the layer that reads the channel; the one that makes it sees the picture, and stays anyway"
    assert {"w1", "w2", "w3_quantized"} <= {tensor.name for tensor in small.graph.initializer}
    assert set(kept_in_float(graph, 0, 2)) - set(kept_in_float(graph)) == {"Conv_w1", "Relu_w1", "Conv_w2", "Relu_w2"}


def numpy_weights(graph: Any, name: str) -> np.ndarray:
    from onnx import numpy_helper

    return next(numpy_helper.to_array(tensor) for tensor in graph.graph.initializer if tensor.name == name)


@needs_onnx
@pytest.mark.parametrize("case", DETECTORS)
def test_every_detector_runs_in_float16_and_int8(case: str, traced: dict[str, Any]) -> None:
    model, graph = graph_of(case, traced)
    crops = images(6, CASES[case][2])
    with torch.no_grad():
        expected = model(crops).landmarks.numpy()
    for small, allowed in ((halved(graph), 0.2), (quantize(graph, crops.numpy(), kept_in_float(graph)), 1.0)):
        session = start_session(small.SerializeToString(), 1)
        apart = np.abs(session.run(None, {"image": crops.numpy()})[0] - expected)
        # Of random maps, the highest cell is anybody's guess: for san most landmarks have to agree.
        assert (np.median(apart) if case == "san" else apart.max()) < allowed


@needs_onnx
def test_the_package_s_kind_of_network_has_a_small_graph(traced: dict[str, Any]) -> None:
    """No sides computed anew in every call, no ReLU6 apart from its layer's 8 bits, no constant that nothing reads."""
    _, graph = graph_of("fpn", traced)
    kinds = [node.op_type for node in graph.graph.node]
    assert "Clip" in kinds  # of a MobileNetV2
    assert not {"Shape", "Range", "Slice"} & set(kinds)
    made = quantize(graph, images(6, CASES["fpn"][2]).numpy(), kept_in_float(graph))
    assert "Clip" not in [node.op_type for node in made.graph.node]
    read = {name for node in made.graph.node for name in node.input}
    unread = {node.output[0] for node in made.graph.node if node.op_type == "Constant"} - read
    assert not unread


# --------------------------------------------------------------------------------------------------------------------
# Metadata


def card() -> dict[str, Any]:
    return {
        "model": "lab", "model_hash": "abc", "crop": {"size": 64, "scale": 1.3, "box": "given"},
        "schema": SCHEMAS["cofw29"].to_dict(),
        "data": [{"name": "faces", "content_hash": "def", "faces": 9}],
    }  # fmt: skip


def test_metadata_comes_back_as_it_was_written() -> None:
    texts = to_metadata(card(), "int8", {"name": "faces", "faces": 3})
    assert all(isinstance(text, str) for text in texts.values())
    found = read_metadata(texts, Path("m.onnx"))
    assert {key: found[key] for key in card()} == card()
    assert (found["precision"], found["value_range"], found["calibration"]["faces"]) == ("int8", [-1, 1], 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": None}, r"m\.onnx: an ONNX file of another model \(kind 'not stated' in its metadata"),
        ({"kind": "yolo"}, r"kind 'yolo' in its metadata, expected 'stylealign-detector'"),
        ({"format": "2"}, "metadata of format 2, expected 1"),
        ({"value_range": "[0, 1]"}, r"expects values in \[0, 1\], expected \[-1, 1\]"),
        ({"crop": "{"}, "metadata's 'crop': not valid JSON"),
        *(({key: None}, f"no '{key}' in its metadata") for key in NEEDED),
    ],
)
def test_metadata_of_another_model_is_refused(change: dict[str, str | None], said: str) -> None:
    texts = {k: v for k, v in (to_metadata(card(), "fp32") | change).items() if v is not None}
    with pytest.raises(UserError, match=said):
        read_metadata(texts, Path("m.onnx"))


# --------------------------------------------------------------------------------------------------------------------
# The job and its file


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    return tiny.drawn(tmp_path_factory.mktemp("data") / "drawn", 12)


@needs_onnx
def test_a_file_says_what_it_is_and_answers_without_torch(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "model.onnx"
    assert main(["export", str(run), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "px at batch 1, " in printed
    assert "px at batch 16 (at most 0.01 allowed)" in printed
    assert [p.name for p in out.parent.iterdir()] == ["model.onnx"]
    detector, told = OnnxDetector(out), json.loads((run / "card.json").read_text())
    assert detector.crop == CropConfig(size=SIZE)
    assert detector.schema == SCHEMAS["ibug68"]
    assert detector.hash == told["model_hash"]
    assert detector.card["precision"] == "fp32"
    assert [d["name"] for d in detector.card["data"]] == ["drawn", "before"]  # its own training's, and its start's
    landmarks, confidence = detector(images(3).numpy())
    with torch.no_grad():
        np.testing.assert_allclose(landmarks, model_of("resnet18")(images(3)).landmarks.numpy(), atol=1e-3)
    assert confidence is None
    again = pickle.loads(pickle.dumps(detector))  # as a spawned worker gets it
    assert np.array_equal(again(images(3).numpy())[0], landmarks)
    assert detector(images(0).numpy())[0].shape == (0, 68, 2)
    with pytest.raises(ValueError, match=r"crops of shape \(1, 3, 48, 48\), expected \(B, 3, 32, 32\)"):
        detector(images(1, 48).numpy())

    code = (
        "import sys, numpy\nfrom stylealign.predicting.onnx_network import OnnxDetector\n"
        f"landmarks, _ = OnnxDetector({str(out)!r})(numpy.load({str(tmp_path / 'crops.npy')!r}))\n"
        f"numpy.save({str(tmp_path / 'landmarks.npy')!r}, landmarks)\nassert 'torch' not in sys.modules\n"
    )
    np.save(tmp_path / "crops.npy", images(3).numpy())
    path = os.pathsep.join([str(SRC), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ,
            "PYTHONPATH": path})  # fmt: skip
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "landmarks.npy"), landmarks, atol=1e-4)

    before = out.read_bytes()
    assert main(["export", str(run), "--out", str(out)]) == 2
    assert "model.onnx: already there" in capsys.readouterr().err
    assert out.read_bytes() == before


@needs_onnx
def test_predict_answers_alike_from_the_run_and_without_torch_from_the_file(run: Path, tmp_path: Path) -> None:
    structure, style, _ = face_of(DrawFaces(out=Path("drawn"), count=1), 0)
    write_image(tmp_path / "face.png", draw_face(structure, style, 96)[0])
    assert main(["export", str(run), "--out", str(tmp_path / "m.onnx")]) == 0
    path = os.pathsep.join([str(SRC), os.environ.get("PYTHONPATH", "")])
    found = {}
    for flag, model in (("--model", run), ("--onnx", tmp_path / "m.onnx")):
        out = tmp_path / model.name.replace(".", "_")
        flags = ["predict", str(tmp_path / "face.png"), "--whole-image", flag, str(model), "--out", str(out)]
        code = (
            f"import sys\nfrom stylealign.cli import main\nassert main({flags!r}) == 0\nprint('torch' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ,
                "PYTHONPATH": path})  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[-1] == str(flag == "--model")
        found[flag] = np.array(json.loads((out / "predictions.jsonl").read_text())["landmarks"])
    np.testing.assert_allclose(found["--model"], found["--onnx"], atol=0.05)  # px of the picture, three of the crop's
    with pytest.raises(UserError, match=r"m\.onnx: ONNX files run on the CPU here, not on cuda"):
        open_network(tmp_path / "m.onnx", "cuda")


@needs_onnx
def test_int8_is_calibrated_on_crops_and_measured_beside_fp32(
    drawn: FaceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faces, out = str(drawn.folder), tmp_path / "int8.onnx"
    run = tmp_path / "run"
    name, config, size = "resnet18", tiny_config("resnet18"), SIZE
    model = build_detector(name, (SCHEMAS["wflw98"],), size, config)
    model.mean_shape.copy_(face(SCHEMAS["wflw98"], size))  # type: ignore[operator,union-attr]
    run.mkdir()
    described = {"kind": "detector", "model": name, "network": to_dict(config), "crop": to_dict(CropConfig(size=size))}
    save_model(run, model.state_dict(), {**described, "schema": SCHEMAS["wflw98"].to_dict()})
    flags = ["--precision", "int8", "--calibrate", faces, "--calibrate-faces", "4", "--data", faces, "--latency"]
    assert main(["export", str(run), "--out", str(out), *flags]) == 0
    printed = capsys.readouterr().out
    rows = {cells[1].strip(): cells for line in printed.splitlines() if len(cells := line.split("│")) > 5}
    assert set(rows) == {"PyTorch", "ONNX fp32", "ONNX int8"}
    assert float(rows["PyTorch"][5]) == pytest.approx(float(rows["ONNX fp32"][5]), abs=0.002)
    assert all(float(cell) > 0 for row in rows.values() for cell in row[6:8])  # two batches
    detector = OnnxDetector(out)
    assert detector.card["precision"] == "int8"
    expected = {"name": drawn.name, "split": "train", "faces": 4, "content_hash": drawn.content_hash}
    assert detector.card["calibration"] == expected


@needs_onnx
def test_a_file_that_answers_otherwise_is_not_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def moved(model: torch.nn.Module, *trust: Any) -> Any:
        network = answering(model, *trust)
        network.model.mean_shape[5, 1] += 0.02  # type: ignore[index,operator]
        return network

    monkeypatch.setattr(job, "answering", moved)
    assert main(["export", str(run), "--out", str(tmp_path / "model.onnx")]) == 2
    said = capsys.readouterr().err
    assert "the ONNX fp32 answers differ by 0.0200 px from PyTorch's at batch 1 (face " in said
    assert "landmark 5, y), expected at most 0.01 px: nothing was written" in said
    assert list(tmp_path.iterdir()) == []


@needs_onnx
def test_wrong_input_of_the_verb_is_one_sentence(
    run: Path, drawn: FaceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, faces = str(tmp_path / "m.onnx"), str(drawn.folder)
    for flags, said in (
        (["--out", str(tmp_path / "m.pt")], "expected a name that ends in .onnx"),
        (["--out", out, "--precision", "int8"], "int8 takes its ranges from real crops: give --calibrate"),
        (["--out", out, "--calibrate-faces", "0"], "calibrate_faces is 0, expected at least 1"),
        (["--out", out, "--data", faces], "annotated with wflw98, the detector answers in ibug68"),
        (["--out", out, "--data", str(tmp_path)], "not a dataset folder"),
    ):
        assert main(["export", str(run), *flags]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert "Traceback" not in error
    assert main(["export", str(tmp_path), "--out", out]) == 2
    assert "not a run folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@needs_onnx
def test_an_onnx_file_of_another_model_is_refused(tmp_path: Path) -> None:
    other, text = tmp_path / "other.onnx", tmp_path / "text.onnx"
    other.write_bytes(tiny_graph().SerializeToString())
    text.write_text("not a model")
    with pytest.raises(UserError, match=r"other\.onnx: an ONNX file of another model"):
        OnnxDetector(other)
    with pytest.raises(UserError, match=r"text\.onnx: not an ONNX file that onnxruntime can load"):
        OnnxDetector(text)
    with pytest.raises(UserError, match=r"nowhere\.onnx: no such file"):
        OnnxDetector(tmp_path / "nowhere.onnx")
    # Our metadata on a graph that is none of ours.
    graph = tiny_graph()
    for key, value in to_metadata(card(), "fp32").items():
        graph.metadata_props.add(key=key, value=value)
    other.write_bytes(graph.SerializeToString())
    with pytest.raises(UserError, match=r"inputs \[\('image', \[3, 8, 8\]\)\].*expected image \(batch, 3, 64, 64\)"):
        OnnxDetector(other)


@needs_onnx
def test_the_page_s_lines_of_numpy_find_what_stylealign_finds(
    traced: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/export.md is copied into programs that know nothing of this library: its pixels must be ours."""
    model, graph = graph_of("resnet18", traced)
    told = card() | {"crop": to_dict(CropConfig(size=SIZE)), "schema": SCHEMAS["ibug68"].to_dict()}
    job._write(copy.deepcopy(graph), to_metadata(told, "fp32"), tmp_path / "model.onnx")
    structure, style, _ = face_of(DrawFaces(out=tmp_path, count=1), 0)
    photo = draw_face(structure, style, 256)[0]
    write_image(tmp_path / "photo.png", photo)
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    alone, ours = re.findall(r"^```py\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(alone, "export.md", "exec"), names)
    affine = geometry.crop_affine(np.array([names[k] for k in ("x0", "y0", "x1", "y1")]), 1.4, SIZE)
    square = cv2.warpAffine(photo, affine, (SIZE, SIZE), flags=cv2.INTER_LINEAR)
    with torch.no_grad():
        found = model(to_float(torch.from_numpy(square[None]))).landmarks[0].double().numpy()
    np.testing.assert_allclose(names["landmarks"], geometry.apply(geometry.invert(affine), found), atol=0.05)
    exec(compile(ours, "export.md", "exec"), names)
    np.testing.assert_allclose(names["landmarks"][0], found, atol=0.01)


def test_without_the_packages_a_sentence_names_the_command(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(UserError, match=r"onnxruntime, which is not installed: pip install 'stylealign\[export\]'"):
        OnnxDetector(tmp_path / "model.onnx")
    assert main(["export", str(run), "--out", str(tmp_path / "new.onnx")]) == 2
    assert "which is not installed: pip install" in capsys.readouterr().err


@needs_onnx
def test_a_damaged_graph_that_loads_is_told_when_it_is_asked(tmp_path: Path) -> None:
    from onnx import numpy_helper

    path, crops = tmp_path / "m.onnx", np.zeros((2, 3, 8, 8), np.float32)

    def asked(graph: Any) -> None:
        for key, value in to_metadata({**card(), "crop": {"size": 8}}, "fp32").items():
            graph.metadata_props.add(key=key, value=value)
        path.write_bytes(graph.SerializeToString())
        OnnxDetector(path)(crops)

    with pytest.raises(UserError, match=r"m\.onnx: answers of shapes \[\(2, 10\)\], expected \[\(2, 29, 2\)\]"):
        asked(tiny_graph())
    graph = tiny_graph()
    graph.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "bias"))
    graph.graph.node[0].input.append("bias")  # of a convolution of 4 channels
    with pytest.raises(UserError, match=r"m\.onnx: its graph cannot be computed \(.*size output_channels \(4\)"):
        asked(graph)
