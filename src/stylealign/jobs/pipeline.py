"""The job `pipeline`: the whole paper from one recipe, each stage an ordinary verb writing an ordinary folder.

    <out>/data        drawn faces (or a data set of your own)
    <out>/translator  structure of one face, style of another
    <out>/synthetic   every labelled face in many styles
    <out>/detectors   with and without the synthetic faces, at equal updates, a run a seed
    <out>/evaluation  the table;  <out>/report.html  the pictures to look at

A stopped pipeline continues with the same command: every stage resumes, and finished stages are kept. All stages'
values are read before the first one starts.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from stylealign.config import config_text, from_dict, merged, plain, read_yaml, refuse_another
from stylealign.data.atomic import making, write_whole
from stylealign.data.dataset import FaceDataset
from stylealign.errors import UserError, counted
from stylealign.jobs.evaluate.tables import show
from stylealign.progress import say
from stylealign.training.cluster import Cluster, On
from stylealign.training.slurm import place_for

Section = Annotated[dict[str, Any], tyro.conf.Suppress]
ARMS = {"real": 0.0, "real+synthetic": None}  # share of synthetic faces in a batch; None: the recipe's


@dataclass(frozen=True, kw_only=True, slots=True)
class Pipeline:
    """Draw or take faces, train a translator, generate, train detectors without and with
    synthetic faces, compare, report."""

    out: Path
    """Folder to make; each stage writes into it."""
    data: Path | None = None
    """A data set of your own (with train, val and test splits) instead of drawn faces."""
    seeds: tuple[int, ...] = (0,)
    """A detector is trained in each arm for each seed."""
    synthetic_share: float = 0.5
    """Share of synthetic faces in a batch of the second arm."""
    jobs: int = 1
    """Trainings side by side, each a process of its own with an even share of the cores."""
    on: On = "local"
    """Where detectors are trained: here, or on a cluster's nodes (`--cluster...`)."""
    cluster: Cluster = field(default_factory=Cluster)
    faces: Section = field(default_factory=dict)
    """Values of `draw-faces` (recipe only)."""
    translator: Section = field(default_factory=dict)
    """Values of `train-translator` (recipe only)."""
    generate: Section = field(default_factory=dict)
    """Values of `generate` (recipe only)."""
    detector: Section = field(default_factory=dict)
    """Values of `train-detector` (recipe only)."""
    evaluate: Section = field(default_factory=dict)
    """Values of `evaluate` (recipe only)."""

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ValueError(f"jobs is {self.jobs}, expected at least 1")


@making("out", with_children=True)
def main(config: Pipeline) -> None:
    from stylealign.jobs import draw_faces
    from stylealign.jobs.evaluate import job as evaluate
    from stylealign.jobs.generate import job as generating
    from stylealign.jobs.report import job as report
    from stylealign.jobs.train_detector import job as detector
    from stylealign.jobs.train_detector.beside import train_all
    from stylealign.jobs.train_translator import job as translator

    out = config.out
    data = config.data or out / "data"

    # Every stage's configuration, so that a wrong key of the last is refused before the first has begun.
    faces = from_dict(draw_faces.DrawFaces, merged(config.faces, {"out": str(data)}), "faces")
    values = merged(config.translator, {"data": str(data), "run": str(out / "translator")})
    translators = from_dict(translator.TrainTranslator, values, "translator")
    values = merged(
        config.generate, {"data": str(data), "translator": str(out / "translator"), "out": str(out / "synthetic")}
    )
    synthetic = from_dict(generating.Generate, values, "generate")
    arms: dict[str, detector.DetectorJob] = {}
    for arm, share in ARMS.items():
        for seed in config.seeds:
            run = out / "detectors" / f"{arm}_s{seed}"
            values = merged(config.detector, {"real": str(data), "run": str(run), "loop": {"seed": seed}})
            if share is None:
                values = merged(
                    values, {"synthetic": str(out / "synthetic"), "synthetic_share": config.synthetic_share}
                )
            arms[f"{arm}={run}"] = from_dict(detector.config_class(), values, "detector")
    values = merged(config.evaluate, {"data": str(data), "arms": list(arms), "out": str(out / "evaluation")})
    table = from_dict(evaluate.Evaluate, values, "evaluate")

    if config.data is not None:
        FaceDataset.open(config.data)  # refused before anything is made
    place_for(config.on, config.jobs, config.cluster, out)  # a cluster that cannot be asked is said before hours
    saved = out / "pipeline.yaml"
    if saved.exists():
        holds = f"{out}: holds a pipeline of another recipe"
        refuse_another(read_yaml(saved), plain(config), holds, "choose another --out or remove it")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: not empty and not a pipeline's folder; choose another --out")
    else:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(saved, config_text(config))

    if config.data is None and not data.exists():
        say("1/5  drawing faces")
        draw_faces.main(faces)
    say("2/5  training the translator")
    translator.main(translators)
    say("3/5  generating synthetic faces")
    generating.main(synthetic)
    say(f"4/5  training detectors: {counted(len(ARMS), 'arm')} x {counted(len(config.seeds), 'seed')}, equal updates")
    train_all({job.run.name: job for job in arms.values()}, config.on, config.jobs, config.cluster, out, "detectors")
    say("5/5  evaluating")
    if not table.out.exists():
        evaluate.main(table)
    else:
        show(json.loads((table.out / "evaluation.json").read_text(encoding="utf-8")))
    page = out / "report.html"
    inputs = (table.out, synthetic.out, translators.run, *(job.run for job in arms.values()), data)
    report.main(report.Report(inputs=inputs, out=page, title="stylealign: the whole job"))
    say(f"look at {page}")
