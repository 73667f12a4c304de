"""An ensemble asked about parts of a data set beside each other: a command a part, here or on a cluster.

    <out>.parts/<stamp>_0003_of_0008.safetensors   what the detectors answer about the faces of one part

A part is whole groups of faces, as the ensemble sees them at a time, so that the answers are those of one process. The
stamp is of what the answers depend on: a stopped job goes on with the parts that are there.
"""

import hashlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from stylealign.config import config_text, plain
from stylealign.data.atomic import partial_of, write_whole
from stylealign.data.dataset import FaceDataset
from stylealign.detectors.loaded import LoadedDetector
from stylealign.errors import UserError
from stylealign.jobs.pseudo_label.config import PseudoLabel
from stylealign.predicting.ensemble import FACES_AT_ONCE, Answers, answers_of_groups, refuse_unread
from stylealign.training.fan_out import Job, run_jobs
from stylealign.training.slurm import place_for
from stylealign.training.weights import read_tensors, write_tensors


def range_of(part: tuple[int, int], num_faces: int) -> range:
    """The faces of part i of n: whole groups, in order."""
    number, of = part
    groups = -(-num_faces // FACES_AT_ONCE)
    first, last = (groups * k // of * FACES_AT_ONCE for k in (number, number + 1))
    return range(first, min(last, num_faces))


def write_part(config: PseudoLabel, faces: FaceDataset, detectors: list[LoadedDetector]) -> None:
    """Ask about the faces of `config.part`, and write the answers to the file `config.out`."""
    assert config.part is not None
    mine = range_of(config.part, len(faces))
    found = answers_of_groups(detectors, faces.take(mine), config.look)
    words = np.frombuffer(json.dumps(found.unreadable).encode(), np.uint8)
    tensors = {"positions": found.positions + mine.start, "landmarks": found.landmarks, "settled": found.settled}
    partial = partial_of(config.out)
    try:
        write_tensors(
            partial, {name: torch.from_numpy(a.copy()) for name, a in {**tensors, "unreadable": words}.items()}
        )
        partial.rename(config.out)
    finally:
        partial.unlink(missing_ok=True)


def ask_beside(config: PseudoLabel, faces: FaceDataset, detectors: list[LoadedDetector]) -> Answers:
    """As `ask`, by `config.jobs` processes here or by a cluster's jobs. Raises UserError where one failed."""
    place = place_for(config.on, config.jobs, config.cluster, config.out.with_name(f"{config.out.name}.parts"))
    of = min(place.slots, -(-len(faces) // FACES_AT_ONCE))
    depends = [[d.card["model_hash"] for d in detectors], faces.content_hash, faces.ids(), plain(config.look), of]
    stamp = hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:12]
    folder = config.out.with_name(f"{config.out.name}.parts")
    files = [folder / f"{stamp}_{k:04}_of_{of:04}.safetensors" for k in range(of)]
    jobs = []
    for k, path in enumerate(files):
        if path.exists():
            continue
        recipe = path.with_suffix(".yaml")
        write_whole(recipe, config_text(replace(config, out=path, part=(k, of), jobs=1, on="local")))
        command = (sys.executable, "-m", "stylealign", "pseudo-label", str(recipe.absolute()))  # never a flag
        jobs.append(Job(f"part {k + 1} of {of}", "part", command, path.with_suffix(".log"), 1, path.exists))
    failed = run_jobs(jobs, place, "asking the detectors") if jobs else {}
    if failed:
        name, why = next(iter(failed.items()))
        raise UserError(f"{len(failed)} of {len(jobs)} parts failed, the first {name}: {why}")
    parts = [read_tensors(path) for path in files]
    positions, landmarks, settled = (
        np.concatenate([part[name].numpy() for part in parts if len(part["positions"])] or [np.zeros(0)])
        for name in ("positions", "landmarks", "settled")
    )
    unreadable = [text for part in parts for text in json.loads(part["unreadable"].numpy().tobytes() or b"[]")]
    answers = Answers(positions, landmarks, settled, unreadable)
    refuse_unread(answers, faces)
    return answers


def remove_parts(out: Path) -> None:
    """After the data set is written: its parts, or those of an earlier command that was killed; no other folder."""
    folder = out.with_name(f"{out.name}.parts")
    if any(folder.glob("*_of_*.yaml")):
        shutil.rmtree(folder, ignore_errors=True)
