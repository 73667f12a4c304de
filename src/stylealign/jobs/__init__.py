"""The verbs of the command line, a file or folder each with the verb's name. Imports one only when it is asked for.

A verb's module has a config dataclass, whose fields are its flags and the keys of its recipes, and
`main(config)`, which does the job.
"""

import importlib
import re
from typing import Any, NamedTuple

from stylealign.errors import typed


class Verb(NamedTuple):
    """Where a verb lives and what it does."""

    module: str
    """below stylealign.jobs"""
    config: str
    """its config dataclass in that module"""
    summary: str
    """one line of `stylealign --help`"""
    then: str = ""
    """what one would type next, with fields of its config in braces; empty: the verb says so itself, or ends a way"""
    again: str = "begins anew"
    """what the same command does after one that was interrupted"""

    def next_words(self, config: Any) -> str:
        """`then` with the values of a config; empty where one that it names was not given, and where it would train on
        faces of another split than `train`, or without labels."""
        names = re.findall(r"{(\w+)}", self.then)
        values = {name: getattr(config, name) for name in names}
        untrained = getattr(config, "split", None) not in (None, "train") or getattr(config, "reader", None) == "folder"
        if ("train-detector" in self.then and untrained) or any(value in (None, ()) for value in values.values()):
            return ""
        return self.then.format(**{name: typed(value) for name, value in values.items()})

    def load(self) -> Any:
        """Its module, imported now."""
        return importlib.import_module(f"stylealign.jobs.{self.module}")

    def config_class(self) -> type:
        """Its config dataclass."""
        return getattr(self.load(), self.config)


GOES_ON = "goes on"

VERBS = {
    "pipeline": Verb(
        "pipeline", "Pipeline",
        "The whole job from one recipe: draw or take faces, translate, train, compare, report",
        then="open {out}/report.html in a browser",
        again=GOES_ON,
    ),
    "draw-faces": Verb(
        "draw_faces", "DrawFaces", "Draw faces with exact landmarks: a dataset without any download",
        then="stylealign train-detector small/resnet18 --real {out} --run runs/first",
    ),
    "fit": Verb(
        "fit.job", "Fit",
        "Train on your own labelled faces in so many minutes: a detector, a report and what to type next",
        again=GOES_ON,
    ),
    "init": Verb("init", "Init", "Look at your own annotated faces: write their mark-up, a recipe and the commands"),
    "prepare": Verb(
        "prepare", "Prepare",
        "Read a published layout (WFLW, 300-W, COFW, AFLW, COCO, CSV, ...) into a dataset",
        then="stylealign check {out} --draw 16 --out {out}_check, then stylealign train-detector "
        "small/resnet18 --real {out} --run runs/first",
    ),
    "check": Verb("check", "Check", "Verify and describe a dataset, a run or a recipe; draw it"),
    "export-dataset": Verb(
        "export_dataset", "ExportDataset",
        "Write a dataset for other programs: WFLW, .pts, COCO, CSV, CVAT, labelme, ...",
        then="stylealign prepare --reader {format} --path {out} --out {out}_read reads it back",
    ),
    "train-translator": Verb(
        "train_translator.job", "TrainTranslator",
        "Train a translator: structure of one face, style of another",
        then="stylealign assess --translator {run} --data {data} --out {run}_assessed",
        again=GOES_ON,
    ),
    "assess": Verb(
        "assess.job", "Assess",
        "What a translator keeps of held-out faces and what it changes: the translator report",
        then="stylealign report --inputs {out} --out {out}.html",
    ),
    "generate": Verb(
        "generate.job", "Generate", "Render every labelled face in many styles: a synthetic dataset",
        then="stylealign train-detector small/resnet18 --real {data} --synthetic {out} --run "
        "runs/with_synthetic",
        again=GOES_ON,
    ),
    "train-detector": Verb(
        "train_detector.job", "TrainDetector",
        "Train a landmark detector on real and synthetic faces",
        then="stylealign predict PHOTOS --model {run} --draw, or stylealign export {run} --out {run}.onnx",
        again=GOES_ON,
    ),
    "train-finder": Verb(
        "train_finder", "TrainFinder",
        "Train a finder of faces on your own pictures, for faces that no public finder knows",
        then="stylealign predict PICTURES --finder {run} --draw",
        again=GOES_ON,
    ),
    "train-styles": Verb(
        "train_styles", "TrainStyles",
        "Train the generators that the style-aggregated detector (san) looks through",
        then="stylealign train-detector small/san --styles {run} --real {data} --run runs/san",
        again=GOES_ON,
    ),
    "study": Verb(
        "study.job", "Study", "Detectors x arms x label budgets x seeds at equal updates, in one table",
        then="stylealign report --inputs {out} --out {out}.html",
        again=GOES_ON,
    ),
    "models": Verb("models", "Models", "Every detector's parameters and MACs; --measure: its speed and memory"),
    "pseudo-label": Verb(
        "pseudo_label.job", "PseudoLabel",
        "Label faces by an ensemble of detectors, with a trust from how far they agree",
        then="look at {out}/sheets, then stylealign train-detector small/resnet18 --real LABELLED --synthetic "
        "{out} --run runs/more",
        again="begins anew, but for what --jobs or --on has finished",
    ),
    "trust": Verb(
        "trust", "Trust",
        "How far generated faces keep their labels, to a detector that never saw the translator",
        then="look at {out}/sheets, then stylealign train-detector small/resnet18 --real LABELLED --synthetic "
        "{out} --run runs/more",
    ),
    "suggest": Verb(
        "suggest.job", "Suggest",
        "Which unlabelled pictures to label next, with a detector's landmarks to correct in a labelling tool",
    ),
    "self-train": Verb(
        "self_train", "SelfTrain", "Rounds of pseudo-labels and training on them, from one recipe",
        then="stylealign predict PHOTOS --model {out}/round_{rounds}/s0 --draw",
        again=GOES_ON,
    ),
    "pretrain": Verb(
        "pretrain", "Pretrain", "Train a detector's trunk without labels: geometry apart from style",
        then="stylealign train-detector small/resnet18 --init-from {run} --real LABELLED --run runs/first",
        again=GOES_ON,
    ),
    "stress": Verb(
        "stress", "Stress",
        "Make test faces harder at rising strength: light, make-up, occlusion, blur, tilt, pose",
        then="stylealign evaluate --data {out} --split all --arms mine=RUN --out {out}_scores",
    ),
    "turn-heads": Verb(
        "turn_heads", "TurnHeads",
        "Show labelled faces from the side: more faces to train on, for turned heads and profiles",
        then="stylealign train-detector small/resnet18 --real {data} --synthetic {out} --synthetic-share 0.15 "
        "--run runs/with_turned",
    ),
    "predict": Verb(
        "predict", "Predict", "Landmarks of the faces in photos, folders, videos or a camera's frames",
        then="stylealign report --inputs {out} --out {out}.html",
    ),
    "translate": Verb(
        "translate", "Translate",
        "The face of one photo in the style of others: a picture, a row, a sheet",
        then="look at {out}",
    ),
    "demo": Verb("demo.job", "Demo", "A page in the browser: two photos, their landmarks, each in the other's style"),
    "calibrate": Verb(
        "calibrate.job", "Calibrate",
        "How a detector's error grows with boxes that are off or faces that are turned; how sure it is",
    ),
    "evaluate": Verb(
        "evaluate.job", "Evaluate",
        "NME, failure rate, AUC, CED, subsets, paired comparison of detectors or predictions",
        then="stylealign report --inputs {out} --out {out}.html",
    ),
    "export": Verb(
        "export.job", "Export",
        "Write a detector as an ONNX file (fp32, fp16, int8) with its crop and mark-up in it",
        then="stylealign predict PHOTOS --model {out} --draw",
    ),
    "report": Verb(
        "report.job", "Report", "One HTML file of runs, evaluations and style sheets",
        then="open {out} in a browser",
    ),
    "gen-landmark": Verb(
        "gen_landmark", "GenLandmark",
        "Cut mosaics of the original release into a dataset, with the right labels",
        then="stylealign check {out_dir} --draw 16 --out {out_dir}_check",
    ),
}  # fmt: skip
