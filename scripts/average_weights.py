"""Average the weights of runs of one kind that began with the same weights: a run between them.

    python scripts/average_weights.py runs/averaged runs/compact_turned=0.8 runs/compact_blur=0.2

Fine-tuned from one start, networks lie so near to each other that what is between them is as good as they are (Wortsman
et al., ICML 2022). The new card is the first run's, with the others' data beside its own and without what was
measured of it: `calibrate --what trust` measures it on `val`.
"""

import argparse
from pathlib import Path

import torch

from stylealign.data.packaged import run_folder
from stylealign.errors import UserError
from stylealign.training.seen import data_learnt
from stylealign.training.weights import read_card, read_tensors, save_model

MEASURED = ("trust", "lean", "val", "best", "model_hash")


def averaged(runs: dict[Path, float]) -> dict[str, torch.Tensor]:
    """The weighted mean of the runs' tensors; what is not a floating-point number is the first run's."""
    tensors = {run: read_tensors(run / "model.safetensors") for run in runs}
    first, *others = tensors
    for run in others:
        if {k: v.shape for k, v in tensors[run].items()} != {k: v.shape for k, v in tensors[first].items()}:
            raise UserError(f"{run}: its weights have other names or shapes than those of {first}")
    whole = sum(runs.values())
    return {
        name: (sum(share * tensors[run][name].double() for run, share in runs.items()) / whole).to(value.dtype)
        if value.is_floating_point() else value
        for name, value in tensors[first].items()
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to make")
    of_runs = "finished runs, or `compact` and `accurate`; the first gives the card"
    parser.add_argument("runs", nargs="+", metavar="RUN=SHARE", help=of_runs)
    options = parser.parse_args()
    runs = {}
    for words in options.runs:
        run, _, share = words.rpartition("=")
        try:
            runs[run_folder(Path(run))] = float(share)
        except ValueError:
            raise SystemExit(f"{words}: expected RUN=SHARE, such as runs/compact_blur=0.2") from None
    if options.out.exists():
        raise SystemExit(f"{options.out}: already there")
    if not all(share >= 0 for share in runs.values()) or not sum(runs.values()):
        raise SystemExit("shares: expected numbers from 0 on, not all of them 0")
    try:
        tensors = averaged(runs)
        first, *others = (read_card(run) for run in runs)
        card = {k: v for k, v in first.items() if k not in MEASURED}
        known = data_learnt(first)
        learnt = data_learnt({"data": [*known, *(one for other in others for one in data_learnt(other))]})
        card["data"] = [*first.get("data", []), *learnt[len(known) :]]
        options.out.mkdir(parents=True)
        save_model(options.out, tensors, card)
    except UserError as error:
        raise SystemExit(str(error)) from None
    print(f"{options.out}: {', '.join(options.runs)}")


if __name__ == "__main__":
    main()
