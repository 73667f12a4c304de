"""Start a detector from the weights of another run: a detector of any mark-up, or an encoder
trained without labels (`pretrain`).

What fits is taken, what does not (heads of another number of points, say) stays fresh and is named.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from stylealign.errors import UserError, counted
from stylealign.face.schema import LandmarkSchema
from stylealign.training.faces import Part, say_more_seen_than
from stylealign.training.seen import data_learnt
from stylealign.training.weights import load_model, read_card

KINDS = ("detector", "encoder")
# Of fpn's heads: what has a part for each landmark.
LAST = ("head.points.", "head.points_spread.", "head.neighbours")


def _trunks(names: list[str]) -> list[str]:
    """Prefixes below which a ResNet of torchvision's names lies."""
    return [name.removesuffix("layer1.0.conv1.weight") for name in names if name.endswith("layer1.0.conv1.weight")]


def start_from(model: nn.Module, run: Path, schema: LandmarkSchema, mix: Sequence[Part] = ()) -> dict[str, Any]:
    """Load what fits of a finished run into a fresh detector; returns what the card says of it.

    Weights are matched by name; where the other network is of another kind, its ResNet trunk is
    matched with this one's. A ResNet's last layer (fc) and those of fpn's heads are left fresh under another
    mark-up even where they would fit: its points are others. Says where it learnt from labels that the training's
    own faces (`mix`) leave out.

    Raises UserError where the run is neither a detector nor an encoder, or where nothing but a few stray tensors fits.
    """
    kind = read_card(Path(run))["kind"]
    if kind not in KINDS:
        raise UserError(f"--init-from {run}: holds a {kind}, expected a detector or an encoder (`stylealign pretrain`)")
    state, card = load_model(Path(run), kind)
    if kind == "detector":
        say_more_seen_than(mix, f"--init-from {run}", card)
    own = model.state_dict()
    same_points = kind == "detector" and card["schema"] == schema.to_dict()
    last = {f"{prefix}fc.{part}" for prefix in _trunks(list(own)) for part in ("weight", "bias")}
    last |= {key for key in own if key.startswith(LAST)}

    def fitting(candidates: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            key: value for key, value in candidates.items()
            if key in own and own[key].shape == value.shape
            and (same_points or (key not in last and not key.startswith("mean_shape")))
        }  # fmt: skip

    taken = fitting(state)
    theirs, ours = _trunks(list(state)), _trunks(list(own))
    if theirs and ours:  # the trunk of another network under another name
        first = theirs[0]
        trunk = {key.removeprefix(first): value for key, value in state.items() if key.startswith(first)}
        for prefix in ours:
            moved = fitting({prefix + key: value for key, value in trunk.items()})
            taken = {**moved, **taken}
    convolutions = [key for key, value in taken.items() if value.ndim == 4]
    mine = [key for key, value in own.items() if value.ndim == 4]
    if 2 * len(convolutions) < len(mine):
        width = f", width {card['network'].get('width')}" if isinstance(card.get("network"), dict) else ""
        raise UserError(
            f"--init-from {run}: {len(convolutions)} of this detector's {counted(len(mine), 'convolution')} fitting "
            f"(there: {card.get('model')}{width}): expected the same network at the same width"
        )
    model.load_state_dict(taken, strict=False)
    trained = [key for key, _ in model.named_parameters()]
    fresh = [key for key in trained if key not in taken]
    return {
        "run": str(run),
        "kind": kind,
        "hash": card["model_hash"],
        **({"data": data_learnt(card)} if kind == "detector" else {}),  # an encoder saw pictures without their labels
        "taken": len(trained) - len(fresh),
        "fresh": fresh,
    }


def describe_start(start: dict[str, Any]) -> str:
    """What was taken of another run and what was left fresh, in one line."""
    fresh = start["fresh"]
    names = ", ".join(fresh[:4]) + (f" and {len(fresh) - 4} more" if len(fresh) > 4 else "")
    left = f"left fresh: {names}" if fresh else "none left fresh"
    return f"starting from {start['run']}: {counted(start['taken'], 'weight')} taken, {left}"
