"""What augmentation costs: a preset, or one operation on every face, over the standard one, in turn (A B A B ...).

    python benchmarks/augment.py [--size 96] [--rounds 30] [--each]

Batches of 32 noise pictures with 68 landmarks and a margin of 1.25, one thread, in seconds of the processor, so that
neighbours on a busy machine count little. Times depend on the machine; the ratios less so.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch

from stylealign.batches.augment import AUGMENTATIONS, NO_AUGMENTATION, PRESETS, AugmentConfig, apply, augment
from stylealign.batches.augment.operation import NUM_DRAWS
from stylealign.batches.batch import Batch
from stylealign.face.schema import IBUG68

BATCH, MARGIN = 32, 1.25


def paired(a: Callable[[int], object], b: Callable[[int], object], rounds: int) -> tuple[float, float, float]:
    """Milliseconds of a and of b (medians), and the median of the pairwise ratios a / b."""
    a(0), b(0)
    times = []
    for number in range(rounds):
        start = time.process_time()
        a(number)
        middle = time.process_time()
        b(number)
        times.append((middle - start, time.process_time() - middle))
    return median(t for t, _ in times) * 1e3, median(t for _, t in times) * 1e3, median(x / y for x, y in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--each", action="store_true", help="every operation apart, on the crop without its margin")
    options = parser.parse_args()
    torch.set_num_threads(1)

    def faces(side: int) -> Batch:
        generator = torch.Generator().manual_seed(0)
        image = torch.rand(BATCH, 3, side, side, generator=generator) * 2 - 1
        return Batch(
            image.contiguous(memory_format=torch.channels_last),
            (0.2 + 0.6 * torch.rand(BATCH, 68, 2, generator=generator)) * side,
            torch.ones(BATCH, 68, dtype=torch.bool), torch.eye(2, 3, dtype=torch.float64).repeat(BATCH, 1, 1),
            torch.arange(BATCH), torch.ones(BATCH),
        )  # fmt: skip

    wide = faces(round(MARGIN * options.size))

    def varied(config: AugmentConfig) -> Callable[[int], object]:
        return lambda number: augment(wide, options.size, config, torch.Generator().manual_seed(number), IBUG68)

    standard = varied(AugmentConfig())
    print(f"{'':20}{'ms a batch':>12}{'standard, ms':>14}{'ratio':>8}")
    for name, config in [("none", NO_AUGMENTATION), *((name, AugmentConfig(preset=name)) for name in PRESETS)]:
        print("{:20}{:12.1f}{:14.1f}{:8.2f}".format(name, *paired(varied(config), standard, options.rounds)))
    if options.each:
        crop, strength = faces(options.size), torch.ones(BATCH)
        draws = torch.rand(BATCH, NUM_DRAWS, dtype=torch.float64)
        for name in AUGMENTATIONS:
            one = paired(
                lambda _, name=name: apply(name, crop, strength, draws, IBUG68), standard, max(3, options.rounds // 5)
            )
            print("{:20}{:12.1f}{:14.1f}{:8.2f}".format(name, *one))


if __name__ == "__main__":
    main()
