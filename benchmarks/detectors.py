"""Size, speed and memory of every detector, and what drawing and reading maps costs beside a training step.

    python benchmarks/detectors.py [--out docs/detectors_table.md] [--only resnet18 lab] [--versions small paper]

Each line of the first table is measured in two fresh processes, one for each batch size (stylealign.jobs.models). The
second table is about the parts of LAB and SAN that are not layers, each beside a training step of the network that uses
it, at batch 16.
"""

import argparse
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stylealign.batches.structure_maps import boundary_maps
from stylealign.config import from_dict
from stylealign.detectors import DETECTORS, Preset, presets
from stylealign.evaluation.tables import markdown_of
from stylealign.face.schema import convert, get_schema
from stylealign.jobs import models
from stylealign.toyfaces import landmarks, random_structure
from stylealign.training.devices import pick_device

BATCH = 16


def step_seconds(name: str, preset: Preset, schema_name: str, device: torch.device) -> float:
    """Seconds of a plain training step at BATCH."""
    found = models.measure(name, preset, get_schema(schema_name), None, BATCH, device)
    return BATCH / found["train"]


def faces(preset: Preset, schema_name: str, device: torch.device) -> torch.Tensor:
    """(BATCH, P, 2) px: landmarks of drawn faces, placed as a crop of 1.4 times their box places them."""
    schema = get_schema(schema_name)
    numbered = np.stack([landmarks(random_structure(np.random.default_rng(seed)), 256) for seed in range(BATCH)])
    if schema.name != "wflw98":
        numbered = convert(numbered, "wflw98", schema.name)
    drawn = torch.as_tensor(numbered, dtype=torch.float32)
    low, high = drawn.amin(dim=1, keepdim=True), drawn.amax(dim=1, keepdim=True)
    side = 1.4 * (high - low).amax(dim=2, keepdim=True)
    return (((drawn - (low + high) / 2) / side + 0.5) * preset.size).to(device)


def parts(name: str, preset: Preset, schema_name: str, device: torch.device) -> list[tuple[str, float]]:
    """(what, seconds at BATCH) of the parts of a network that are not layers."""
    schema, found = get_schema(schema_name), []
    shape: Any = from_dict(DETECTORS[name].config, preset.network, preset.title)
    points = faces(preset, schema_name, device)
    if name == "lab":
        num_cells = preset.size // shape.map_stride(preset.size)
        scale = num_cells / preset.size
        cells = (points + 0.5) * scale - 0.5
        seconds = models.seconds_of(lambda: boundary_maps(cells, num_cells, shape.sigma, schema), device)
        found.append((f"rendering {len(schema.boundaries)} boundary maps of {num_cells} x {num_cells}", seconds))
    if name == "san":
        from stylealign.detectors.heatmap import decode, target_maps

        stride = shape.stride or (8 if preset.size >= 128 else 4)
        num_cells, sigma = preset.size // stride, shape.sigma * preset.size
        maps = target_maps(points, num_cells, stride, sigma)
        seconds = models.seconds_of(lambda: target_maps(points, num_cells, stride, sigma), device)
        found.append((f"drawing {maps.shape[1]} target maps of {num_cells} x {num_cells}", seconds))
        seconds = models.seconds_of(lambda: decode(maps[:, :-1], stride, shape.patch), device)
        found.append((f"decoding {maps.shape[1] - 1} maps of {num_cells} x {num_cells}", seconds))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the tables to this Markdown file")
    parser.add_argument("--schema", default="ibug68")
    parser.add_argument("--only", nargs="*", default=[], help="names of detectors, such as resnet18 lab")
    parser.add_argument("--versions", nargs="*", default=["small", "paper"], help="small, paper or both")
    parser.add_argument("--accelerator", default="auto")
    options = parser.parse_args()
    version = options.versions[0] if len(options.versions) == 1 else None
    table = models.model_table(
        models.Models(
            schema=options.schema,
            only=tuple(options.only),
            version=version,
            measure=True,
            accelerator=options.accelerator,
        )
    )
    lines = [*markdown_of(table), "", table.note, ""]
    device = pick_device(options.accelerator)
    header = ["| part, batch 16 | ms | ms of a training step | share | aim |", "|---|---|---|---|---|"]
    for name, preset in presets():
        if name in ("lab", "san") and name in (options.only or DETECTORS) and preset.version in options.versions:
            step = step_seconds(name, preset, options.schema, device)
            for what, seconds in parts(name, preset, options.schema, device):
                lines += header
                header = []
                part = f"{preset.title} {preset.version}, {preset.size} px: {what}"
                lines.append(f"| {part} | {seconds * 1e3:.2f} | {step * 1e3:.0f} | {seconds / step:.1%} | 10 % |")
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    lines += ["", f"{machine}, Python {platform.python_version()}, torch {torch.__version__}."]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
