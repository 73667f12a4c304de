"""What may import what (docs/design.md): facts and files know no tensors, models know no files, one file knows Fabric."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "stylealign"
MODULES = sorted(SRC.rglob("*.py"))
WITHOUT_TORCH = {
    "__init__", "errors", "config", "schema", "sample", "geometry", "boundary", "metrics", "image", "draw", "progress", "dataset",
    "predictions", "prepare", "export_dataset", "evaluate", "report", "tables", "scoring", "workers", "cli", "flags",
    "assess.tables", "assess.plots", "crop", "predicting.__init__",
    *(f"predicting.{name}" for name in (
        "network", "sources", "views", "boxes", "finders", "places", "answering", "photos", "overlay", "one_euro", "tracking", "video",
        "stages", "output", "job", "calibrate", "api",
    )),
    "translating.__init__", "translating.job", "demo.__init__", "demo.job",
}  # fmt: skip
WITHOUT_PATHS = {
    "structure",
    "augment",
    "translators.vunet",
    "translators.layers",
    "translators.losses",
    "translators.spade",
    "translators.spade_learning",
    "translators.bilateral",
    "translators.bilateral_learning",
    "translators.codes",
    "translators.regions",
    "translators.patches",
    "translators.learning",
    "detectors.resnet",
    "detectors.losses",
    "detectors.heatmap",
    "detectors.cyclegan",
    "detectors.styles",
    "detectors.san",
    "detectors.lab",
    "detectors.hourglass",
    "detectors.messages",
    "detectors.adversary",
    "detectors.wing",
    "detectors.dvln",
    "detectors.balance",
    "optim",
    "semi.encoder",
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SRC).with_suffix("").parts)


def imports(path: Path, top_level_only: bool) -> set[str]:
    """Dotted names that a module imports (anywhere, or when it is itself imported)."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                found.add(child.module or "")
            elif not (top_level_only and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)):
                visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


@pytest.mark.parametrize(
    "path",
    [p for p in MODULES if name_of(p) in WITHOUT_TORCH or name_of(p).startswith(("readers", "toyfaces"))],
    ids=name_of,
)
def test_facts_and_files_do_not_import_torch(path: Path) -> None:
    names = imports(path, top_level_only=True)
    assert not {n for n in names if n.split(".")[0] in ("torch", "lightning_fabric")}
    tensor_modules = ("batch", "augment", "structure", "training", "run", "translators", "detectors")
    assert not {n for n in names if n.startswith("stylealign.") and n.split(".")[1] in tensor_modules}


@pytest.mark.parametrize("path", [p for p in MODULES if name_of(p) in WITHOUT_PATHS], ids=name_of)
def test_models_and_losses_know_no_paths_and_no_yaml(path: Path) -> None:
    assert not imports(path, top_level_only=False) & {
        "pathlib",
        "yaml",
        "json",
        "os",
        "stylealign.data.dataset",
        "stylealign.training.run",
        "stylealign.config",
    }


def test_only_training_meets_fabric() -> None:
    assert [name_of(p) for p in MODULES if any(n.startswith("lightning_fabric") for n in imports(p, False))] == [
        "training"
    ]


def test_nothing_is_unpickled() -> None:
    for path in MODULES:
        names = imports(path, top_level_only=False)
        assert not names & {"pickle", "joblib", "dill", "cloudpickle"}, path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load", "numpy.load"):
                options = {k.arg: ast.unparse(k.value) for k in node.keywords}
                if ast.unparse(node.func) == "torch.load":
                    assert options.get("weights_only") == "True", f"{path}:{node.lineno}"
                else:
                    assert options.get("allow_pickle", "False") == "False", f"{path}:{node.lineno}"
