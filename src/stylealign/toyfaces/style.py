"""The style of a drawn face: everything that does not move a landmark.

That is light, skin, make-up, hair, background, glasses, what is held before the face, and the camera. Knows nothing
of geometry; lengths are fractions or head units (about 73 mm).
"""

import colorsys
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

Colour = tuple[float, float, float]
"""Red, green, blue in [0, 1]."""
Hair = Literal["bald", "buzz", "short", "parted", "fringe", "bob", "long", "curly", "bun"]
Beard = Literal["none", "stubble", "moustache", "goatee", "full"]
Background = Literal["gradient", "blobs", "stripes", "noise"]
Glasses = Literal["none", "round", "square", "sun"]
Occluder = Literal["none", "hand", "bar", "microphone", "hat"]
Tone = Literal["colour", "grey", "sepia"]
World = Literal["none", "dark", "studio", "street"]
"""Where styles come from: anywhere, the night, a studio, or a street after dark seen by a poor camera."""

SKINS: tuple[Colour, ...] = (
    (0.98, 0.84, 0.76), (0.95, 0.77, 0.66), (0.90, 0.69, 0.55), (0.84, 0.62, 0.46),
    (0.74, 0.52, 0.37), (0.62, 0.42, 0.29), (0.49, 0.32, 0.22), (0.38, 0.245, 0.175),
)  # fmt: skip
HAIRS: tuple[Colour, ...] = (
    (0.10, 0.08, 0.08), (0.17, 0.11, 0.08), (0.28, 0.17, 0.10), (0.40, 0.25, 0.13), (0.55, 0.38, 0.20),
    (0.78, 0.62, 0.36), (0.55, 0.22, 0.10), (0.62, 0.60, 0.58), (0.85, 0.84, 0.82),
)  # fmt: skip
IRISES: tuple[Colour, ...] = (
    (0.22, 0.13, 0.07),
    (0.33, 0.21, 0.10),
    (0.36, 0.40, 0.22),
    (0.33, 0.48, 0.60),
    (0.42, 0.50, 0.52),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """Everything that decides how a face looks, given where its landmarks are."""

    seed: int = 0
    """Textures, blobs, strands and sensor noise."""
    # skin
    skin: Colour = SKINS[1]
    """Colour of the skin in white light."""
    flush: float = 0.4
    """Redness of nose, cheeks and ears; 0 ... 1."""
    freckles: float = 0.0
    """0 none ... 1 many."""
    age: float = 0.2
    """Depth of the folds round mouth and eyes; 0 ... 1."""
    gloss: float = 0.25
    """Strength of highlights on the skin."""
    # make-up
    lipstick: float = 0.0
    """0 bare ... 1 opaque."""
    lipstick_colour: Colour = (0.72, 0.08, 0.16)
    """Colour of painted lips."""
    eye_shadow: float = 0.0
    """0 bare ... 1 opaque."""
    eye_shadow_colour: Colour = (0.35, 0.25, 0.50)
    """Colour of painted lids."""
    blush: float = 0.0
    """Rouge on the cheeks; 0 ... 1."""
    lashes: float = 0.3
    """Darkness and length of lashes and liner; 0 ... 1."""
    iris: Colour = IRISES[1]
    """Colour of the eyes."""
    # hair
    hair: Hair = "short"
    """Cut."""
    hair_colour: Colour = HAIRS[2]
    """Colour of hair, brows and beard."""
    hair_length: float = 0.8
    """How far long hair falls below the eyes, in units."""
    hair_volume: float = 0.14
    """Height of the hair above the skull, in units."""
    hairline: float = 0.0
    """-1 low ... 1 receding."""
    parting: float = 0.3
    """-1 parted at the image's left ... 1 at its right."""
    beard: Beard = "none"
    """Cut; always within the outline of the face, so that the outline stays the skin's edge."""
    # light
    light_azimuth: float = -30.0
    """Degrees; negative comes from the image's left."""
    light_elevation: float = 35.0
    """Degrees above the horizon."""
    light_colour: Colour = (1.0, 0.98, 0.94)
    """Colour of the lamp."""
    ambient_colour: Colour = (0.96, 0.98, 1.0)
    """Colour of the light that reaches the shadows."""
    ambient: float = 0.6
    """Brightness of the shadows."""
    lamp: float = 0.55
    """Brightness added where the lamp shines squarely."""
    # surroundings
    background: Background = "gradient"
    """Pattern behind the head."""
    background_colours: tuple[Colour, Colour] = ((0.55, 0.62, 0.70), (0.85, 0.86, 0.84))
    """Its two colours."""
    clothes: Colour = (0.25, 0.30, 0.42)
    """Colour of the shirt."""
    glasses: Glasses = "none"
    """Kind of spectacles."""
    glasses_colour: Colour = (0.10, 0.09, 0.09)
    """Colour of the frame."""
    occluder: Occluder = "none"
    """What is before the face."""
    occluder_colour: Colour = (0.30, 0.30, 0.32)
    """Its colour (a hand has its own skin)."""
    occluder_x: float = 0.4
    """Its place in head units from the face's middle."""
    occluder_y: float = 0.5
    """Its place in head units from the face's middle."""
    occluder_angle: float = 0.0
    """Its turn, degrees."""
    occluder_size: float = 1.0
    """Its size as a factor."""
    # camera
    exposure: float = 1.0
    """Factor on all brightness."""
    contrast: float = 1.0
    """Factor on the distance from middle grey."""
    tone: Tone = "colour"
    """Colour, grey or sepia print."""
    blur: float = 0.0
    """Gaussian blur, percent of the frame."""
    motion: float = 0.0
    """Length of a sideways smear, percent of the frame."""
    downscale: float = 1.0
    """How many times fewer pixels a side the camera had."""
    noise: float = 0.0
    """Standard deviation of sensor noise, of 1."""
    jpeg: int = 100
    """JPEG quality the picture has been through; 100 leaves it untouched."""


def mix_colours(a: Colour, b: Colour, t: float) -> Colour:
    """The colour `t` of the way from a to b."""
    return tuple(float((1 - t) * x + t * y) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def hsv(h: float, s: float, v: float) -> Colour:
    """A colour by hue (cyclic), saturation and value."""
    return colorsys.hsv_to_rgb(h % 1.0, s, v)


def _pick(rng: np.random.Generator, shares: dict[str, float]) -> str:
    """A key with probability proportional to its share."""
    weights = np.array(list(shares.values()))
    return list(shares)[int(rng.choice(len(weights), p=weights / weights.sum()))]


def _between(rng: np.random.Generator, palette: tuple[Colour, ...]) -> Colour:
    """A colour somewhere between two neighbours of a palette."""
    i = int(rng.integers(len(palette) - 1))
    return mix_colours(palette[i], palette[i + 1], float(rng.random()))


def _random_person(rng: np.random.Generator) -> dict:
    """Skin, hair and make-up that go together."""
    tone = rng.random() * (len(SKINS) - 1)
    i = min(int(tone), len(SKINS) - 2)
    skin = mix_colours(SKINS[i], SKINS[i + 1], tone - i)
    dark_skin = tone > 4.0
    feminine = rng.random() < 0.5
    grey = rng.random() < 0.12
    palette = HAIRS[7:] if grey else HAIRS[:3] if dark_skin else HAIRS[:7]
    hair_colour = hsv(rng.random(), 0.6, 0.7) if rng.random() < 0.03 else _between(rng, palette)
    if feminine:
        hair = _pick(rng, {"long": 4, "bob": 3, "bun": 1.5, "fringe": 2, "curly": 2, "parted": 1, "short": 0.5})
    else:
        hair = _pick(rng, {"short": 4, "parted": 2.5, "buzz": 2, "bald": 1.2, "curly": 1.2, "fringe": 0.8, "long": 0.5})
    shares = {"none": 1.0} if feminine else {"none": 5, "stubble": 3, "full": 1.6, "moustache": 0.7, "goatee": 0.9}
    painted = rng.random() < (0.45 if feminine else 0.03)
    return {
        "skin": skin,
        "flush": float(rng.uniform(0.15, 0.8)) * (0.5 if dark_skin else 1.0),
        "freckles": float(rng.uniform(0.3, 1.0)) if tone < 2 and rng.random() < 0.15 else 0.0,
        "age": float(rng.uniform(0.5, 1.0)) if grey else float(rng.uniform(0.0, 0.6)),
        "gloss": float(rng.uniform(0.05, 0.5)),
        "lipstick": float(rng.uniform(0.4, 0.95)) if painted else 0.0,
        "lipstick_colour": hsv(rng.uniform(0.91, 1.03), rng.uniform(0.55, 0.95), rng.uniform(0.45, 0.85)),
        "eye_shadow": float(rng.uniform(0.2, 0.8)) if painted else 0.0,
        "eye_shadow_colour": hsv(rng.random(), rng.uniform(0.2, 0.6), rng.uniform(0.25, 0.6)),
        "blush": float(rng.uniform(0.2, 0.8)) if painted else 0.0,
        "lashes": float(rng.uniform(0.5, 1.0)) if feminine else float(rng.uniform(0.1, 0.4)),
        "iris": IRISES[int(rng.integers(2))] if dark_skin else _between(rng, IRISES),
        "hair": hair,
        "hair_colour": hair_colour,
        "hair_length": float(rng.uniform(1.1, 2.3)),
        "hair_volume": float(rng.uniform(0.08, 0.22)),
        "hairline": float(np.clip(rng.normal(0.0, 0.45), -1, 1)),
        "parting": float(rng.uniform(-0.6, 0.6)),
        "beard": _pick(rng, shares),
    }


def _random_light(rng: np.random.Generator) -> dict:
    """Mostly soft daylight or lamps; now and then a hard side light, a coloured light, too little or too much."""
    kind = _pick(rng, {"soft": 7, "side": 1.6, "coloured": 0.9, "dim": 0.7, "bright": 0.6})
    side = kind == "side"
    warmth = float(rng.uniform(-1, 1))
    white: Colour = (1.0 + 0.05 * warmth, 1.0, 1.0 - 0.10 * warmth)
    return {
        "light_azimuth": float(rng.choice([-1, 1]) * rng.uniform(55, 85)) if side else float(rng.uniform(-60, 60)),
        "light_elevation": float(rng.uniform(0, 35)) if side else float(rng.uniform(10, 65)),
        "light_colour": hsv(rng.random(), rng.uniform(0.35, 0.65), 1.0) if kind == "coloured" else white,
        "ambient_colour": (0.97, 0.99, 1.02) if kind != "coloured" else hsv(rng.random(), 0.25, 1.0),
        "ambient": float(rng.uniform(0.18, 0.33)) if side else float(rng.uniform(0.5, 0.72)),
        "lamp": float(rng.uniform(0.6, 1.0)) if side else float(rng.uniform(0.3, 0.6)),
        "exposure": float(
            {"dim": rng.uniform(0.42, 0.6), "bright": rng.uniform(1.3, 1.5)}.get(kind, rng.uniform(0.88, 1.1))
        ),
    }


def _random_surroundings(rng: np.random.Generator) -> dict:
    """Background, clothes, glasses and what is before the face."""
    hue = rng.random()
    first = hsv(hue, rng.uniform(0.05, 0.6), rng.uniform(0.2, 0.9))
    second = hsv(hue + rng.normal(0, 0.12), rng.uniform(0.05, 0.6), rng.uniform(0.2, 0.95))
    occluder = _pick(rng, {"none": 8.0, "hand": 0.6, "bar": 0.35, "microphone": 0.4, "hat": 0.9})
    side = float(rng.choice([-1, 1]))
    places = {
        "hand": (side * rng.uniform(0.35, 0.65), rng.uniform(0.45, 1.25), side * rng.uniform(-5, 30)),
        "bar": (rng.uniform(-0.8, 0.8), rng.uniform(0.0, 1.2), rng.uniform(-80, 80)),
        "microphone": (side * rng.uniform(0.0, 0.35), rng.uniform(1.1, 1.4), side * rng.uniform(-35, 5)),
    }
    x, y, angle = places.get(occluder, (0.0, 0.0, 0.0))
    return {
        "background": _pick(rng, {"gradient": 3, "blobs": 3, "stripes": 1.2, "noise": 1.5}),
        "background_colours": (first, second),
        "clothes": hsv(rng.random(), rng.uniform(0.0, 0.7), rng.uniform(0.12, 0.9)),
        "glasses": _pick(rng, {"none": 8.0, "round": 0.6, "square": 0.7, "sun": 0.4}),
        "glasses_colour": hsv(rng.random(), rng.uniform(0, 0.6), rng.uniform(0.03, 0.35)),
        "occluder": occluder,
        "occluder_colour": hsv(rng.random(), rng.uniform(0.0, 0.7), rng.uniform(0.12, 0.7)),
        "occluder_x": float(x),
        "occluder_y": float(y),
        "occluder_angle": float(angle),
        "occluder_size": float(rng.uniform(0.8, 1.2)),
    }


def _random_camera(rng: np.random.Generator) -> dict:
    """Mostly a good picture; now and then out of focus, smeared, small, noisy, grey or squeezed."""
    fault = _pick(rng, {"none": 7.5, "blur": 0.9, "motion": 0.35, "downscale": 0.6, "noise": 0.6})
    return {
        "contrast": float(rng.uniform(0.88, 1.12)),
        "tone": _pick(rng, {"colour": 9.0, "grey": 0.8, "sepia": 0.3}),
        "blur": float(rng.uniform(0.8, 1.8)) if fault == "blur" else 0.0,
        "motion": float(rng.uniform(2.5, 5.0)) if fault == "motion" else 0.0,
        "downscale": float(rng.uniform(2.0, 3.5)) if fault == "downscale" else 1.0,
        "noise": float(rng.uniform(0.03, 0.08)) if fault == "noise" else float(rng.uniform(0.0, 0.012)),
        "jpeg": int(rng.integers(25, 90)) if rng.random() < 0.4 else 100,
    }


def _studio(rng: np.random.Generator, style: Style) -> dict:
    """Light and camera of a studio portrait."""
    first, second = style.background_colours
    return {
        "light_azimuth": float(rng.uniform(-20, 20)),
        "light_elevation": float(rng.uniform(20, 45)),
        "light_colour": (1.0, 1.0, 0.98),
        "ambient_colour": (1.0, 1.0, 1.0),
        "ambient": float(rng.uniform(0.68, 0.76)),
        "lamp": float(rng.uniform(0.28, 0.38)),
        "exposure": float(rng.uniform(1.0, 1.1)),
        "background": "gradient",
        "background_colours": (
            mix_colours(first, (0.92, 0.93, 0.95), 0.8),
            mix_colours(second, (0.92, 0.93, 0.95), 0.7),
        ),
        "contrast": 1.0,
        "tone": "colour",
        **{"blur": 0.0, "motion": 0.0, "downscale": 1.0, "noise": 0.0, "jpeg": 100},
    }


def _street(rng: np.random.Generator, style: Style) -> dict:
    """Light and camera of a telephone at night: neon or a lamp at one side, out of focus, noisy."""
    first, second = style.background_colours
    hue = float(rng.random())
    return {
        "light_azimuth": float(rng.choice([-1, 1]) * rng.uniform(55, 88)),
        "light_elevation": float(rng.uniform(-10, 35)),
        "light_colour": hsv(hue, rng.uniform(0.4, 0.8), 1.0),
        "ambient_colour": hsv(hue + rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.5), 1.0),
        "ambient": float(rng.uniform(0.20, 0.32)),
        "lamp": float(rng.uniform(0.6, 1.0)),
        "exposure": float(rng.uniform(0.75, 1.15)),
        "background": "blobs" if rng.random() < 0.7 else style.background,
        "background_colours": (
            mix_colours(first, (0.02, 0.0, 0.06), 0.8),
            mix_colours(second, hsv(rng.random(), 0.8, 0.6), 0.5),
        ),
        "contrast": float(rng.uniform(0.9, 1.3)),
        "tone": "colour",
        "blur": float(rng.uniform(0.5, 1.6)),
        "motion": 0.0,
        "downscale": float(rng.uniform(1.0, 2.5)),
        "noise": float(rng.uniform(0.02, 0.07)),
        "jpeg": int(rng.integers(20, 70)),
    }


def random_style(rng: np.random.Generator, *, shift: World = "none") -> Style:
    """A random style. `shift` draws light and camera from another world; skin, hair, make-up and occluders stay.

    dark: night, with little light from one side, warm or blue, and sensor noise. studio: even white light, a pale plain
    background and a good camera. street: a hard coloured light from one side, dim, in a soft, noisy, compressed
    picture.
    """
    values = {**_random_person(rng), **_random_light(rng), **_random_surroundings(rng), **_random_camera(rng)}
    style = Style(seed=int(rng.integers(2**31)), **values)
    if shift == "none":
        return style
    if shift == "studio":
        return replace(style, **_studio(rng, style))
    if shift == "street":
        return replace(style, **_street(rng, style))
    night: tuple[Colour, Colour] = ((1.0, 0.72, 0.42), (0.50, 0.66, 1.0))
    first, second = style.background_colours
    return replace(
        style,
        light_azimuth=float(rng.choice([-1, 1]) * rng.uniform(45, 85)),
        light_elevation=float(rng.uniform(-10, 40)),
        light_colour=night[int(rng.integers(2))],
        ambient_colour=(0.75, 0.85, 1.0),
        ambient=float(rng.uniform(0.20, 0.36)),
        lamp=float(rng.uniform(0.5, 0.95)),
        exposure=float(rng.uniform(0.6, 0.9)),
        noise=float(rng.uniform(0.02, 0.06)),
        background_colours=(mix_colours(first, (0.0, 0.0, 0.04), 0.8), mix_colours(second, (0.0, 0.0, 0.04), 0.7)),
    )
