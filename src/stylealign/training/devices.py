"""Where a network computes, in which precision, and how its weights lie in memory."""

import platform
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


def training_accelerator(accelerator: str = "auto") -> str:
    """Where networks learn and pictures are made or assessed: cuda, else cpu, or the one named. UserError for mps."""
    if accelerator == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator == "mps":
        raise UserError(
            "accelerator mps: found an Apple GPU, where torch has no float64, in which trainings and translators "
            "compute where things are; expected cpu or cuda (a trained detector answers on mps)"
        )
    return accelerator


def training_device(accelerator: str = "auto") -> torch.device:
    """The device of `training_accelerator`."""
    return pick_device(training_accelerator(accelerator))


def place(module: M, device: torch.device | str) -> M:
    """Move a module to a device, its weights channels-last (the faster layout for convolutions on CPUs and GPUs)."""
    return module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def said_of_precision(precision: str, device: torch.device) -> str:
    """What to tell a person who asks for a precision that makes a training slower there; nothing otherwise.

    An x86 processor without AVX-512 imitates bfloat16: MobileNetV2 at 96 px learns at a quarter of its speed.
    """
    imitates = (
        device.type == "cpu"
        and platform.machine().lower() in ("x86_64", "amd64")
        and torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "NO AVX", "AVX", "AVX2")
    )
    if precision != "bf16-mixed" or not imitates:
        return ""
    return (
        "precision bf16-mixed: this processor has no bfloat16 and imitates it, about four times as slowly as it "
        "computes float32; leave `precision` out of the recipe, or give --loop.precision 32-true"
    )
