"""The verbs of the command line, a file or folder each with the verb's name. Imports one only when it is asked for.

A verb's module has a config dataclass, whose fields are its flags and the keys of its recipes, and
`main(config)`, which does the job.
"""

import importlib
from typing import Any, NamedTuple


class Verb(NamedTuple):
    """Where a verb lives and what it does."""

    module: str
    """below stylealign.jobs"""
    config: str
    """its config dataclass in that module"""
    summary: str
    """one line of `stylealign --help`"""

    def load(self) -> Any:
        """Its module, imported now."""
        return importlib.import_module(f"stylealign.jobs.{self.module}")

    def config_class(self) -> type:
        """Its config dataclass."""
        return getattr(self.load(), self.config)


VERBS = {
    "pipeline": Verb(
        "pipeline", "Pipeline",
        "The whole job from one recipe: draw or take faces, translate, train, compare, report",
    ),
    "draw-faces": Verb("draw_faces", "DrawFaces", "Draw faces with exact landmarks: a dataset without any download"),
    "init": Verb("init", "Init", "Look at your own annotated faces: write their mark-up, a recipe and the commands"),
    "prepare": Verb(
        "prepare", "Prepare",
        "Read a published layout (WFLW, 300-W, COFW, AFLW, COCO, CSV, ...) into a dataset",
    ),
    "check": Verb("check", "Check", "Verify and describe a dataset, a run or a recipe; draw it"),
    "export-dataset": Verb(
        "export_dataset", "ExportDataset",
        "Write a dataset as a WFLW list, .pts, COCO or the original's list",
    ),
    "train-translator": Verb(
        "train_translator.job", "TrainTranslator",
        "Train a translator: structure of one face, style of another",
    ),
    "assess": Verb(
        "assess.job", "Assess",
        "What a translator keeps of held-out faces and what it changes: the translator report",
    ),
    "generate": Verb("generate.job", "Generate", "Render every labelled face in many styles: a synthetic dataset"),
    "train-detector": Verb(
        "train_detector.job", "TrainDetector",
        "Train a landmark detector on real and synthetic faces",
    ),
    "train-styles": Verb(
        "train_styles", "TrainStyles",
        "Train the generators that the style-aggregated detector (san) looks through",
    ),
    "study": Verb("study.job", "Study", "Detectors x arms x label budgets x seeds at equal updates, in one table"),
    "models": Verb("models", "Models", "Every detector's parameters and MACs; --measure: its speed and memory"),
    "pseudo-label": Verb(
        "pseudo_label.job", "PseudoLabel",
        "Label faces by an ensemble of detectors, with a trust from how far they agree",
    ),
    "trust": Verb(
        "trust", "Trust",
        "How far generated faces keep their labels, to a detector that never saw the translator",
    ),
    "self-train": Verb("self_train", "SelfTrain", "Rounds of pseudo-labels and training on them, from one recipe"),
    "pretrain": Verb("pretrain", "Pretrain", "Train a detector's trunk without labels: geometry apart from style"),
    "stress": Verb(
        "stress", "Stress",
        "Make test faces harder at rising strength: light, make-up, occlusion, blur, tilt",
    ),
    "predict": Verb("predict", "Predict", "Landmarks of the faces in photos, folders, videos or a camera's frames"),
    "translate": Verb(
        "translate", "Translate",
        "The face of one photo in the style of others: a picture, a row, a sheet",
    ),
    "demo": Verb("demo.job", "Demo", "A page in the browser: two photos, their landmarks, each in the other's style"),
    "calibrate": Verb(
        "calibrate.job", "Calibrate",
        "How a detector's error grows with boxes that are off or faces that are turned; how sure it is",
    ),
    "evaluate": Verb(
        "evaluate.job", "Evaluate",
        "NME, failure rate, AUC, CED, subsets, paired comparison of detectors or predictions",
    ),
    "export": Verb(
        "export.job", "Export",
        "Write a detector as an ONNX file (fp32, fp16, int8) with its crop and mark-up in it",
    ),
    "report": Verb("report.job", "Report", "One HTML file of runs, evaluations and style sheets"),
    "gen-landmark": Verb(
        "gen_landmark", "GenLandmark",
        "Cut mosaics of the original release into a dataset, with the right labels",
    ),
}  # fmt: skip
