"""What may import what: one list of layers, no circles, and what a layer does not know (docs/architecture.md)."""

import ast
import functools
from collections import defaultdict
from collections.abc import Set
from pathlib import Path

from builders.places import ROOT, SRC
from stylealign.jobs import VERBS

PACKAGE = SRC / "stylealign"
FILES = sorted(PACKAGE.rglob("*.py"))
# From the bottom up: each may import those before it and itself. The one list of what the house is made of.
LAYERS = (
    "__init__", "errors", "progress", "config", "verb_help", "flags",
    "face", "data", "evaluation", "toyfaces", "batches", "training", "detectors", "translators", "styling",
    "predicting", "api",
    "jobs", "cli", "__main__",
)  # fmt: skip
WITHOUT_TORCH = ("errors", "progress", "config", "verb_help", "flags", "face", "data", "evaluation", "toyfaces", "cli")
# Modules above those layers that start without torch all the same: people wait for them, or
# use ONNX files and have no torch.
ALSO_WITHOUT_TORCH = (
    "api.detector", "jobs", "jobs.assess.plots", "jobs.assess.tables", "jobs.calibrate.job", "jobs.check",
    "jobs.demo.job", "jobs.draw_faces", "jobs.evaluate.job", "jobs.export_dataset", "jobs.init", "jobs.predict",
    "jobs.prepare", "jobs.report.job", "jobs.stress", "jobs.translate", "predicting.onnx_network",
    "training.cluster", "training.fan_out", "training.on_node", "training.processes", "training.slurm",
)  # fmt: skip
# Below detectors/ and translators/ networks, losses and ways of learning; these two read runs.
READ_RUNS = ("detectors.loaded", "translators.loaded")


def name_of(path: Path) -> str:
    """`detectors.lab.network`; a package's own file has the package's name, the root's is `__init__`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {name_of(path): path for path in FILES}


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imported(path: Path, when_imported_only: bool = False) -> frozenset[str]:
    """Dotted names that a file imports: all of them (in functions and under TYPE_CHECKING
    too), or when it is itself imported.

    `from a import b` is `a.b` where that is a module of ours, else `a`.
    """
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: a relative import, which this test does not follow"
                module = child.module or ""
                for alias in child.names:
                    inner = f"{module}.{alias.name}".removeprefix("stylealign.")
                    found.add(f"{module}.{alias.name}" if inner in MODULES else module)
            elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING" and when_imported_only:
                continue
            elif not (when_imported_only and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)):
                visit(child)

    visit(tree_of(path))
    return frozenset(found)


def ours(names: Set[str]) -> set[str]:
    """The modules of this package among imported names."""
    found = {"__init__" if name == "stylealign" else name.removeprefix("stylealign.") for name in names
             if name.split(".")[0] == "stylealign"}  # fmt: skip
    assert found <= MODULES.keys(), found - MODULES.keys()
    return found


@functools.cache
def graph() -> dict[str, set[str]]:
    """What each module of ours imports of ours."""
    return {name: ours(imported(path)) - {name} for name, path in MODULES.items()}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """A circle for every edge that closes one, by depth-first search."""
    found: list[list[str]] = []
    state: dict[str, int] = defaultdict(int)  # 0 unseen, 1 on the way, 2 done

    def walk(node: str, way: list[str]) -> None:
        state[node] = 1
        for following in sorted(graph.get(node, ())):
            if state[following] == 1:
                found.append([*way[way.index(following) :], following])
            elif state[following] == 0:
                walk(following, [*way, following])
        state[node] = 2

    for node in sorted(graph):
        if state[node] == 0:
            walk(node, [node])
    return found


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c", "a"]]
    assert circles({"a": {"b"}, "b": {"c"}, "d": {"a"}}) == []


def test_no_file_imports_in_a_circle() -> None:
    # A package's __init__ is run before its files: importing one of them is importing it.
    assert circles(graph()) == []


def test_no_folder_imports_in_a_circle() -> None:
    folders: dict[str, set[str]] = defaultdict(set)
    for name, others in graph().items():
        here = str(MODULES[name].parent.relative_to(PACKAGE))
        for other in others:
            there = str(MODULES[other].parent.relative_to(PACKAGE))
            # A folder and those inside it are one place: its __init__ is their table of contents.
            if there not in (here, ".") and not there.startswith(f"{here}/") and not here.startswith(f"{there}/"):
                folders[here].add(there)
    folders.pop(".", None)
    assert circles(folders) == []


def layer_of(name: str) -> int:
    return LAYERS.index(name.split(".")[0])


def test_every_file_stands_in_a_layer() -> None:
    assert {name.split(".")[0] for name in MODULES} == set(LAYERS)


def test_a_layer_imports_only_those_below() -> None:
    for name, others in graph().items():
        above = sorted(other for other in others if layer_of(other) > layer_of(name))
        assert not above, f"{name} imports {', '.join(above)}, which stand above it"


def test_the_first_level_reads_as_the_architecture() -> None:
    assert len([p for p in PACKAGE.iterdir() if (p / "__init__.py").exists()]) <= 12
    assert len(list(PACKAGE.glob("*.py"))) <= 8


def loaded_with(name: str) -> set[str]:
    """All that is imported when a module is imported: dotted names of ours and of others."""
    found, todo = set[str](), [name]
    while todo:
        module = todo.pop()
        names = imported(MODULES[module], when_imported_only=True)
        found |= {n for n in names if n.split(".")[0] != "stylealign"}
        packages = {".".join(module.split(".")[:k]) for k in range(1, module.count(".") + 1)}
        for other in (ours(names) | packages) & MODULES.keys():
            if other not in found:
                found.add(other)
                todo.append(other)
    return found


def test_what_needs_no_tensors_loads_no_torch() -> None:
    for name in (n for n in MODULES if n.split(".")[0] in WITHOUT_TORCH or n in ALSO_WITHOUT_TORCH):
        heavy = {n for n in loaded_with(name) if n.split(".")[0] in ("torch", "lightning_fabric", "safetensors")}
        assert not heavy, f"importing {name} imports {', '.join(sorted(heavy))}"


def test_the_list_of_modules_without_torch_names_modules() -> None:
    assert set(ALSO_WITHOUT_TORCH) <= MODULES.keys()


def test_networks_know_no_files() -> None:
    for name in (n for n in MODULES if n.split(".")[0] in ("detectors", "translators") and n not in READ_RUNS):
        found = imported(MODULES[name]) & {"yaml", "json", "os", "stylealign.training.run"}
        assert not found, f"{name} imports {', '.join(sorted(found))}"


def test_only_the_training_loop_meets_fabric() -> None:
    meeting = [n for n, p in MODULES.items() if any(i.startswith("lightning_fabric") for i in imported(p))]
    assert meeting == ["training.loop"]


def test_nothing_is_unpickled() -> None:
    for path in FILES:
        assert not imported(path) & {"pickle", "joblib", "dill", "cloudpickle"}, path
        for node in ast.walk(tree_of(path)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load"):
                continue
            if ast.unparse(node.func) in ("torch.load", "np.load", "numpy.load"):
                options = {k.arg: ast.unparse(k.value) for k in node.keywords}
                if ast.unparse(node.func) == "torch.load":
                    assert options.get("weights_only") == "True", f"{path}:{node.lineno}"
                else:
                    assert options.get("allow_pickle", "False") == "False", f"{path}:{node.lineno}"


def test_jobs_are_the_verbs() -> None:
    files = {path.stem for path in (PACKAGE / "jobs").glob("*.py")} - {"__init__"}
    folders = {path.parent.name for path in (PACKAGE / "jobs").glob("*/__init__.py")}
    assert files | folders == {verb.replace("-", "_") for verb in VERBS}
    assert all(entry.module.split(".")[0] == verb.replace("-", "_") for verb, entry in VERBS.items())


def test_tests_lie_in_the_folders_of_what_they_test_and_import_no_test() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/*.py")}
    assert folders - packages <= {"builders", "fuzz"}
    for path in (ROOT / "tests").rglob("*.py"):
        names = {part for name in imported(path) for part in name.split(".")}
        assert not {name for name in names if name.startswith("test_")}, path
