"""One thread for every test: networks this small are faster so, and no last bit of a number depends on the machine."""

import functools
import inspect
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
# Bounded by examples, never by seconds: a busy machine fails no test.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
# The tests start a hundred processes: modules that are not kept compiled cost each half a second.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

LONG = (
    "jobs/test_study.py", "jobs/test_train_detector.py", "training/test_torchrun.py", "jobs/test_kill_resume.py",
    "jobs/test_export.py", "jobs/test_generate.py", "jobs/test_train_translator.py", "jobs/test_assess.py",
    "fuzz/test_fuzz.py", "detectors/test_every_detector.py", "detectors/test_from_outside.py",
    "batches/test_augmentations.py", "detectors/test_heads.py", "jobs/test_generate_by_warp.py", "test_bad_input.py",
    "test_docs.py", "detectors/test_trunks.py", "jobs/test_models.py", "jobs/test_fit.py", "jobs/test_semi_training.py",
)  # fmt: skip
"""Files of more than about six seconds, the longest first: whoever runs several at once begins with them, so that none
is left with a long one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first; `--dist loadfile --no-loadscope-reorder` hands files out in this order."""
    rank = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.nodeid.split("::")[0].removeprefix("tests/"), len(LONG)))


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory):
    """Crops are cached in the tests' own folder, never in the user's; tests that need an empty cache name another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLEALIGN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(autouse=True, scope="session")
def _sources():
    """A class's source is looked up once: the command line asks for that of each section, at every call."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspect, "getsource", functools.cache(inspect.getsource))
        yield
