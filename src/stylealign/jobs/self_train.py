"""The job `self-train`: label unlabelled faces with what the round before has learnt, train on both, and again.

    <out>/round_0/s0, s1, ...   detectors of the labelled faces alone, one a seed
    <out>/round_1/pseudo        the unlabelled faces, labelled by round 0 (`pseudo-label`)
    <out>/round_1/s0, s1, ...   detectors of both, from fresh weights
    ...                         and so on; <out>/rounds.json has every round's NME on the validation split

Every stage is an ordinary verb writing an ordinary folder: a stopped job continues with the same
command, and finished stages are kept.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from stylealign.config import config_text, from_dict, plain, refuse_another, saved_config
from stylealign.data.atomic import making, write_whole
from stylealign.data.dataset import FaceDataset
from stylealign.errors import UserError, counted
from stylealign.jobs.pseudo_label import job as pseudo_label
from stylealign.jobs.train_detector import job as detector
from stylealign.jobs.train_detector.beside import train_all
from stylealign.progress import say
from stylealign.training.cluster import Cluster, On
from stylealign.training.slurm import place_for
from stylealign.training.weights import read_card

Section = Annotated[dict[str, Any], tyro.conf.Suppress]


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfTrain:
    """Train on labelled faces, label the others by an ensemble of the result, train on both; several rounds."""

    labelled: Path
    """Data set of labelled faces, with a validation split."""
    unlabelled: Path
    """Data set of faces to label; labels it has are not looked at."""
    out: Path
    """Folder to make; the same command continues a stopped job."""
    split: str = "train"
    """Split of the labelled faces."""
    subset: str | None = None
    """Only labelled faces with this attribute, such as a label budget."""
    rounds: int = 1
    """Rounds of labelling and training after the first training."""
    seeds: tuple[int, ...] = (0, 1)
    """Detectors of a round: together they label the next."""
    share: float = 0.25
    """Share of pseudo-labelled faces in every batch."""
    jobs: int = 1
    """Trainings side by side, each a process of its own with an even share of the cores."""
    on: On = "local"
    """Where detectors are trained: here, or on a cluster's nodes (`--cluster...`)."""
    cluster: Cluster = field(default_factory=Cluster)
    detector: Section = field(default_factory=dict)
    """Values of `train-detector`, the same in every round (recipe only)."""
    pseudo_label: Section = field(default_factory=lambda: {"keep": 0.5})
    """Values of `pseudo-label` (recipe only)."""

    def __post_init__(self) -> None:
        if self.rounds < 1 or not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(
                f"rounds {self.rounds} and seeds {self.seeds}: expected at least 1, and at least one seed, each once"
            )
        if self.jobs < 1:
            raise ValueError(f"jobs is {self.jobs}, expected at least 1")
        if not 0 < self.share < 1:
            raise ValueError(f"share is {self.share}, expected above 0 and below 1")
        taken = {"run", "real", "synthetic", "subset", "data"} & self.detector.keys() | {
            "data",
            "detectors",
            "out",
        } & self.pseudo_label.keys()
        if taken or "seed" in self.detector.get("loop", {}):
            raise ValueError(f"detector or pseudo_label: {', '.join(sorted(taken)) or 'loop.seed'}: self-train sets it")


def plan(config: SelfTrain) -> list[tuple[pseudo_label.PseudoLabel | None, list[detector.DetectorJob]]]:
    """(labelling, trainings) of every round; all values are read before anything is trained."""
    rounds: list[tuple[pseudo_label.PseudoLabel | None, list[detector.DetectorJob]]] = []
    for number in range(config.rounds + 1):
        folder = config.out / f"round_{number}"
        mine = {"path": str(config.labelled), "split": config.split, "subset": config.subset}
        sources: list[dict[str, Any]] = [{**mine, "share": 1.0 - config.share if number else 1.0}]
        labelling = None
        if number:
            before = [str(job.run) for job in rounds[-1][1]]
            values = {
                "jobs": config.jobs, "on": config.on, "cluster": plain(config.cluster),
                **config.pseudo_label, "data": str(config.unlabelled), "detectors": before,
                "out": str(folder / "pseudo"), "as_split": "train"
            }  # fmt: skip
            labelling = from_dict(pseudo_label.PseudoLabel, values, "pseudo_label")
            sources.append({"path": str(folder / "pseudo"), "split": "train", "share": config.share})
        jobs = []
        for seed in config.seeds:
            loop = {**config.detector.get("loop", {}), "seed": seed}
            values = {**config.detector, "data": sources, "run": str(folder / f"s{seed}"), "loop": loop}
            jobs.append(from_dict(detector.config_class(), values, "detector"))
        rounds.append((labelling, jobs))
    return rounds


def _same(saved: Path, config: SelfTrain) -> None:
    """Continue a folder of this configuration, begin an empty one, refuse any other."""
    if saved.exists():
        holds = f"{config.out}: holds a self-training of another recipe"
        refuse_another(saved_config(saved, SelfTrain), plain(config), holds, "choose another --out or remove it")
    elif config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
        raise UserError(f"{config.out}: not empty and not a self-training; choose another --out")
    else:
        config.out.mkdir(parents=True, exist_ok=True)
        write_whole(saved, config_text(config))


def _refuse_other_pictures(pseudo: Path, unlabelled: FaceDataset) -> None:
    """Raises UserError where the labels of a round are for other faces than the unlabelled data set holds now."""
    inputs = (FaceDataset.open(pseudo).meta.get("how") or {}).get("inputs") or {}
    found = str((inputs.get("faces") or {}).get("content_hash"))
    if found != unlabelled.content_hash:
        raise UserError(
            f"{pseudo}: labels of other faces than {unlabelled.folder} holds now (content hash {found[:12]}, found "
            f"{unlabelled.content_hash[:12]}): give it back its data set, choose another --out or remove it"
        )


@making("out", with_children=True)
def main(config: SelfTrain) -> None:
    """All rounds; the table of their NMEs at the end."""
    rounds = plan(config)
    labelled, unlabelled = FaceDataset.open(config.labelled), FaceDataset.open(config.unlabelled)
    if labelled.schema != unlabelled.schema:
        raise UserError(
            f"{config.unlabelled}: its mark-up is {unlabelled.schema.name}, expected {labelled.schema.name} as "
            f"{config.labelled} has"
        )
    place_for(config.on, config.jobs, config.cluster, config.out)  # a cluster that cannot be asked is said before hours
    _same(config.out / "self_train.yaml", config)
    for labelling, _ in rounds:
        if labelling is not None and labelling.out.exists():
            _refuse_other_pictures(labelling.out, unlabelled)
    table = []
    for number, (labelling, jobs) in enumerate(rounds):
        if labelling is not None and not labelling.out.exists():
            say(f"round {number}: labelling {counted(len(unlabelled), 'face')}")
            pseudo_label.main(labelling)
        named = {f"round {number}, seed {job.loop.seed}": job for job in jobs}
        train_all(named, config.on, config.jobs, config.cluster, config.out, f"round {number}")
        errors = [read_card(job.run)["val"]["nme"] for job in jobs if "val" in read_card(job.run)]
        row: dict[str, Any] = {"round": number, "val_nme": errors}
        if labelling is not None:
            found = json.loads((labelling.out / "trust.json").read_text(encoding="utf-8"))
            row |= {"pseudo_faces": found["kept"], "disagreement": found["disagreement"]["mean_of_kept"]}
        table.append(row)
        if errors:
            spread = f" ± {np.std(errors, ddof=1):.2%}" if len(errors) > 1 else ""
            say(
                f"round {number}: NME {np.mean(errors):.2%}{spread} on the validation split "
                f"({counted(len(errors), 'seed')})"
            )
    write_whole(config.out / "rounds.json", json.dumps(table, indent=1) + "\n")
