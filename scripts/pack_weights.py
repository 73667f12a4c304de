"""Put a finished run's weights into the package, with a card that names no path of the machine they were made on.

    python scripts/pack_weights.py RUN src/stylealign/weights/compact --data "300-W, 1,812 of its training images"

The weights are copied as they are, so that their hash stays; with --half, matrices and kernels are rounded to 16 bits
(the file is half as large, and the hash is another). The README.md beside them is written by hand: data, licence,
protocol, numbers, use, limits.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from stylealign.training.seen import data_learnt
from stylealign.training.weights import read_card, read_tensors, save_model

KEEP = (
    "kind",
    "model",
    "network",
    "schema",
    "other_schemas",
    "crop",
    "perceptual",
    "step",
    "judge",
    "val",
    "roll",
    "trust",
    "lean",
    "stylealign",
    "model_hash",
)
MOST_BYTES = 12_000_000


def halved(tensor: Tensor) -> Tensor:
    """The tensor in 16 bits where it is a matrix or kernel; statistics and offsets stay as they are."""
    return tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 and tensor.abs().max() < 6e4 else tensor


def packed_card(card: dict[str, Any], data: list[str]) -> dict[str, Any]:
    """What the package says of weights: no path of a machine, the data by the names `data` (one, or one for each)."""
    packed = {key: card[key] for key in KEEP if key in card}
    learnt = data_learnt(card)
    names = data if len(data) == len(learnt) else data[:1] * len(learnt)
    named = [{**one, "name": name} for one, name in zip(learnt, names, strict=True)]
    own = len(data_learnt({"data": card["data"]}))
    packed["data"] = named[:own]
    if "start" in card:
        packed["start"] = {"kind": card["start"]["kind"], "hash": card["start"]["hash"], "data": named[own:]}
    if card["kind"] == "translator":  # the network and its structure maps are read from there
        packed["config"] = {key: card["config"][key] for key in (card["model"], "structure")}
    else:
        packed["config"] = {key: card["config"][key] for key in ("lr", "weight_decay", "augment", "loss", "loop")}
    return packed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--data",
        required=True,
        nargs="+",
        help="what the training data are called, in their order, those of earlier trainings last",
    )
    parser.add_argument("--half", action="store_true", help="round matrices and kernels to 16 bits")
    given = parser.parse_args()
    card, state = read_card(given.run), given.run / "model.safetensors"
    given.out.mkdir(parents=True, exist_ok=True)
    packed = packed_card(card, given.data)
    if given.half:
        save_model(given.out, {name: halved(tensor) for name, tensor in read_tensors(state).items()}, packed)
    else:
        shutil.copyfile(state, given.out / "model.safetensors")
        (given.out / "card.json").write_text(json.dumps(packed, indent=1) + "\n", encoding="utf-8")
    size = (given.out / "model.safetensors").stat().st_size
    if size > MOST_BYTES:
        raise SystemExit(f"{given.out}: {size:,} bytes of weights, expected at most {MOST_BYTES:,}; --half halves them")


if __name__ == "__main__":
    main()
