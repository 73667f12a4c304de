"""One thread for every test: networks this small are faster so, and no last bit of a number depends on the machine."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory):
    """Crops are cached in the tests' own folder, never in the user's; tests that need an empty cache name another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLEALIGN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield
