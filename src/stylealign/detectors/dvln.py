"""DVLN: one trunk learns from data sets of different mark-ups, and a learned decision
settles between several hypotheses.

Wu and Yang, "Leveraging Intra and Inter-Dataset Variations for Robust Face Alignment" (CVPR workshops 2017). Only its
abstract's facts are at hand (docs/paper_map.md 4.5): a **Dataset-Across Network** with a shared trunk and a head a data
set, so that landmark definitions may differ; a **Candidate-Decision Network** that chooses among the hypotheses of the
first, to absorb pose and expression; real time. Input size, the form of the heads, how candidates come about and every
loss are not stated in anything readable. All of those are chosen here, and each docstring says so; no number of the
paper is claimed. Knows no files.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.batches.batch import Batch
from stylealign.batches.together import Dropout, shared
from stylealign.detectors.heads.parts import started
from stylealign.detectors.learning import Learner, Learning
from stylealign.detectors.losses import LossConfig, coordinate_loss, landmark_loss, mean_error
from stylealign.detectors.mixstyle import MixStyleConfig
from stylealign.detectors.on_trunk import LAST, LastFeatures, last_of
from stylealign.detectors.output import DetectorOutput
from stylealign.detectors.resnet import ResNet18, ResNetConfig, load_imagenet
from stylealign.detectors.trunk_choice import TrunkName, refuse_beside_trunk
from stylealign.detectors.trunks import build_trunk
from stylealign.errors import UserError
from stylealign.face.schema import LandmarkSchema
from stylealign.training.optim import set_lr


@dataclass(frozen=True, kw_only=True, slots=True)
class DVLNConfig:
    """The network's shape and how its candidates learn. Every value is our choice: none is published."""

    width: int = 64
    """Channels of the trunk's first stage; 64 is the usual ResNet-18, 16 fits a CPU."""
    embedding: int = 256
    """Numbers that describe a face to the heads. All that lies before them is shared by the data sets,
    what follows is each one's own."""
    candidates: int = 4
    """Hypotheses a head."""
    spread: float = 15.0
    """Degrees by which the first and the last candidate's starting shapes are turned against the mean shape."""
    decision: Literal["fuse", "choose"] = "fuse"
    """The answer: `fuse` is the mean of the candidates weighted by the decision, `choose` its
    favourite (in training always fused)."""
    evidence: int = 8
    """Numbers the decision reads from the trunk at each landmark of a candidate."""
    hidden: int = 64
    """Width of the decision's hidden layer."""
    dropout: float = 0.0
    """Before the heads."""
    mixstyle: MixStyleConfig = field(default_factory=MixStyleConfig)
    """In training, after the trunk's first and second stage; faces of all data sets mix."""
    relax: float = 0.2
    """Share of the candidates' loss that all but the best divide between them, so that
    none is left without a lesson."""
    candidates_weight: float = 1.0
    """Of the best candidate's loss, beside the answer's."""
    decision_weight: float = 1.0
    """Of the decision's cross-entropy."""
    single: bool = False
    """Allow a single data set: the candidates and the decision alone, to measure what the second data set is worth."""
    trunk: TrunkName | None = None
    """Share this trunk, one of fpn's, instead of a ResNet-18; --pretrained then takes its ImageNet weights."""
    trunk_width: float = 1.0
    """Of that trunk, over its usual one; ImageNet weights need 1."""

    def __post_init__(self) -> None:
        refuse_beside_trunk(self, "dvln", "width", "mixstyle")
        if min(self.width, self.embedding, self.candidates, self.evidence, self.hidden) < 1:
            raise ValueError("dvln: expected width, embedding, candidates, evidence and hidden of at least 1")
        if not (0 <= self.dropout < 1 and 0 <= self.relax < 1):
            raise ValueError(f"dvln: dropout {self.dropout} and relax {self.relax}, expected 0 to below 1")
        if min(self.spread, self.candidates_weight, self.decision_weight) < 0:
            raise ValueError("dvln: expected spread, candidates_weight and decision_weight of at least 0")


# --------------------------------------------------------------------------------------------------------------------
# Candidates and the decision between them


def turned_shapes(mean_shape: Tensor, candidates: int, spread: float) -> Tensor:
    """(K, P, 2) px: the mean shape turned about its centre by angles evenly spaced from -spread to spread degrees.

    The candidates' starting points (chosen: a head's turn is the largest motion that training faces have, and any
    mark-up can be turned). Offsets from them are learned, so they only decide which candidate takes which faces first.
    """
    steps = torch.linspace(-1, 1, candidates) if candidates > 1 else torch.zeros(1)
    angle = torch.deg2rad(spread * steps).to(mean_shape)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(-1, 2, 2)
    centre = mean_shape.mean(dim=0)
    return (mean_shape - centre) @ turn.transpose(1, 2) + centre


def sample_at(maps: Tensor, landmarks: Tensor, size: int) -> Tensor:
    """(B, N, C) values of (B, C, h, w) maps of a `size` px crop at (B, N, 2) px, bilinear;
    beyond the border its own value."""
    grid = (2 * landmarks + 1) / size - 1  # pixel centres at integers: the units of align_corners=False
    return F.grid_sample(maps, grid[:, None], padding_mode="border", align_corners=False)[:, :, 0].transpose(1, 2)


def settle(candidates: Tensor, logits: Tensor, choose: bool) -> Tensor:
    """(B, P, 2) from (B, K, P, 2) candidates and (B, K) logits: the favourite, or the mean
    weighted by the logits' softmax."""
    if choose:
        best = logits.argmax(dim=1)[:, None, None, None].expand(-1, 1, *candidates.shape[2:])
        return candidates.gather(1, best)[:, 0]
    return (logits.softmax(dim=1)[:, :, None, None] * candidates).sum(dim=1)


class Head(nn.Module):
    """One data set's mark-up: K candidates from the shared embedding, and how much each is to be trusted.

    The decision (chosen; only its existence is known) scores each candidate by the same small network from where
    its landmarks lie, what the trunk's second stage shows there, and the embedding. It looks on: no gradient goes
    from it into trunk or candidates.
    """

    def __init__(self, num_points: int, size: int, channels: int, config: DVLNConfig):
        super().__init__()
        self.num_points, self.size, self.config = num_points, size, config
        self.offsets = nn.Linear(config.embedding, config.candidates * num_points * 2)
        self.look = nn.Linear(channels, config.evidence)
        self.judge = nn.Linear(num_points * (2 + config.evidence), config.hidden)
        self.context = nn.Linear(config.embedding, config.hidden, bias=False)
        self.score = nn.Linear(config.hidden, 1)
        # Training starts near the turned mean shapes.
        nn.init.normal_(self.offsets.weight, std=0.1 * config.embedding**-0.5)
        nn.init.zeros_(self.offsets.bias)

    def forward(self, embedding: Tensor, maps: Tensor, mean_shape: Tensor) -> tuple[Tensor, Tensor]:
        """(B, E) embedding, (B, C, h, w) maps, (P, 2) px -> candidates (B, K, P, 2) px, logits (B, K)."""
        unit, k, p = self.size / 16, self.config.candidates, self.num_points
        starts = turned_shapes(mean_shape, k, self.config.spread)
        candidates = starts + unit * self.offsets(embedding).view(-1, k, p, 2)
        seen = candidates.detach()
        evidence = sample_at(maps.detach(), seen.view(-1, k * p, 2), self.size)
        evidence = F.relu(self.look(evidence)).view(-1, k, p * self.config.evidence)
        places = ((seen - mean_shape) / unit).flatten(2)
        hidden = self.judge(torch.cat([places, evidence], dim=2)) + self.context(embedding.detach())[:, None]
        return candidates, self.score(F.relu(hidden)).squeeze(2)


class DVLN(nn.Module):
    """(B, 3, size, size) crops in [-1, 1] -> landmarks (B, P, 2) in crop px, in the first mark-up.

    The trunk is ResNet-18 with a batch-normalised embedding on top (chosen; without the normalisation 800 updates on
    157 faces of 300-W ended 2 NME points worse), or one of trunks/, whose features at stride 4 (8 from 128 px upwards)
    the decision then looks at, where ResNet-18's second stage stands. There the features are normalised and not the
    embedding, whose noise from batch to batch the answers would follow (MobileNetV2, val of 300-W after 300 updates:
    5.90 % so, 6.77 with both, 6.85 the other way round). Buffers `mean_shape`, `mean_shape_1`, ... (P, 2) px hold each
    mark-up's mean over its training labels. `stages` of the output: candidates (B_h, K, P_h, 2) px and logits (B_h, K)
    of the first head, then of the second, ...
    """

    def __init__(self, schemas: tuple[LandmarkSchema, ...], size: int, config: DVLNConfig):
        super().__init__()
        self.size, self.config = size, config
        self.trunk: nn.Module
        if config.trunk is None:
            self.trunk = resnet = ResNet18(1, size, ResNetConfig(width=config.width, mixstyle=config.mixstyle))
            shown, features = 2 * config.width, resnet.fc.in_features
            # The heads do what these two did.
            resnet.fc, resnet.mean_shape = nn.Identity(), None  # type: ignore[assignment]
            self.last: Callable[[list[Tensor]], Tensor] = partial(last_of, flatten=resnet.flatten)
            self.embed = nn.Sequential(
                nn.Linear(features, config.embedding, bias=False), nn.BatchNorm1d(config.embedding), nn.ReLU()
            )
        else:
            finest = 4 if size < 128 else 8
            self.trunk, channels = build_trunk(config.trunk, size, config.trunk_width, LAST, finest)
            shown = channels[0]
            self.last = last = LastFeatures(channels[-1], size, size < 128)
            self.embed = nn.Sequential(started(nn.Linear(last.numbers, config.embedding), 2**0.5), nn.ReLU())
        self.dropout = Dropout(config.dropout)
        self.heads = nn.ModuleList(Head(s.num_points, size, shown, config) for s in schemas)
        for name, schema in zip(self.mean_shape_names(), schemas, strict=True):
            self.register_buffer(name, torch.zeros(schema.num_points, 2))

    def mean_shape_names(self) -> list[str]:
        """The buffers' names, a head each."""
        return ["mean_shape", *(f"mean_shape_{head}" for head in range(1, len(self.heads)))]

    def forward(self, image: Tensor, counts: Sequence[int] | None = None) -> DetectorOutput:
        """Answer a batch: all by the first head, or `counts[h]` faces by head h, one head's faces after another's.

        The heads' faces go through the trunk together, so that batch normalisation never
        tells them apart by their company.
        """
        assert counts is None or sum(counts) == len(image), (counts, len(image))
        assert counts is None or len(counts) <= len(self.heads), (counts, len(self.heads))
        maps = self.trunk.features(image)[2:] if isinstance(self.trunk, ResNet18) else self.trunk(image)
        x = self.last(maps)
        stages: list[Tensor] = []
        with torch.autocast(image.device.type, enabled=False):  # bf16 has 8 bits: half a pixel at 128
            embedding = self.dropout(self.embed(x.float()))
            shared = (embedding, maps[0].float())
            # One head answers all without a split, which an export would fix to the number of faces it is traced with.
            faces = [shared] if counts is None else zip(*(x.split(tuple(counts)) for x in shared), strict=True)
            for (mine, shown), head, name in zip(faces, self.heads, self.mean_shape_names(), strict=False):
                stages += head(mine, shown, getattr(self, name))
            choose = self.config.decision == "choose" and not self.training
            return DetectorOutput(settle(stages[0], stages[1], choose), stages=tuple(stages))


def load_trunk(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load ImageNet weights of a ResNet-18 into the shared trunk (`load_imagenet`): width 64;
    embedding and heads stay as they are."""
    assert isinstance(model, DVLN)
    load_imagenet(model.trunk, state, where)


# --------------------------------------------------------------------------------------------------------------------
# Learning


def candidate_losses(
    candidates: Tensor, target: Tensor, visible: Tensor, loss: LossConfig, point_weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """((B, K) mean loss of each candidate over a face's labelled landmarks, (B,) how much label that is).

    Args:
        candidates: (B, K, P, 2) px.
        target: (B, P, 2) px; NaN where unlabelled, which never contributes.
        visible: (B, P) bool; landmarks that are not visible weigh `loss.hidden_weight`.
        loss: which loss a coordinate error has.
        point_weight: (B, P) weight of each landmark; not given: all 1.
    """
    labelled = torch.isfinite(target).all(dim=-1)
    weights = torch.where(visible, 1.0, loss.hidden_weight) * labelled  # (B, P)
    if point_weight is not None:
        weights = weights * point_weight
    error = candidates - torch.where(labelled[..., None], target, 0.0)[:, None]
    each = torch.where(labelled[:, None], coordinate_loss(error, loss).mean(dim=-1), 0.0)  # (B, K, P)
    amount = weights.sum(dim=1)
    return (weights[:, None] * each).sum(dim=2) / amount.clamp_min(1e-8)[:, None], amount


def dvln_losses(candidates: Tensor, logits: Tensor, batch: Batch, loss: LossConfig, relax: float) -> dict[str, Tensor]:
    """The three terms of one head, scalars, each a mean over labelled landmarks (all
    chosen; the paper's are not known).

    fused: the loss of the answer, which is the candidates' mean weighted by the decision.
    candidates: relaxed winner-takes-all (after Rupprecht et al., ICCV 2017): of a face's
    candidates the best counts 1 - relax and
        the others share relax, so that candidates specialise and none starves. One candidate counts fully.
    decision: cross-entropy of the decision towards the candidate with the smallest loss.
    """
    losses, amount = candidate_losses(candidates, batch.landmarks, batch.visible, loss, batch.point_weights())
    num = losses.shape[1]
    best = losses.detach().argmin(dim=1)
    share = torch.full_like(losses, relax / max(1, num - 1))
    share.scatter_(1, best[:, None], 1.0 - relax if num > 1 else 1.0)
    weight = batch.weight.to(losses.dtype) * amount
    whole = shared(weight.sum()).clamp_min(1e-8)
    fused = settle(candidates, logits, choose=False)
    return {
        "fused": landmark_loss(fused, batch.landmarks, batch.visible, batch.weights(), loss),
        "candidates": (weight * (share * losses).sum(dim=1)).sum() / whole,
        "decision": (weight * F.cross_entropy(logits, best, reduction="none")).sum() / whole,
    }


def learn_dvln(learning: Learning) -> Learner:
    """All heads in one update: each head's terms count by its share of the batch's faces.

    Raises UserError for a single data set, unless the configuration says `single`, and for batches of one face, which
    batch normalisation (of the embedding, or of a trunk's features) cannot learn from.
    """
    engine, net = learning.engine, learning.model
    assert isinstance(net, DVLN)
    dvln = net.config
    if len(learning.schemas) < 2 and not dvln.single:
        raise UserError(
            "dvln learns from at least two data sets: give --other and one more data set, of any mark-up "
            "(--dvln.single trains the candidates and their decision alone)"
        )
    if learning.batch_size < 2 * engine.world_size:
        raise UserError(f"dvln: batch_size {learning.batch_size} is one face at a time a process, expected at least 2")
    with torch.no_grad():
        for name, shape in zip(net.mean_shape_names(), learning.mean_shapes, strict=True):
            getattr(net, name).copy_(torch.as_tensor(shape))
    model, optimizer = engine.setup(net, learning.optimizer_of(net))
    factors = {"fused": 1.0, "candidates": dvln.candidates_weight, "decision": dvln.decision_weight}

    def update(batches: tuple[Batch, ...], step: int) -> dict[str, Tensor]:
        set_lr(optimizer, learning.lr_at(step))
        counts = tuple(len(batch.image) for batch in batches)
        out = model(torch.cat([batch.image for batch in batches]), counts)
        terms: dict[str, Any] = {"total": 0.0, "error_px": mean_error(out.landmarks, batches[0].landmarks)}
        for head, batch in enumerate(batches):
            candidates, logits = out.stages[2 * head : 2 * head + 2]
            found = dvln_losses(candidates, logits, batch, learning.loss, dvln.relax)
            loss = sum(factors[name] * value for name, value in found.items())
            terms["total"] = terms["total"] + loss * (counts[head] / sum(counts))
            terms |= {f"{name}_{head}": value for name, value in found.items()}
        optimizer.zero_grad(set_to_none=True)
        engine.backward(terms["total"])
        optimizer.step()
        return terms

    return Learner(modules={"model": model}, optimizers={"model": optimizer}, update=update)
