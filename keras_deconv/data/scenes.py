"""Synthetic street scenes: a dataset that does not need a download."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from keras_deconv import _arguments
from keras_deconv._arguments import VOID
from keras_deconv.data._catalog import known_set

__all__ = ["Scenes", "draw_scene"]

_ENTRY = known_set("scenes")
_SKY, _BUILDING, _ROAD, _PAVEMENT, _TREE, _CAR = range(_ENTRY.num_classes)

# Number of images per split. Each split has its own seeds, so every image is
# different.
_SPLIT_SIZES = {"train": 400, "validation": 50, "test": 100}

_WALL_COLORS = (
    (168, 92, 72),
    (206, 184, 150),
    (150, 148, 144),
    (222, 218, 206),
    (184, 146, 88),
    (112, 108, 124),
    (128, 70, 62),
    (166, 176, 150),
)
_CAR_COLORS = (
    (178, 28, 32),
    (34, 58, 140),
    (222, 222, 226),
    (36, 36, 40),
    (130, 132, 138),
    (230, 180, 40),
    (40, 110, 80),
    (210, 110, 50),
)


def draw_scene(
    seed: int | Sequence[int], image_size: tuple[int, int] = (96, 128)
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a random street scene and its mask.

    Use it for tests and examples that need realistic data without a download.
    `load("scenes", ...)` returns a dataset of such scenes. A scene shows a road
    with pavements, two rows of houses, trees and cars in perspective, with
    varying light, texture and noise. The colors of the classes overlap (gray
    cars, gray walls, blue windows), so a model must also learn texture and
    position.

    Args:
        seed: int or sequence of ints >= 0. The same seed draws the same scene.
        image_size: Tuple (height, width) of ints >= 16, in pixels.

    Returns:
        Tuple (image, mask). `image` is a uint8 array of shape (height, width,
        3) with RGB values in 0..255. `mask` is a uint8 array of shape (height,
        width) with the classes 0 sky, 1 building, 2 road, 3 pavement, 4 tree
        and 5 car. The one-pixel outline of trees and cars is void, 255.

    Raises:
        ValueError: If the height or width in `image_size` is smaller than 16.
        ValueError: If `seed` contains a value that is not an int >= 0.

    Example:
        >>> from keras_deconv.data import draw_scene
        >>> image, mask = draw_scene(seed=7, image_size=(48, 64))
        >>> image.shape, image.dtype, mask.shape, mask.dtype
        ((48, 64, 3), dtype('uint8'), (48, 64), dtype('uint8'))
    """
    height, width = _arguments.ints(image_size, 2, "image_size", minimum=1)
    if min(height, width) < 16:
        raise ValueError(
            "`image_size` must be at least (16, 16) pixels. "
            f"Received: image_size={image_size!r}."
        )
    several = _arguments.elements(seed)
    seeds = [seed] if several is None else several
    random = np.random.default_rng(
        [_arguments.natural_int(one, "seed") for one in seeds]
    )
    horizon = height * random.uniform(0.36, 0.48)
    vanishing_column = width * random.uniform(0.35, 0.65)
    rows, columns = np.ogrid[:height, :width]
    scene = _Scene(
        # The vanishing point lies between pixels, which avoids a division by
        # zero.
        below=rows - np.floor(horizon) - 0.5,
        across=columns - np.floor(vanishing_column) - 0.5,
        image=np.zeros((height, width, 3)),
        mask=np.zeros((height, width), np.uint8),
    )
    _draw_sky(scene, random)
    road_edges = random.uniform(1.0, 1.5, size=2)
    wall_feet = road_edges + random.uniform(0.55, 1.0, size=2)
    _draw_walls(scene, random)
    _draw_ground(scene, random, road_edges, wall_feet)
    _draw_things(scene, random, road_edges, wall_feet)
    scene.mask[_outline(scene.mask)] = VOID
    return _photograph(scene.image, random), scene.mask


def _draw_sky(scene: _Scene, random: np.random.Generator) -> None:
    zenith = np.array([(70, 120, 200), (150, 160, 175), (110, 140, 190)])
    haze = np.array([(190, 215, 240), (205, 208, 212), (240, 215, 185)])
    weather = random.integers(3)
    height = scene.mask.shape[0]
    blend = np.clip((scene.below + height / 2) / (height / 2), 0, 1)[..., None]
    color = (1 - blend) * zenith[weather] + blend * haze[weather]
    clouds = np.clip(_smooth_noise(random, scene.mask.shape, 6), 0, 1)
    color = color + clouds[..., None] * (235 - color) * 0.6
    scene.paint(np.ones(scene.mask.shape, bool), color, _SKY)


def _draw_walls(scene: _Scene, random: np.random.Generator) -> None:
    width = scene.mask.shape[1]
    distance = np.abs(scene.across)
    # Slope of the line to the vanishing point, which is constant along eaves.
    slope = -scene.below / distance
    for side in (-1, 1):
        near = 1.2 * width
        shade = random.uniform(0.65, 1.0)
        while near > 0.04 * width:
            far = near * random.uniform(0.45, 0.75)
            eaves = random.uniform(0.35, 1.5)
            if random.random() < 0.85:
                wall = (
                    (scene.across * side > 0)
                    & (distance >= far)
                    & (distance < near)
                    & (slope < eaves)
                )
                _draw_wall(scene, random, wall, slope, (far, near), shade)
            near = far


def _draw_wall(
    scene: _Scene,
    random: np.random.Generator,
    wall: np.ndarray,
    slope: np.ndarray,
    span: tuple[float, float],
    shade: float,
) -> None:
    color = shade * (random.choice(_WALL_COLORS) + random.normal(0, 10, 3))
    scene.paint(wall, color, _BUILDING)
    far, near = span
    along = np.log(np.abs(scene.across) / far) / np.log(near / far)
    window_column = (along * random.integers(2, 5) + 0.25) % 1
    storey = (slope * random.uniform(4.0, 7.0) + 0.2) % 1
    windows = wall & (window_column < 0.5) & (storey < 0.5) & (slope > 0)
    glass = (60, 75, 95) if random.random() < 0.7 else (150, 180, 205)
    scene.paint(windows, shade * np.array(glass), _BUILDING)


def _draw_ground(
    scene: _Scene,
    random: np.random.Generator,
    road_edges: np.ndarray,
    wall_feet: np.ndarray,
) -> None:
    below = np.maximum(scene.below, 0.5)
    # Position on the ground, in units of the height of the camera: `sideways`
    # from the center, and `depth` from the camera.
    sideways = scene.across / below
    depth = scene.mask.shape[0] / below
    outside = np.where(sideways < 0, wall_feet[0], wall_feet[1])
    kerb = np.where(sideways < 0, road_edges[0], road_edges[1])
    offset = np.abs(sideways)
    ground = scene.below > 0
    # The pavement fills gaps between houses.
    open_ground = ground & ((offset < outside) | (scene.mask != _BUILDING))
    stone = random.choice([(158, 150, 142), (176, 164, 140), (140, 142, 150)])
    scene.paint(open_ground, stone + random.normal(0, 6, 3), _PAVEMENT)
    joints = open_ground & (
        ((offset * 4) % 1 < 0.15) | ((depth * 1.5) % 1 < 0.15)
    )
    scene.shade(joints & (below > 6), 0.82)

    asphalt = random.uniform(72, 118) + np.array((0, 1, 5))
    road = ground & (offset < kerb)
    scene.paint(road, asphalt, _ROAD)
    dashes = road & (np.abs(sideways) < 0.05) & ((depth * 0.6) % 1 < 0.5)
    scene.paint(dashes, (222, 220, 205), _ROAD)
    scene.paint(
        ground & (offset >= kerb) & (offset < kerb + 0.07),
        (196, 192, 184),
        _PAVEMENT,
    )


def _draw_things(
    scene: _Scene,
    random: np.random.Generator,
    road_edges: np.ndarray,
    wall_feet: np.ndarray,
) -> None:
    deepest = scene.below[-1, 0]
    num_cars, num_trees = random.integers(2, 5), random.integers(2, 5)
    kinds = [_draw_car] * num_cars + [_draw_tree] * num_trees
    feet = deepest * random.uniform(0.2, 0.85, size=len(kinds))
    # Draw distant objects first, so that near objects hide them.
    for index in np.argsort(feet):
        foot, draw = feet[index], kinds[index]
        side = random.integers(2)
        if draw is _draw_car:
            sideways = random.uniform(0.3, 0.8) * road_edges[side]
        else:
            sideways = random.uniform(0.15, 0.75) * wall_feet[side]
            sideways = max(sideways, road_edges[side] + 0.15)
        center = foot * sideways * (2 * side - 1)
        # Both are in units of the height of the camera.
        up = (foot - scene.below) / foot
        right = (scene.across - center) / foot
        draw(scene, random, up, right)


def _draw_car(
    scene: _Scene,
    random: np.random.Generator,
    up: np.ndarray,
    right: np.ndarray,
) -> None:
    half_width = random.uniform(0.42, 0.52)
    roof = random.uniform(0.75, 1.0)
    waist = 0.55 * roof
    off = np.abs(right)
    scene.shade((up > -0.1) & (up < 0.08) & (off < half_width * 1.1), 0.5)
    body = (up > 0.12) & (up < waist) & (off < half_width)
    taper = half_width * (1 - 0.45 * (up - waist) / (roof - waist))
    cabin = (up >= waist) & (up < roof) & (off < taper)
    wheels = (up >= 0) & (up <= 0.3) & (off < half_width * 0.95)
    wheels &= off > half_width * 0.6
    paint = random.choice(_CAR_COLORS) + random.normal(0, 8, 3)
    gloss = np.clip(0.75 + 0.5 * up, 0, 1.2)[..., None]
    scene.paint(wheels, (26, 26, 28), _CAR)
    scene.paint(body | cabin, paint * gloss, _CAR)
    glass = cabin & (up < roof - 0.08) & (off < taper - 0.07)
    scene.paint(glass, (48, 58, 70), _CAR)
    lamps = body & (up > waist - 0.18) & (off > half_width * 0.75)
    lamp = (205, 40, 36) if random.random() < 0.5 else (240, 236, 210)
    scene.paint(lamps, lamp, _CAR)


def _draw_tree(
    scene: _Scene,
    random: np.random.Generator,
    up: np.ndarray,
    right: np.ndarray,
) -> None:
    trunk_height = random.uniform(0.8, 1.2)
    radius = random.uniform(0.5, 0.85)
    trunk = (up > 0) & (up < trunk_height + radius) & (np.abs(right) < 0.08)
    bark = random.choice([(86, 66, 50), (104, 92, 80), (70, 60, 54)])
    scene.paint(trunk, bark, _TREE)
    crown_height = trunk_height + 0.8 * radius
    # An irregular ball: its radius depends on the direction from the center.
    reach = np.hypot(right, (up - crown_height) / random.uniform(0.9, 1.2))
    crown = reach < 1.5 * radius
    direction = np.arctan2(*np.broadcast_arrays(up - crown_height, right))
    direction = direction[crown]
    ragged = sum(
        random.uniform(0.03, 0.1) * np.sin(k * direction + random.uniform(0, 6))
        for k in (2, 3, 5, 7)
    )
    crown[crown] = reach[crown] < radius * (1 + ragged)
    leaves = random.choice([(62, 96, 42), (88, 112, 50), (48, 82, 56)])
    leaves = leaves + random.normal(0, 8, 3)
    patches = 1 + 0.35 * _smooth_noise(random, crown.shape, 24)
    speckle = 1 + random.normal(0, 0.16, crown.shape)
    light = np.clip(1 + 0.4 * (up - crown_height), 0.6, 1.4)
    color = leaves * (patches * speckle * light)[..., None]
    scene.paint(crown, color, _TREE)


def _outline(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of trees and cars that touch another class."""
    differs = np.zeros(mask.shape, bool)
    for axis in (0, 1):
        for neighbor in _neighbors(mask, axis):
            differs |= neighbor != mask
    return differs & ((mask == _TREE) | (mask == _CAR))


def _photograph(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Add the effects of a camera: light, blur and noise."""
    height, width = image.shape[:2]
    slant = np.linspace(-1, 1, width)[:, None] * random.uniform(-0.12, 0.12)
    haze = 0.05 * _smooth_noise(random, (height, width), 16)[..., None]
    light = random.uniform(0.75, 1.15) * random.uniform(0.95, 1.05, 3)
    image = image * light * (1 + slant) * (1 + haze)
    for axis in (0, 1):
        before, after = _neighbors(image, axis)
        image = 0.25 * before + 0.5 * image + 0.25 * after
    image = image + random.normal(0, random.uniform(3, 8), image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _neighbors(pixels: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the previous and next pixel of each pixel; edges are repeated."""
    index = np.arange(pixels.shape[axis])
    before = pixels.take(np.maximum(index - 1, 0), axis)
    after = pixels.take(np.minimum(index + 1, index[-1]), axis)
    return before, after


def _smooth_noise(
    random: np.random.Generator, size: tuple[int, int], num_cells: int
) -> np.ndarray:
    """Interpolate normal random values from a coarse grid."""
    noise = random.normal(size=(num_cells + 1, num_cells + 1))
    for length in size:
        place = np.linspace(0, num_cells, length, endpoint=False)
        left = place.astype(int)
        share = (place - left)[:, None]
        # The transpose makes the second round interpolate along the other axis.
        noise = ((1 - share) * noise[left] + share * noise[left + 1]).T
    return noise


@dataclasses.dataclass
class _Scene:
    """An unfinished image and mask.

    `below` and `across` are the distances of each pixel from the vanishing
    point.
    """

    below: np.ndarray
    across: np.ndarray
    image: np.ndarray
    mask: np.ndarray

    def paint(self, region: np.ndarray, color: Any, label: int) -> None:
        """Paint a region; `color` is one RGB color or one color per pixel."""
        np.copyto(self.image, color, where=region[..., None])
        self.mask[region] = label

    def shade(self, region: np.ndarray, factor: float) -> None:
        """Multiply the brightness of a region and keep its labels."""
        self.image[region] *= factor


class Scenes(tfds.core.GeneratorBasedBuilder):
    """The tfds dataset `scenes`: 550 synthetic street scenes with 6 classes.

    Use it for tests, examples and teaching: it is built in seconds and does not
    need a download. The images are drawn by `draw_scene`. The splits are
    `train` (400 images), `validation` (50) and `test` (100). Importing
    `keras_deconv.data` registers it, so `keras_deconv.data.load("scenes", ...)`
    and `tfds.load("scenes")` find it.

    Features:

    - `image`: uint8, of shape (96, 128, 3), RGB.
    - `segmentation_mask`: uint8, of shape (96, 128, 1), with the classes 0..5
      and 255 for void, as in `draw_scene`.
    - `file_name`: str, such as `scene_0000.png`. The file does not exist.

    Args:
        data_dir: Path of the folder of prepared datasets. Defaults to the
            environment variable `TFDS_DATA_DIR`, or `~/tensorflow_datasets`.
        **kwargs: Other arguments of `tfds.core.GeneratorBasedBuilder`.

    Example:
        >>> import tempfile, keras_deconv.data
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     builder = keras_deconv.data.Scenes(data_dir=folder)
        >>> builder.name, builder.info.features["image"].shape
        ('scenes', (96, 128, 3))
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Street scenes drawn from a seed, with masks.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(96, 128, 3), encoding_format="png"
                    ),
                    "segmentation_mask": tfds.features.LabeledImage(
                        labels=list(_ENTRY.class_names),
                        shape=(96, 128, 1),
                        encoding_format="png",
                    ),
                    "file_name": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "segmentation_mask"),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        return {
            split: self._generate_examples(stream, num_examples)
            for stream, (split, num_examples) in enumerate(_SPLIT_SIZES.items())
        }

    def _generate_examples(
        self, stream: int, num_examples: int
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(num_examples):
            image, mask = draw_scene((stream, index))
            yield (
                index,
                {
                    "image": image,
                    "segmentation_mask": mask[..., None],
                    "file_name": f"scene_{index:04d}.png",
                },
            )
