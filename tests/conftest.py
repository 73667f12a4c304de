"""One thread for every test: networks this small are faster so, and the last bits of their numbers do not depend on the machine."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)
