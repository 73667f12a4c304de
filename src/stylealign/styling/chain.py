"""Style arms put together: which of them, on how many faces, how strongly, one after another. The arms are arms.py's.

A chain is a row of links. In each, one arm is drawn for the whole batch by weight, then the faces it restyles and
how strongly. Everything is drawn from one generator on the CPU, in blocks whose sizes depend on nothing, so that
what one link draws does not change what the next one draws. Knows no data sets and no training.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
import tyro

from stylealign.batches.batch import Batch, take_faces
from stylealign.batches.together import in_all, own
from stylealign.face.crop import CropConfig
from stylealign.face.schema import LandmarkSchema
from stylealign.styling.arm import NUM_DRAWS, Arm
from stylealign.styling.arms import ARMS, names_without_run, open_arm
from stylealign.styling.learned import run_bends_donors
from stylealign.translators.loaded import named_translator


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmConfig:
    """One arm of a chain."""

    kind: str
    """A name of the table of arms (`ARMS` in styling/arms.py)."""
    prob: float = 1.0
    """Weight among the arms of its group; with `choose: all`, its share of the faces."""
    strength: tuple[float, float] = (0.5, 1.0)
    """Range of each face's uniformly drawn strength; 0 leaves a face as it is, 1 is the arm at its fullest."""
    group: int = 0
    """Arms of one group are alternatives, one a batch; the groups follow one another."""
    run: Path | None = None
    """Finished run of an arm that was trained (translator: a `train-translator` run, or the name of one that needs no
    training)."""

    def __post_init__(self) -> None:
        if self.kind == "mixstyle":
            raise ValueError(
                "mixstyle is a layer of the detector, not an arm: set resnet.mixstyle.prob (or that of wing, dvln)"
            )
        if self.kind not in ARMS:
            raise ValueError(f"no style arm is called {self.kind!r}; there are {', '.join(ARMS)}")
        needs_run = ARMS[self.kind].needs_run
        if needs_run != (self.run is not None):
            raise ValueError(f"arm {self.kind}: {'needs a run folder' if needs_run else 'takes no run folder'}")
        low, high = self.strength
        if not (self.prob >= 0 and 0 <= low <= high <= 1):
            raise ValueError(
                f"arm {self.kind} of prob {self.prob} and strength {low} to {high}: "
                "expected 0 or more, and a range in 0 to 1"
            )


def _arms(*kinds: str, group: int = 0, prob: float = 1.0) -> tuple[ArmConfig, ...]:
    return tuple(ArmConfig(kind=kind, group=group, prob=prob) for kind in kinds)


_MIXTURE = (
    *_arms("adain", "histogram", "fda"),
    *_arms("relight", "shadow", "occlude", "occlude_aligned", group=1, prob=0.5),
    *_arms("context", "degrade", group=1),
)

# Chains with a name, beside every arm's own name, which is that arm alone.
PRESETS: dict[str, tuple[ArmConfig, ...]] = {
    "none": (),
    "free": _arms("adain", "histogram", "fda"),
    "free_jitter": (*_arms("adain", "histogram", "fda"), *_arms("jitter", group=1)),
    "mixture": _MIXTURE,
    "warp_mixture": (*_arms("warp"), *(replace(arm, group=arm.group + 1) for arm in _MIXTURE)),
}


def _grouped(arms: Sequence[ArmConfig]) -> list[tuple[ArmConfig, ...]]:
    """The arms by their groups, in the groups' order."""
    return [tuple(arm for arm in arms if arm.group == group) for group in sorted({arm.group for arm in arms})]


def _preset_help() -> str:
    """What `--help` says of presets, from the two tables."""
    chains = []
    for name, chain in PRESETS.items():
        links = [", ".join(arm.kind for arm in group) for group in _grouped(chain)]
        parts = [f"one of {link}" if ", " in link else link for link in links]
        chains.append(f"{name} ({', then '.join(parts) or 'no restyling'})")
    arms = [f"{name} ({ARMS[name].summary})" for name in names_without_run()]
    return f"A named chain, or one arm by its name. Chains: {'; '.join(chains)}. Arms: {'; '.join(arms)}."


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainConfig:
    """Which style arms, put together how."""

    preset: Annotated[str, tyro.conf.arg(help=_preset_help())] = "none"
    arms: Annotated[tuple[ArmConfig, ...], tyro.conf.Suppress] = ()
    """Any arms instead of a preset (recipe only)."""
    choose: Literal["one", "all"] = "one"
    """one: a batch gets one arm of each group, by weight. all: every arm in turn, each on its share of the faces."""

    def __post_init__(self) -> None:
        known = [*PRESETS, *names_without_run()]
        if self.preset not in known:
            raise ValueError(f"no style preset is called {self.preset!r}; there are {', '.join(known)}")
        if self.arms and self.preset != "none":
            raise ValueError(f"style has the preset {self.preset!r} and arms of its own: expected one of the two")
        for group in self.groups():
            if not sum(arm.prob for arm in group) > 0:
                raise ValueError(
                    f"style: the arms {', '.join(arm.kind for arm in group)} all have prob 0: one has to be above"
                )

    def groups(self) -> list[tuple[ArmConfig, ...]]:
        """The links of the chain, in order: alternatives, of which a batch gets one."""
        arms = self.arms or (PRESETS[self.preset] if self.preset in PRESETS else _arms(self.preset))
        return [(arm,) for arm in arms] if self.choose == "all" else _grouped(arms)

    def needs_donors(self) -> bool:
        """Whether any arm looks at a donor."""
        return any(ARMS[arm.kind].looks_at_donor for group in self.groups() for arm in group)


@dataclass(frozen=True, kw_only=True, slots=True)
class StyleConfig(ChainConfig):
    """Style arms on the fly: training faces are restyled before they are moved and coloured by `augment`."""

    prob: float = 0.6
    """Share of the faces of a batch that each link of the chain restyles; with `choose: all`, times the arm's own."""
    donors: tuple[Path, ...] = ()
    """Data sets whose faces give styles; labels are not needed. Not given: the training faces themselves."""
    donor_split: str | None = None
    """Their split. Not given: of the training data set its training split, of others their `train` or else all."""
    mirror: bool = False
    """Donors that are chosen by their shape, to be bent, may be mirrored too: twice as many fit each face, and a head
    turned to one side fits one turned to the other. Only where the mark-up says which landmarks are twins."""

    def __post_init__(self) -> None:
        ChainConfig.__post_init__(self)
        if not 0 <= self.prob <= 1:
            raise ValueError(f"style.prob is {self.prob}, expected 0 to 1")
        if self.donor_split is not None and not self.donors:
            raise ValueError(
                f"style.donor_split {self.donor_split!r} without style.donors: expected the data sets it is a split of"
            )


class Link(NamedTuple):
    """One place in a chain: alternatives, of which a batch gets one."""

    kinds: tuple[str, ...]
    arms: tuple[Arm, ...]
    weights: tuple[float, ...]
    strengths: tuple[tuple[float, float], ...]
    prob: float
    """share of the faces it restyles"""
    by_fit: bool = False
    """whether any of the arms wants donors of like shape"""


def chooses_by_fit(chain: Sequence[Link]) -> bool:
    """Whether any arm of a chain wants donors of like shape."""
    return any(link.by_fit for link in chain)


def _donors_by_fit(arm: ArmConfig) -> bool:
    return ARMS[arm.kind].donors_by_fit or (arm.run is not None and run_bends_donors(arm.run))


def trained_arms(config: ChainConfig) -> list[Path]:
    """The runs of a configuration's learned arms, each once, without the translators that need no training."""
    runs = dict.fromkeys(arm.run for group in config.groups() for arm in group if arm.run)
    return [run for run in runs if named_translator(run) is None]


def open_chain(
    config: ChainConfig, prob: float, crop: CropConfig, schema: LandmarkSchema, device: torch.device
) -> tuple[Link, ...]:
    """The arms of a configuration, ready to use; learned ones are read from their runs.

    Args:
        config: which arms.
        prob: share of the faces that each link restyles.
        crop: how the faces are cut (with whatever margin).
        schema: their mark-up.
        device: where learned arms work.
    """
    return tuple(
        Link(
            kinds=tuple(arm.kind for arm in group),
            arms=tuple(open_arm(arm.kind, schema, crop, device, arm.run) for arm in group),
            weights=tuple(arm.prob for arm in group),
            strengths=tuple(arm.strength for arm in group),
            prob=prob * min(1.0, group[0].prob) if config.choose == "all" else prob,
            by_fit=any(_donors_by_fit(arm) for arm in group),
        )
        for group in config.groups()
    )


def draw_arms(chain: tuple[Link, ...], generator: torch.Generator) -> tuple[int, ...]:
    """Which alternative each link takes: the first numbers `restyle` draws from the generator."""
    drawn = torch.rand(len(chain), generator=generator, dtype=torch.float64)
    ends = [torch.tensor(link.weights, dtype=torch.float64).cumsum(0) for link in chain]
    found = (int(torch.searchsorted(end, u * end[-1], right=True)) for end, u in zip(ends, drawn, strict=True))
    return tuple(min(i, len(link.arms) - 1) for i, link in zip(found, chain, strict=True))


def acting_arms(chain: tuple[Link, ...], generator: torch.Generator) -> list[str]:
    """The names of the arms that `restyle` has act on a face alone, by a generator in the same state."""
    chosen = draw_arms(chain, generator)
    draws = [torch.rand(1, 2 + NUM_DRAWS, generator=generator, dtype=torch.float64) for _ in chain]
    found = zip(chain, chosen, draws, strict=True)
    return [link.kinds[which] for link, which, drawn in found if float(drawn[0, 0]) < link.prob]


@torch.no_grad()
def restyle(batch: Batch, donors: Batch | None, chain: tuple[Link, ...], generator: torch.Generator) -> Batch:
    """Give faces another look: through every link of the chain, its arm of this batch on its share of the faces.

    Args:
        batch: (B, 3, S, S) upright crops in [-1, 1] with landmarks in px of them, on any device.
        donors: B faces cut alike, row i the donor of face i; None where no arm needs one.
        chain: from `open_chain`.
        generator: a CPU generator; the result is a function of its state.

    Returns:
        A new batch in which `image` differs, `visible` under something laid over, and `landmarks` where a bent donor
        lacks one: NaN.
    """
    chosen = draw_arms(chain, generator)
    donors = batch if donors is None else donors
    for link, which in zip(chain, chosen, strict=True):
        num = in_all(len(batch.image))
        draws = own(torch.rand(num, 2 + NUM_DRAWS, generator=generator, dtype=torch.float64))
        rows = torch.nonzero(draws[:, 0] < link.prob).view(-1)
        if not len(rows):
            continue
        low, high = link.strengths[which]
        strength = (low + (high - low) * draws[rows, 1]).to(batch.image)
        styled = link.arms[which](take_faces(batch, rows), take_faces(donors, rows), strength, draws[rows, 2:])
        image, visible, landmarks = (t.clone() for t in (batch.image, batch.visible, batch.landmarks))
        there = rows.to(image.device)
        image[there], visible[there], landmarks[there] = styled.image.to(image), styled.visible, styled.landmarks
        batch = batch._replace(image=image, visible=visible, landmarks=landmarks)
    return batch
