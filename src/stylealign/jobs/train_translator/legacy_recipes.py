"""The original release's recipes: its fifteen YAML keys as values of `train-translator`, and what each became.

Its schedule, network and lack of augmentation need nothing more (docs/paper_map.md 2.2). Its losses need VGG-19
weights: with `--vgg19 FILE` they are the released ones, without it they are ours, and a line says which. Knows no
files.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from stylealign.batches.augment import NO_AUGMENTATION
from stylealign.config import to_dict
from stylealign.errors import UserError
from stylealign.translators.kl import KL_PRESETS
from stylealign.translators.reconstruction import RECONSTRUCTION_PRESETS

# The original's keys with the values of its training recipe (docs/paper_map.md 2.2); None where those were paths.
LEGACY_KEYS: dict[str, Any] = {
    "exp_name": "exp_0001", "data_dir": None, "img_list": None, "batch_size": 4, "init_batches": 4, "spatial_size": 256,
    "bottleneck_factor": 2, "lr": 1e-3, "lr_decay_begin": 1000, "lr_decay_end": 50000, "log_freq": 250,
    "ckpt_freq": 5000,
    "test_freq": 100, "drop_prob": 0.1, "sigma": 1,
}  # fmt: skip
_OURS_TOO = {"batch_size", "init_batches", "lr"}


def is_legacy_recipe(values: Mapping[str, Any]) -> bool:
    """Whether a recipe's keys are those of the original: two or more that no recipe of ours has."""
    return len((LEGACY_KEYS.keys() - _OURS_TOO) & values.keys()) >= 2


def _number(values: Mapping[str, Any], key: str, kind: type, least: float, where: str) -> Any:
    try:
        number = float(values[key])  # PyYAML reads 1e-3 as text
    except (TypeError, ValueError):
        raise UserError(f"{where}: {key}: found {values[key]!r}, expected a number") from None
    if number < least or (kind is int and number != int(number)):
        raise UserError(
            f"{where}: {key}: found {values[key]!r}, expected a {'whole ' if kind is int else ''}number of at least "
            f"{least:g}"
        )
    return kind(number)


def translate_recipe(
    values: Mapping[str, Any], where: str = "recipe", vgg19: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """Turn the original's fifteen keys into values of `TrainTranslator`, and say in a line what each became.

    A key that is left out has the value of the original's training recipe. `data` is left to the user (`--data`),
    since the original's list has to be prepared first.

    Args:
        values: the recipe.
        where: its file, for errors.
        vgg19: whether the user gives VGG-19 weights, so that the losses can be the released ones.

    Raises UserError for a key that is not the original's, a value that cannot be meant, and the original's test recipe.
    """
    for key in values:
        if key not in LEGACY_KEYS:
            close = difflib.get_close_matches(str(key), LEGACY_KEYS, n=1)
            raise UserError(
                f"{where}: unknown key '{key}' in a recipe of the original"
                + (f"; did you mean '{close[0]}'?" if close else "")
            )
    v = {**LEGACY_KEYS, **values}
    lr = _number(v, "lr", float, 0, where)
    if lr == 0:
        raise UserError(
            f"{where}: lr is 0: this is the original's test recipe, which wrote mosaics while training with a rate of "
            "nothing; here the same faces are made by `stylealign generate --translator RUN --data DATA --out OUT`"
        )
    whole = {
        k: _number(v, k, int, 1, where)
        for k in ("batch_size", "init_batches", "spatial_size", "log_freq", "ckpt_freq", "test_freq", "lr_decay_end")
    }
    factor, begin = _number(v, "bottleneck_factor", int, 1, where), _number(v, "lr_decay_begin", int, 0, where)
    dropout, sigma = _number(v, "drop_prob", float, 0, where), _number(v, "sigma", float, 0, where)
    size, steps = whole["spatial_size"], whole["lr_decay_end"]
    if begin >= steps:
        raise UserError(f"{where}: lr_decay_begin: found {begin}, expected less than lr_decay_end ({steps})")
    run = f"runs/{v['exp_name']}"
    ours = {
        "run": run,
        # The rest of VUNetConfig's defaults is the release.
        "vunet": {"size": size, "bottleneck": 2**factor, "dropout": dropout},
        "structure": {"kind": "points", "sigma": sigma, "integer_centres": True},
        "crop": {"size": size, "scale": 1.4, "box": "landmarks"},
        "augment": to_dict(NO_AUGMENTATION),
        "init_batches": whole["init_batches"],
        "lr": {"start": lr, "end": 0.0, "flat_frac": begin / steps},
        "loop": {
            "steps": steps, "batch_size": whole["batch_size"], "log_every": whole["log_freq"],
            "checkpoint_every": whole["ckpt_freq"], "preview_every": whole["test_freq"], "ema_decay": 0.0,
        },
    }  # fmt: skip
    images, listed = v["data_dir"] or "DATA_DIR", v["img_list"] or "IMG_LIST"
    became = {
        "exp_name": f"run: {run} (the same command continues it; the original refused a name twice)",
        "data_dir": f"--images of `stylealign prepare --reader list --path {listed} --images {images} --frame 384 "
        "--out DATA`; then --data DATA",
        "img_list": "--path of that `prepare`: faces are read once, with their frame said instead of a fixed 2/3",
        "batch_size": f"loop.batch_size: {whole['batch_size']}",
        "init_batches": f"init_batches: {whole['init_batches']}",
        "spatial_size": f"vunet.size and crop.size: {size} (the crop is 1.4 x the landmark box, where the original "
        "resized its whole crop)",
        "bottleneck_factor": f"vunet.bottleneck: {2**factor} (2 to the power of {factor})",
        "lr": f"lr.start: {lr:g}",
        "lr_decay_begin": f"lr.flat_frac: {begin / steps:g} (step {begin} of {steps})",
        "lr_decay_end": f"loop.steps: {steps}, with lr.end 0",
        "log_freq": f"loop.log_every: {whole['log_freq']}",
        "ckpt_freq": f"loop.checkpoint_every: {whole['ckpt_freq']}",
        "test_freq": f"loop.preview_every: {whole['test_freq']} (pictures only; faces are made by "
        "`stylealign generate`)",
        "drop_prob": f"vunet.dropout: {dropout:g}",
        "sigma": f"structure.sigma: {sigma:g}, with integer_centres as the original (set it to False to keep sub-pixel "
        "structure)",
    }
    lines = [
        f"{key} -> {text}" + ("" if key in values else " (not given: the original's own value)")
        for key, text in became.items()
    ]
    lines.append("not in its recipe: no augmentation and no averaged weights, as the original")
    if vgg19:
        ours |= {"reconstruction": to_dict(RECONSTRUCTION_PRESETS["released"]), "kl": to_dict(KL_PRESETS["released"])}
        lines.append(
            "not in its recipe: reconstruction (VGG-19 features and Gram matrices) and kl (its fixed schedule) as "
            "released"
        )
    else:
        lines.append(
            "NOT as the original: without --vgg19 FILE the losses are ours (a landmark detector's features, KL "
            "steered to a target); with it they are the released ones"
        )
    return ours, lines
