"""The contract that every entry of DETECTORS keeps: what goes in, what comes out, how it learns, how it comes back from a file."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny
from stylealign.batches.batch import Batch
from stylealign.config import from_dict, to_dict
from stylealign.data.dataset import FaceDataset
from stylealign.detectors import DETECTORS, SECTIONS, DetectorOutput, build_detector
from stylealign.detectors.dvln import DVLNConfig
from stylealign.detectors.lab.network import LABConfig
from stylealign.detectors.learning import Learning
from stylealign.detectors.loaded import load_detector
from stylealign.detectors.resnet import ResNetConfig
from stylealign.detectors.san.cyclegan import CycleGANConfig, GeneratorConfig
from stylealign.detectors.san.network import SANConfig
from stylealign.detectors.wing import WingConfig
from stylealign.face.crop import CropConfig
from stylealign.face.schema import SCHEMAS
from stylealign.jobs.train_detector.job import TrainDetector, main
from stylealign.jobs.train_styles import AuxiliaryStyles, ClusterConfig
from stylealign.predicting.on_datasets import predict_dataset
from stylealign.training.loop import LoopConfig, start_engine
from stylealign.training.weights import read_card

SCHEMA = SCHEMAS["ibug68"]
SIZE = 32
# The smallest networks that go every way the real ones go.
TINY: dict[str, Any] = {
    "resnet18": ResNetConfig(width=4),
    "wing": WingConfig(width=4, hidden=16),
    "lab": LABConfig(stacks=2, channels=8, depth=2, width=4, hidden=8, adversarial_from=0.5),
    "san": SANConfig(generator=GeneratorConfig(width=4, blocks=1), width=2, features=4, hidden=4, top=8, kernel=3),
    "dvln": DVLNConfig(width=4, embedding=8, candidates=2, evidence=2, hidden=4),
}


def test_every_detector_has_a_tiny_one_here_and_a_section_in_the_configuration() -> None:
    assert list(TINY) == list(DETECTORS) == list(SECTIONS)
    for name, section in SECTIONS.items():
        config = TrainDetector(run=Path("run"), model=name)  # type: ignore[arg-type]
        assert type(getattr(config, section)) is DETECTORS[name].config is type(TINY[name])


def schemas_of(name: str) -> tuple[Any, ...]:
    return (SCHEMA, SCHEMAS["wflw98"]) if name == "dvln" else (SCHEMA,)


def make(name: str, size: int = SIZE) -> torch.nn.Module:
    torch.manual_seed(0)
    model = build_detector(name, schemas_of(name), size, TINY[name])
    model.mean_shape.copy_(face(SCHEMA, size))  # type: ignore[operator,union-attr]
    return model


def face(schema: Any, size: int) -> Tensor:
    """(P, 2) a spread of points inside the crop that no two landmarks share."""
    angle = torch.linspace(0, 5.5, schema.num_points)
    return (
        size / 2
        + torch.stack([angle.cos(), angle.sin()], dim=1) * torch.linspace(0.15, 0.4, schema.num_points)[:, None] * size
    )


def images(num: int, size: int = SIZE, seed: int = 0) -> Tensor:
    return torch.rand(num, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def batch(schema: Any, num: int = 4, size: int = SIZE, seed: int = 0) -> Batch:
    noise = torch.randn(num, schema.num_points, 2, generator=torch.Generator().manual_seed(seed))
    return Batch(
        image=images(num, size, seed),
        landmarks=face(schema, size) + noise,
        visible=torch.ones(num, schema.num_points, dtype=torch.bool),
        crop_from_source=torch.eye(2, 3, dtype=torch.float64).expand(num, 2, 3),
        index=torch.arange(num),
        weight=torch.ones(num),
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    return tiny.drawn(tmp_path_factory.mktemp("data") / "drawn")


def job(name: str, run: Path, faces: FaceDataset, **loop: Any) -> TrainDetector:
    """A few updates of the tiny network on drawn faces."""
    config = tiny.detector_job(
        run, faces.folder, {"preview_every": 0, **loop}, model=name, **{SECTIONS[name]: TINY[name]}
    )
    return dataclasses.replace(config, **JOB_CHANGES.get(name, lambda faces: {})(faces))


def second_mark_up(faces: FaceDataset) -> dict[str, Any]:
    return {"other": (faces.folder,), "other_share": 0.5}


def quick_styles(faces: FaceDataset) -> dict[str, Any]:
    small = CycleGANConfig(discriminator_width=4, discriminator_layers=1)
    clusters = ClusterConfig(clusters=2, pair="two_largest", min_faces=1)
    return {"san_styles": AuxiliaryStyles(steps=2, batch_size=2, styles=clusters, cyclegan=small)}


JOB_CHANGES: dict[str, Any] = {"dvln": second_mark_up, "san": quick_styles}


@pytest.mark.parametrize("name", DETECTORS)
class TestEveryDetector:
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
        loop = LoopConfig(steps=8, batch_size=4, accelerator="cpu")
        config = dataclasses.replace(job(name, tmp_path / "run", drawn), loop=loop, weight_decay=0.0)
        model, schemas = make(name).train(), schemas_of(name)
        before = copy.deepcopy(dict(model.named_parameters()))
        engine = start_engine(loop)
        means = tuple(face(schema, SIZE).numpy() for schema in schemas)
        faces = drawn.select("train")
        learner = DETECTORS[name].learn(
            Learning(
                model=model, config=config, engine=engine, schemas=schemas, mean_shapes=means, size=SIZE, faces=faces, folder=tmp_path
            )
        )  # fmt: skip
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
        assert from_dict(DETECTORS[name].config, card["network"]) == TINY[name]
        assert to_dict(CropConfig(size=SIZE)) == card["crop"]
        loaded = load_detector(tmp_path / "whole")
        found = predict_dataset(tmp_path / "whole", drawn)
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
        if name != "san":  # of random maps, the highest cell is anybody's guess
            assert float((rough - exact).abs().max()) < 0.05 * float((exact - model.mean_shape).abs().max()) + 0.05
