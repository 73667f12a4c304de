"""The one table of augmentations. A new one is a function that keeps the contract of operation.py, and an entry here.

Recipes take names from it (`augment: {ops: ...}`), presets (config.py), docs/augmentations.md and the tests of the
contract too. Nothing else lists augmentations.
"""

from stylealign.batches.augment import cameras, colours, covers, geometric, lights
from stylealign.batches.augment.operation import Augmentation, Look, Move


def _moves(function: Move, summary: str, full: str) -> Augmentation:
    return Augmentation(function=function, kind="geometric", summary=summary, full=full)


def _looks(function: Look, summary: str, full: str) -> Augmentation:
    return Augmentation(function=function, kind="photometric", summary=summary, full=full)


def _hides(function: Look, summary: str, full: str) -> Augmentation:
    return Augmentation(function=function, kind="occluding", summary=summary, full=full)


AUGMENTATIONS: dict[str, Augmentation] = {
    # Affine parts, round the crop's middle.
    "rotate": _moves(geometric.rotate, "turned in the picture, to either side", "180 degrees"),
    "scale": _moves(geometric.scale, "larger or smaller", "1.65 times the size, or 0.61"),
    "stretch": _moves(
        geometric.stretch, "wider and lower, or the other way round", "1.22 times one way, 0.82 the other"
    ),
    "shift": _moves(geometric.shift, "moved, in any direction", "a quarter of the crop"),
    "shear": _moves(geometric.shear, "leaning: rows or columns slide along themselves", "0.4 px a px"),
    "flip": _moves(geometric.flip, "mirrored, landmarks renumbered", "mirrored, as at any strength above 0"),
    # Other maps, their labels carried by the same numbers.
    "perspective": _moves(geometric.perspective, "the picture's plane tilted about any axis", "35 degrees"),
    "elastic": _moves(geometric.elastic, "bent like rubber", "6 x 6 places off by 2 % of the crop (a deviation)"),
    "thin_plate": _moves(geometric.thin_plate, "3 x 3 places pushed about, a thin plate between", "8 % of the crop"),
    "wave": _moves(geometric.wave, "rippled", "3 % of the crop to either side"),
    "lens": _moves(geometric.lens, "seen through a wide or a long lens", "20 % at the sides' middle"),
    "bulge": _moves(geometric.bulge, "a part swollen or pinched", "45 % in its middle"),
    "twirl": _moves(geometric.twirl, "twisted round a place near the middle", "25 degrees in its middle"),
    "turn": _moves(geometric.turn, "the head turned by the mean face's depth", "20 degrees aside, 15 up or down"),
    # Colours.
    "brightness": _looks(colours.brightness, "all values times a factor", "1.6, or 0.6"),
    "exposure": _looks(colours.exposure, "exposed longer or shorter, nothing clipped", "odds times 4.5, or a 4.5th"),
    "contrast": _looks(colours.contrast, "values spread, or drawn together", "twice as far apart, or half"),
    "gamma": _looks(colours.gamma, "values to a power", "2.2, or 1 / 2.2"),
    "saturation": _looks(colours.saturation, "colours stronger, or paler", "2.5 times, or a tenth"),
    "hue": _looks(colours.hue, "all hues turned", "180 degrees"),
    "temperature": _looks(colours.temperature, "warmer or colder light", "odds of red and blue times 2.7 and a 2.7th"),
    "cast": _looks(colours.cast, "a cast of any colour", "odds of that colour times 3.3"),
    "grey": _looks(colours.grey, "without colours", "none left"),
    "sepia": _looks(colours.sepia, "in shades of brown, blue or green", "no other colour left"),
    "channel_shuffle": _looks(colours.channel_shuffle, "red, green and blue change places", "wholly"),
    "channel_drop": _looks(colours.channel_drop, "red, green or blue taken away", "down to a tenth"),
    "posterise": _looks(colours.posterise, "few levels a channel", "5 levels"),
    "solarise": _looks(colours.solarise, "bright values folded back", "above a half"),
    "equalise": _looks(colours.equalise, "all levels of lightness equally common", "wholly"),
    "auto_contrast": _looks(colours.auto_contrast, "each channel over the whole range", "wholly"),
    # The camera.
    "gaussian_blur": _looks(cameras.gaussian_blur, "blurred", "a Gaussian of 3 % of the crop"),
    "motion_blur": _looks(cameras.motion_blur, "smeared in any direction", "over 12 % of the crop"),
    "defocus_blur": _looks(cameras.defocus_blur, "out of focus", "discs of radius 4 % of the crop"),
    "few_pixels": _looks(cameras.few_pixels, "drawn up from few pixels", "6 times fewer a side"),
    "sharpen": _looks(cameras.sharpen, "edges drawn over", "fine detail 4 times"),
    "local_contrast": _looks(cameras.local_contrast, "every part as contrasty as the next", "detail 2.5 times"),
    "gaussian_noise": _looks(cameras.gaussian_noise, "noise, most of it in lightness", "a deviation of 0.35 of 2"),
    "colour_noise": _looks(cameras.colour_noise, "noise of each colour apart", "a deviation of 0.35 of 2"),
    "shot_noise": _looks(cameras.shot_noise, "noise of counted photons", "0.3 of 1 in white, its root below"),
    "speckle": _looks(cameras.speckle, "noise that multiplies", "a deviation of 40 % of the value"),
    "grain": _looks(cameras.grain, "film grain in the middle tones", "a deviation of 0.12 of 1"),
    "salt_and_pepper": _looks(cameras.salt_and_pepper, "dead pixels, white and black", "a tenth of them"),
    "row_noise": _looks(cameras.row_noise, "stripes of a bad sensor", "a deviation of 0.2 of 2"),
    "blotches": _looks(cameras.blotches, "clouds of wrong colour", "0.3 of 2 to either side"),
    "jpeg": _looks(cameras.jpeg_blocks, "JPEG's blocks", "quality 5; 95 near strength 0"),
    "washed_colour": _looks(cameras.washed_colour, "colour of few pixels, runs over edges", "6 % of the crop"),
    # Light and weather.
    "shadow": _looks(lights.shadow, "a shadow of a wall, of something round, or of a blind", "odds down to a 7th"),
    "gradient": _looks(lights.gradient, "light from one side", "odds times 7.4 there, a 7.4th opposite"),
    "lamp": _looks(lights.lamp, "a round light of some colour", "odds times 2.5 to 15 in its middle"),
    "two_lights": _looks(lights.two_lights, "lights of two colours, from two sides", "odds times 4.5, or a 4.5th"),
    "vignette": _looks(lights.vignette, "dark corners", "odds a 20th there"),
    "uneven_light": _looks(lights.uneven_light, "patches of light and shade", "odds times 6, or a 6th, at most"),
    "fog": _looks(lights.fog, "fog in clouds", "half of the picture's contrast"),
    "rain": _looks(lights.rain, "streaks of rain", "half of a place hidden, at most"),
    "snow": _looks(lights.snow, "flakes of snow", "half of a place hidden, at most"),
    # Covers.
    "rectangle": _hides(covers.rectangle, "a plain rectangle", "a fifth of the crop"),
    "noise_patch": _hides(covers.noise_patch, "a rectangle of noise (random erasing)", "a fifth of the crop"),
    "ellipse": _hides(covers.ellipse, "a plain ellipse", "a sixth of the crop"),
    "polygon": _hides(covers.polygon, "a plain convex piece", "a seventh of the crop"),
    "blob": _hides(covers.blob, "a ragged cloudy piece", "a quarter of the crop"),
    "bar": _hides(covers.bar, "a plain bar right across", "a fifth of the crop"),
    "bars": _hides(covers.bars, "parallel bars, as of a blind", "half of the crop"),
    "holes": _hides(covers.holes, "many small squares at random (hide and seek)", "four tenths of the crop"),
    "squares": _hides(covers.squares, "a regular grid of squares (grid mask)", "a third of the crop"),
    "cut_off": _hides(covers.cut_off, "the picture ends before the crop does", "four tenths of the crop"),
    "transplant": _hides(covers.transplant, "a piece of the picture elsewhere on it", "a sixth of the crop"),
    "mosaic": _hides(covers.mosaic, "a part in coarse squares", "a fifth of the crop"),
    "smudge": _hides(covers.smudge, "a part blurred beyond telling", "a sixth of the crop"),
    "glare": _hides(covers.glare, "the sun in the lens", "a disc of a seventh of the side, and its glow"),
    "scratches": _hides(covers.scratches, "scratches of an old print", "six, 2 % of the crop wide"),
}
