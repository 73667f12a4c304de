"""The contract of a detector, for every entry of the table and for one added from outside: what goes
in, what comes out, how it learns, how it comes back from a file. A test class inherits it and gives
`name` as a parameter or a fixture.
"""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builders import tiny
from builders.networks import SIZE, batch, images, job, learning_of, make, schemas_of, tiny_config
from stylealign.config import from_dict, to_dict
from stylealign.data.dataset import FaceDataset
from stylealign.detectors import DETECTORS, DetectorOutput
from stylealign.detectors.loaded import load_detector
from stylealign.face.crop import CropConfig
from stylealign.jobs.train_detector.job import main
from stylealign.predicting.on_datasets import answer_dataset
from stylealign.training.weights import read_card


class DetectorContract:
    @pytest.fixture(scope="class")
    def drawn(self, tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
        return tiny.drawn(tmp_path_factory.mktemp("data") / "drawn")

    @pytest.mark.parametrize("size", [32, 48])
    def test_answers_landmarks_in_crop_pixels(self, name: str, size: int) -> None:
        out = make(name, size).eval()(images(3, size))
        assert isinstance(out, DetectorOutput)
        assert out.landmarks.shape == (3, 68, 2)
        assert out.landmarks.dtype == torch.float32
        assert bool(out.landmarks.isfinite().all())

    def test_a_batch_of_eight_equals_eight_singles(self, name: str) -> None:
        model = make(name).eval()
        with torch.no_grad():
            singles = torch.cat([model(image[None]).landmarks for image in images(8)])
            torch.testing.assert_close(model(images(8)).landmarks, singles, atol=2e-3, rtol=1e-4)

    def test_evaluation_is_deterministic_and_leaves_the_network_alone(self, name: str) -> None:
        model = make(name).eval()
        before = copy.deepcopy(model.state_dict())
        assert torch.equal(model(images(2)).landmarks, model(images(2)).landmarks)
        assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())

    def test_learning_moves_every_trainable_parameter_and_no_frozen_one(
        self, name: str, drawn: FaceDataset, tmp_path: Path
    ) -> None:
        model, schemas = make(name).train(), schemas_of(name)
        before = copy.deepcopy(dict(model.named_parameters()))
        learner = DETECTORS[name].learn(learning_of(model, schemas, steps=8, lr=3e-3))
        frozen = {key: p.detach().clone() for key, p in model.named_parameters() if not p.requires_grad}
        for step in range(8):
            torch.manual_seed(step)
            terms = learner.update(tuple(batch(schema, seed=step) for schema in schemas), step)
            assert {"total", "error_px"} <= set(terms)
            assert all(bool(torch.as_tensor(value).isfinite().all()) for value in terms.values())
        for key, parameter in model.named_parameters():
            if key in frozen:
                assert torch.equal(parameter, frozen[key]), f"{key} is frozen and moved"
            else:
                assert not torch.equal(parameter, before[key]), f"{key} has not moved"

    def test_a_run_comes_back_from_its_folder_and_a_killed_one_ends_the_same(
        self, name: str, drawn: FaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        main(job(name, tmp_path / "whole", drawn, steps=4, checkpoint_every=2))
        card = read_card(tmp_path / "whole", "detector")
        assert (card["model"], card["step"]) == (name, 4)
        assert from_dict(DETECTORS[name].config, card["network"]) == tiny_config(name)
        assert to_dict(CropConfig(size=SIZE)) == card["crop"]
        loaded = load_detector(tmp_path / "whole")
        found = answer_dataset(tmp_path / "whole", drawn).landmarks
        assert found.shape == (len(drawn), loaded.schema.num_points, 2)
        assert np.isfinite(found).all()

        from stylealign.training.run import Run

        write = Run.write_checkpoint

        def killed(self: Run, step: int, *arguments: Any) -> None:
            write(self, step, *arguments)
            if self.target == tmp_path / "killed":
                raise KeyboardInterrupt

        monkeypatch.setattr(Run, "write_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            main(job(name, tmp_path / "killed", drawn, steps=4, checkpoint_every=2))
        monkeypatch.undo()
        monkeypatch.setenv("STYLEALIGN_CACHE", str(tmp_path.parent / "cache"))
        main(job(name, tmp_path / "killed", drawn, steps=4, checkpoint_every=2))
        whole, again = (tmp_path / run / "model.safetensors" for run in ("whole", "killed"))
        assert whole.read_bytes() == again.read_bytes()

    def test_bf16_is_close_to_fp32(self, name: str) -> None:
        model = make(name).eval()
        with torch.no_grad():
            exact = model(images(4)).landmarks
            with torch.autocast("cpu", torch.bfloat16):
                rough = model(images(4)).landmarks
        assert rough.dtype == torch.float32
        if model(images(1)).heatmaps is None:  # of random maps, the highest cell is anybody's guess
            assert float((rough - exact).abs().max()) < 0.06 * float((exact - model.mean_shape).abs().max()) + 0.05
