"""What dataset.yaml says of how faces were drawn, and whether a folder holds what a command would draw."""

from pathlib import Path
from typing import Any

from stylealign.config import plain, read_yaml, refuse_another, to_dict
from stylealign.data.dataset import FaceDataset, describe_data, describe_source
from stylealign.data.shards import INDEX, ShardedFaces, shown
from stylealign.errors import UserError
from stylealign.jobs.generate.by_arms import ByArms
from stylealign.jobs.generate.by_warp import ByWarp
from stylealign.jobs.generate.maker import Maker
from stylealign.styling.chain import chooses_by_fit
from stylealign.training.seen import data_learnt

_OF_WARP = ("warp", "skip_unfit", "judge")  # of all translators that bend donors; arms that do have no judge
# Keys that say where things are, or what was allowed, and so change no picture.
_PLACES = ("data", "donors", "translator", "out", "accelerator", "devices", "num_nodes", "accept_gap")


def describe(config: dict[str, Any], maker: Maker, contents: FaceDataset, donors: FaceDataset | None) -> dict[str, Any]:
    """What fixes the result of a configuration's values, as plain YAML values: the same description, the same bytes."""
    # What others than this maker look at; data sets made before `warp` never had its keys.
    idle: tuple[str, ...] = ("style", "crop") if config["translator"] else ()
    if isinstance(maker, ByArms) and chooses_by_fit(maker.chain):
        idle = (*idle, "judge")
    elif not isinstance(maker, ByWarp):
        idle = (*idle, *_OF_WARP)
    elif maker.untrained is not None:
        idle = ("style",)
    learnt = [one for card in maker.cards for one in data_learnt(card)]
    values = {
        "verb": "generate",
        "inputs": {
            "data": describe_source(contents),
            "donors": None if donors is None else describe_data(donors),
            "translator": {
                "hash": maker.hash,
                "crop": to_dict(maker.crop),
                **({"learnt_from": learnt} if learnt else {}),
            },
        },
        "config": {k: v for k, v in shown(config).items() if k not in (*_PLACES, *idle)},
    }
    return plain(values)


def refuse_other(there: Any, now: dict[str, Any], where: Path) -> None:
    """Raises UserError unless a description found in a folder is that of now."""
    holds = f"{where}: holds the work of another configuration"
    refuse_another(there if isinstance(there, dict) else {}, now, holds, "choose another --out or remove it")


def refuse_other_result(folder: Path, now: dict[str, Any]) -> None:
    """Raises UserError unless a folder's dataset.yaml, or its shards, say that it was made as now."""
    meta = read_yaml(folder / "dataset.yaml") if (folder / "dataset.yaml").exists() else {}
    if (folder / INDEX).exists():
        meta = ShardedFaces.open(folder).meta
    if not isinstance(meta, dict) or not isinstance(meta.get("how"), dict) or meta["how"].get("verb") != "generate":
        raise UserError(f"{folder}: exists and was not made by generate; choose another --out")
    refuse_other(meta["how"], now, folder)
