"""The twin of the packaged weights: it belongs to them, answers as torch does, and spares a shell torch's import."""

import json
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import stylealign
from builders.places import ROOT
from stylealign.data.packaged import COMPACT
from stylealign.jobs.export.job import drawn_crops
from stylealign.predicting.network import open_network
from stylealign.predicting.opencv_network import ABOUT, TWIN, TwinNetwork, twin_fits
from stylealign.predicting.torch_network import TorchNetwork


def test_the_twin_in_the_package_belongs_to_its_weights() -> None:
    assert twin_fits(COMPACT), "run: python scripts/write_twin.py"


def test_it_answers_as_torch_does_one_face_or_several() -> None:
    twin, torch = open_network(), TorchNetwork(COMPACT)
    assert isinstance(twin, TwinNetwork)
    assert (twin.crop, twin.schema, twin.trust) == (torch.crop, torch.schema, torch.trust)
    crops = drawn_crops(twin.crop, 3)
    found, wanted = twin.answer(crops), torch.answer(crops)
    assert np.abs(found[0] - wanted[0]).max() < 0.01
    for mine, theirs in zip(found[1:], wanted[1:], strict=True):  # peaks, covariances
        assert (mine is None) == (theirs is None)
        assert mine is None or np.allclose(mine, theirs, rtol=0.01, atol=1e-3)
    assert np.array_equal(twin(crops[:1])[0], found[0][:1])
    assert twin(crops[:0])[0].shape == (0, twin.schema.num_points, 2)


def test_a_twin_of_other_weights_or_a_damaged_one_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "detector"
    shutil.copytree(COMPACT, folder)
    assert twin_fits(folder)
    about = json.loads((folder / ABOUT).read_text())
    (folder / ABOUT).write_text(json.dumps({**about, "model_hash": "0" * 64}))
    assert not twin_fits(folder)
    (folder / ABOUT).write_text(json.dumps(about))
    with (folder / TWIN).open("ab") as file:
        file.write(b"more")
    assert not twin_fits(folder)
    (folder / TWIN).unlink()
    assert not twin_fits(folder)


def test_weights_without_a_twin_and_a_named_accelerator_go_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_network(COMPACT), TorchNetwork)  # a folder that is named is opened as any run is
    assert not isinstance(open_network(Path("compact")), TorchNetwork)
    monkeypatch.setattr("stylealign.predicting.opencv_network.twin_fits", lambda folder: False)
    assert isinstance(open_network(), TorchNetwork)


def test_landmarks_from_the_shell_need_no_torch(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.full((120, 120, 3), 90, np.uint8)).save(tmp_path / "a.png")
    code = (
        "import sys; from stylealign.cli import main; "
        "status = main(['predict', 'a.png', '--whole-image', '--formats', 'csv', '--draw']); "
        "sys.exit(status or 9 * ('torch' in sys.modules))"
    )
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_threads_that_share_a_detector_get_their_own_answers_and_it_can_be_sent_to_another_process() -> None:
    detector = stylealign.load()
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (96, 96, 3), dtype=np.uint8) for _ in range(4)]
    alone = [detector.predict(picture, whole_image=True)[0].landmarks for picture in pictures]
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda i: detector.predict(pictures[i % 4], whole_image=True)[0].landmarks, range(24)))
    for i, found in enumerate(answers):
        np.testing.assert_array_equal(found, alone[i % 4])
    sent = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(sent.predict(pictures[0], whole_image=True)[0].landmarks, alone[0])
