"""Where a network computes, and how its weights lie in memory."""

from typing import TypeVar

import torch
from torch import nn

from stylealign.errors import UserError

M = TypeVar("M", bound=nn.Module)


def pick_device(accelerator: str = "auto") -> torch.device:
    """The device for jobs of one process (evaluate, generate): cuda, else mps, else cpu, or the one named."""
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if accelerator not in ("cpu", "cuda", "mps"):
        raise UserError(f"accelerator: found {accelerator!r}, expected auto, cpu, cuda or mps")
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise UserError("--accelerator cuda: this torch sees no CUDA device; use cpu, or install a CUDA build of torch")
    return torch.device(accelerator)


def place(module: M, device: torch.device | str) -> M:
    """Move a module to a device, its weights channels-last (the faster layout for convolutions on CPUs and GPUs)."""
    return module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
