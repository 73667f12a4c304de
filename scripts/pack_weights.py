"""Put a finished run's weights into the package, with a card that names no path of the machine they were made on.

    python scripts/pack_weights.py RUN src/stylealign/weights/detector --data "300-W, 1,812 of its training images"

The weights are copied as they are, so that their hash stays. The README.md beside them is written by hand: data,
licence, protocol, numbers, use, limits.
"""

import argparse
import json
import shutil
from pathlib import Path

from stylealign.training.weights import read_card

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
    "stylealign",
    "model_hash",
)
MOST_BYTES = 12_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", required=True, help="what the training data are called")
    given = parser.parse_args()
    card = read_card(given.run)
    weights = given.run / "model.safetensors"
    if weights.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{weights}: {weights.stat().st_size:,} bytes, expected at most {MOST_BYTES:,}")
    packed = {key: card[key] for key in KEEP if key in card}
    packed["data"] = [{**one, "name": given.data} for one in card["data"]]
    if card["kind"] == "translator":  # the network and its structure maps are read from there
        packed["config"] = {key: card["config"][key] for key in (card["model"], "structure")}
    else:
        packed["config"] = {key: card["config"][key] for key in ("lr", "weight_decay", "augment", "loss", "loop")}
    given.out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(weights, given.out / "model.safetensors")
    (given.out / "card.json").write_text(json.dumps(packed, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
