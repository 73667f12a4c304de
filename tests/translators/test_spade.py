"""`spade`: its training pass, its discriminator, and the losses on swaps that it shares with others, by hand-worked
cases."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from builders.translator_contract import FACE, fresh, some_faces, tiny
from stylealign.detectors.output import DetectorOutput
from stylealign.errors import UserError
from stylealign.face.schema import FIVE
from stylealign.translators.learning import FrozenLandmarks, landmark_drift
from stylealign.translators.patches import PatchDiscriminator, hinge_discriminator, hinge_generator
from stylealign.translators.regions import region_masks
from stylealign.translators.spade.learning import SpadeLearningConfig
from stylealign.translators.spade.network import Spade, SpadeConfig

SIZE, NETWORK = tiny("spade").size, tiny("spade").network


class Centroid(nn.Module):
    """A detector of one landmark: the centre of mass of the red channel."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, image: Tensor) -> DetectorOutput:
        weight = (image[:, 0] + 1) / 2
        at = torch.arange(float(image.shape[-1]))
        total = weight.sum(dim=(1, 2))
        place = torch.stack([(weight.sum(1) * at).sum(1), (weight.sum(2) * at).sum(1)], dim=1) / total[:, None]
        return DetectorOutput(self.scale * place[:, None])


def blob(x: float, y: float, size: int) -> Tensor:
    at = torch.arange(float(size))
    value = torch.exp(-((at - x) ** 2 + (at[:, None] - y) ** 2) / (2 * (size / 16) ** 2))
    return (2 * value - 1).expand(1, 3, size, size).clone()


@pytest.mark.parametrize("detector_size", [64, 32])
def test_landmark_drift_is_the_distance_moved_in_percent_of_the_side(detector_size: int) -> None:
    watch = FrozenLandmarks(Centroid(), detector_size)
    content = blob(30, 32, 64)
    assert float(landmark_drift(watch, content, content)) == 0
    moved = landmark_drift(watch, blob(30 + 3, 32 + 4, 64), content)
    assert float(moved) == pytest.approx(100 * 5 / 64, rel=2e-2)


def test_the_frozen_detector_gets_no_gradient_and_the_pictures_do() -> None:
    detector = Centroid()
    made = blob(20, 30, 64).requires_grad_()
    content = blob(30, 30, 64).requires_grad_()
    landmark_drift(FrozenLandmarks(detector, 64), made, content).backward()
    assert detector.scale.grad is None
    assert content.grad is None
    assert made.grad is not None
    assert float(made.grad.abs().max()) > 0


def test_hinge_losses_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-2.0, 0.5])
    assert float(hinge_discriminator(real, fake)) == 0.25 + 0.75
    assert float(hinge_generator(fake)) == 0.75


@pytest.mark.parametrize(("halvings", "patch"), [(2, 18), (3, 38)])
def test_a_patch_s_answer_depends_on_as_many_pixels_as_said(halvings: int, patch: int) -> None:
    torch.manual_seed(0)
    model = PatchDiscriminator(4, halvings).eval()
    image = torch.randn(1, 3, 96, 96, requires_grad=True)
    answer = model(image)
    answer[0, 0, answer.shape[2] // 2, answer.shape[3] // 2].backward()
    assert image.grad is not None
    seen = image.grad[0].abs().sum(0).nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [patch, patch]


def test_a_training_pass_swaps_neighbours_styles() -> None:
    torch.manual_seed(0)
    model = Spade(NETWORK, SIZE, 3).eval()
    maps, masks, view = (
        torch.rand(3, 3, SIZE, SIZE),
        region_masks(FACE.expand(3, -1, -1) / 2, SIZE, FIVE),
        some_faces(3, SIZE)[0],
    )
    out = model(maps, masks, view, masks, 0.0)
    style = model.encode_style(view, masks)
    torch.testing.assert_close(out.image, model.decode(maps, masks, style))
    donor = [s[[2, 0, 1]] for s in style]
    torch.testing.assert_close(out.swapped, model.decode(maps, masks, donor))
    torch.testing.assert_close(out.again[0], model.encode_style(out.swapped, masks)[0])


def test_reading_a_swap_s_code_teaches_the_decoder_and_not_the_reader() -> None:
    torch.manual_seed(0)
    model = Spade(NETWORK, SIZE, 3)
    maps, masks = torch.rand(2, 3, SIZE, SIZE), torch.zeros(2, 6, SIZE, SIZE)
    out = model(maps, masks, some_faces(2, SIZE)[0], masks, 1.0)
    # Codes reach the swap through the decoder alone: cut there, and nothing of the encoder is left in what is read.
    decode = lambda maps, masks, style: Spade.decode(model, maps, masks, [s.detach() for s in style])  # noqa: E731
    model.decode = decode  # type: ignore[method-assign]
    cut = model(maps, masks, some_faces(2, SIZE)[0], masks, 1.0)
    cut.again[0].sum().backward()
    assert all(p.grad is None for p in model.style_encoder.parameters())
    assert model.to_image.weight.grad is not None
    torch.testing.assert_close(cut.again[0], out.again[0])


def test_regions_of_the_style_count_where_they_are_known() -> None:
    translator, (image, landmarks) = fresh("spade"), some_faces(3, SIZE)
    made = translator.translate(None, landmarks, image, landmarks)
    assert not torch.equal(translator.translate(None, landmarks, image, landmarks + 3), made)
    assert not torch.equal(translator.translate(None, landmarks, image, None), made)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Spade(NETWORK, 48, 3), "size 48 must be 4 times a power of two"),
        (lambda: SpadeConfig(hidden=0), "expected at least 1"),
        (lambda: SpadeLearningConfig(adversarial=-1), "expected 0 or more"),
        (lambda: SpadeLearningConfig(forget=2), "expected 0 to 1"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(make: Any, sentence: str) -> None:
    with pytest.raises((ValueError, UserError), match=sentence):
        make()
