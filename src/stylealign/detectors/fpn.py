"""Any trunk (trunks/) under any head (heads/), by any loss that fits: one detector. Knows no files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from stylealign.batches.batch import Batch
from stylealign.batches.together import shared
from stylealign.detectors.heads import HEADS, HeadConfig, TermsConfig, Truth, refuse_misfits
from stylealign.detectors.heads.coordinates import CoordinatesHead
from stylealign.detectors.heads.pip import PIPHead
from stylealign.detectors.learning import Learner, Learning
from stylealign.detectors.losses import LossConfig, mean_error, point_weights
from stylealign.detectors.on_trunk import refuse_lone_faces
from stylealign.detectors.output import DetectorOutput
from stylealign.detectors.trunk_choice import TrunkName
from stylealign.detectors.trunks import TRUNKS, build_trunk, load_imagenet_trunk
from stylealign.training.optim import set_lr


@dataclass(frozen=True, kw_only=True, slots=True)
class FPNConfig:
    """The network's shape, and what it learns by."""

    trunk: TrunkName = "mobilenet_v2"
    """What looks at the picture."""
    width: float = 1.0
    """Of the trunk, over its usual one; ImageNet weights need 1."""
    cut: Literal[16, 32] = 32
    """Last stride of the trunk: 16 leaves out its last layers, most of its weights."""
    neck: int = 64
    """Channels of the pyramid between trunk and head."""
    head: HeadConfig = field(default_factory=HeadConfig)
    loss: TermsConfig = field(default_factory=TermsConfig)

    def __post_init__(self) -> None:
        if not self.width > 0 or self.neck < 1:
            raise ValueError(f"fpn of width {self.width} and neck {self.neck}: expected above 0, and at least 1")
        refuse_misfits(self.head, self.loss, self.cut)


class FPN(nn.Module):
    """(B, 3, size, size) crops in [-1, 1] -> landmarks (B, P, 2) in crop px and a covariance (B, P, 2, 2) px^2 each;
    `stages` holds what the head computes them from (heads/).

    Buffer `mean_shape` (P, 2) px holds the mean of the training labels.
    """

    mean_shape: Tensor

    def __init__(self, num_points: int, size: int, config: FPNConfig):
        super().__init__()
        self.size, self.config = size, config
        head = HEADS[config.head.kind]
        stride = config.head.stride or head.stride(size, config.cut)
        self.trunk, channels = build_trunk(config.trunk, size, config.width, config.cut, stride)
        self.head = head.build(channels, stride, num_points, size, config.neck, config.head, config.loss.terms)
        self.register_buffer("mean_shape", torch.zeros(num_points, 2))

    def forward(self, image: Tensor) -> DetectorOutput:
        return self.head(self.trunk(image), self.mean_shape)


def load_imagenet_fpn(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load ImageNet weights into the trunk (trunks/imagenet.py); pyramid and head stay as they are."""
    assert isinstance(model, FPN)
    load_imagenet_trunk(model.trunk, model.config.trunk, model.size, state, where)


def fpn_terms(model: FPN, out: DetectorOutput, batch: Batch, loss: LossConfig) -> dict[str, Tensor]:
    """Each term of the loss, a scalar: the mean over labelled landmarks, by their weights; 0 where nothing is labelled.

    A landmark without a label gets its own answer for one, and weighs nothing.
    """
    labelled = torch.isfinite(batch.landmarks).all(dim=-1)
    target = torch.where(labelled[..., None], batch.landmarks.float(), out.landmarks.detach())
    within = point_weights(batch.landmarks, batch.visible, batch.point_weights(), loss.hidden_weight, target.dtype)
    truth = Truth(target, labelled, loss, model.config.loss, model.size, within)
    weights = point_weights(batch.landmarks, batch.visible, batch.weights(), loss.hidden_weight, target.dtype)
    each: dict[str, Tensor] = {
        name: HEADS[model.config.head.kind].terms[name](model.head, out, truth) for name in model.config.loss.terms
    }
    if isinstance(model.head, CoordinatesHead):
        each |= model.head.own_terms(out, truth)
    whole = shared(weights.sum()).clamp_min(1e-8)
    return {name: (weights * value).sum() / whole for name, value in each.items()}


def learn_fpn(learning: Learning) -> Learner:
    """The weighted sum of the chosen terms, in one update. All come from landmarks and their weights alone."""
    engine, net = learning.engine, learning.model
    assert isinstance(net, FPN)
    refuse_lone_faces(learning, "fpn", net.config.cut)
    if isinstance(net.head, PIPHead):
        net.head.settle(torch.as_tensor(learning.mean_shapes[0]).to(net.mean_shape))
    factors = dict(net.config.loss.weighted())
    model, optimizer = engine.setup(net, learning.optimizer_of(net))

    def update(batches: tuple[Batch, ...], step: int) -> dict[str, Tensor]:
        (batch,) = batches
        set_lr(optimizer, learning.lr_at(step))
        out = model(batch.image)
        terms = fpn_terms(net, out, batch, learning.loss)
        total = torch.stack([factors.get(name, 1.0) * value for name, value in terms.items()]).sum()  # type: ignore[call-overload]
        optimizer.zero_grad(set_to_none=True)
        engine.backward(total)
        optimizer.step()
        return {"total": total, **terms, "error_px": mean_error(out.landmarks, batch.landmarks)}

    return Learner(modules={"model": model}, optimizers={"model": optimizer}, update=update)


NAMED = TrunkName.__args__  # type: ignore[attr-defined]
assert set(TRUNKS) == set(NAMED), "a trunk is named twice: in TRUNKS, and in TrunkName (detectors/trunk_choice.py)"
