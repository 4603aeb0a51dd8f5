"""Classes and labels of known datasets, which tfds does not describe."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_deconv._arguments import VOID
from keras_deconv._palettes import default_palette
from keras_deconv.data._sets import SegmentationSet, plain_set


def known_set(name: str) -> SegmentationSet:
    """Return the description of a dataset.

    Raises:
        ValueError: If the dataset is not in the catalog.
    """
    entry = find(name)
    if entry is None:
        raise ValueError(
            f"{unknown_text(name)}For any other tfds dataset, pass a "
            "SegmentationSet as `name`, or pass `image_key`, `mask_key` and "
            "`num_classes` to load."
        )
    return entry


def unknown_text(name: str) -> str:
    """Return why a dataset is not known, and a similar name if there is one."""
    reason = _NO_CLASS_PER_PIXEL.get(_base_name(name))
    return (
        f"`name` must be a dataset of the catalog ({', '.join(names())}). "
        f"Received: name={name!r}. "
        + (f"It {reason}. " if reason else did_you_mean(name, names()))
    )


def find(name: str) -> SegmentationSet | None:
    """Return the description of a dataset, or None if it is not known."""
    with_configuration = str(name).split(":", maxsplit=1)[0]
    return _CATALOG.get(with_configuration) or _CATALOG.get(_base_name(name))


def names() -> list[str]:
    """Return the sorted names of the known datasets."""
    return sorted(_CATALOG)


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return a sentence that suggests the most similar known name, or ''."""
    found = difflib.get_close_matches(_base_name(name).lower(), known, n=1)
    return f"Did you mean {found[0]!r}? " if found else ""


def _base_name(name: str) -> str:
    return re.split("[/:]", str(name), maxsplit=1)[0]


def _read_red_channel(example: dict[str, Any]) -> tf.Tensor:
    """Return the red channel; green numbers the objects of scene_parse150."""
    return example["annotation"][..., 0]


def _read_panoptic_mask(example: dict[str, Any]) -> tf.Tensor:
    """Return the label of each segment; the color of a segment is its id."""
    color = tf.cast(example["panoptic_image"], tf.int64)
    segment = color[..., 0] + 256 * color[..., 1] + 65536 * color[..., 2]
    # An additional segment, with an id that is not a color, is void. It stands
    # for segments that are not listed.
    objects = example["panoptic_objects"]
    numbers = tf.concat([objects["id"], [2**24]], axis=0)
    labels = tf.concat([objects["label"], [VOID]], axis=0)
    order = tf.argsort(numbers)
    numbers = tf.gather(numbers, order)
    labels = tf.gather(labels, order)
    place = tf.searchsorted(numbers, tf.reshape(segment, [-1]))
    place = tf.reshape(place, tf.shape(segment))
    is_listed = tf.gather(numbers, place) == segment
    return tf.where(
        is_listed, tf.gather(labels, place), tf.constant(VOID, tf.int64)
    )


def _read_abnormalities(example: dict[str, Any]) -> tf.Tensor:
    """Return the union of the masks of all abnormalities of a mammogram."""
    return tf.reduce_any(example["abnormalities"]["mask"][..., 0] > 0, axis=0)


def _split_names(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


# The label in the masks and the color of each class of the benchmark.
# Reference: https://github.com/mcordts/cityscapesScripts, labels.py.
_CITYSCAPES = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
_CITYSCAPES_LABELS = {
    label: number for number, (label, _) in enumerate(_CITYSCAPES.values())
}

# The 100 categories of objects, in the order of their labels 1..100. Reference:
# https://github.com/CSAILVision/placeschallenge,
# instancesegmentation/instanceInfo100_train.txt.
_SCENE_PARSE_CLASSES = _split_names(
    "bed, windowpane, cabinet, person, door, table, curtain, chair, car, "
    "painting, sofa, shelf, mirror, armchair, seat, fence, desk, wardrobe, "
    "lamp, bathtub, railing, cushion, box, column, signboard, "
    "chest of drawers, counter, sink, fireplace, refrigerator, stairs, case, "
    "pool table, pillow, screen door, bookcase, coffee table, toilet, flower, "
    "book, bench, countertop, stove, palm, kitchen island, computer, "
    "swivel chair, boat, arcade machine, bus, towel, light, truck, "
    "chandelier, awning, streetlight, booth, television receiver, airplane, "
    "apparel, pole, bannister, ottoman, bottle, van, ship, fountain, washer, "
    "plaything, stool, barrel, basket, bag, minibike, oven, ball, food, step, "
    "trade name, microwave, pot, animal, bicycle, dishwasher, screen, "
    "sculpture, hood, sconce, vase, traffic light, tray, ashcan, fan, plate, "
    "monitor, bulletin board, radiator, glass, clock, flag"
)

# 80 "things" and 53 "stuff" classes, in the order of their ids in COCO.
# Reference: https://github.com/cocodataset/panopticapi,
# panoptic_coco_categories.json.
_COCO_CLASSES = _split_names(
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, "
    "traffic light, fire hydrant, stop sign, parking meter, bench, bird, cat, "
    "dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, "
    "umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, "
    "kite, baseball bat, baseball glove, skateboard, surfboard, "
    "tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, "
    "banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, "
    "donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, "
    "laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, "
    "sink, refrigerator, book, clock, vase, scissors, teddy bear, "
    "hair drier, toothbrush, banner, blanket, bridge, cardboard, counter, "
    "curtain, door-stuff, floor-wood, flower, fruit, gravel, house, light, "
    "mirror-stuff, net, pillow, platform, playingfield, railroad, river, "
    "road, roof, sand, sea, shelf, snow, stairs, tent, towel, wall-brick, "
    "wall-stone, wall-tile, wall-wood, water-other, window-blind, "
    "window-other, tree-merged, fence-merged, ceiling-merged, "
    "sky-other-merged, cabinet-merged, table-merged, floor-other-merged, "
    "pavement-merged, mountain-merged, grass-merged, dirt-merged, "
    "paper-merged, food-other-merged, building-other-merged, rock-merged, "
    "wall-other-merged, rug-merged"
)

_NO_CLASS_PER_PIXEL = {
    "coco": "has only boxes, except in coco/2017_panoptic",
    "curated_breast_imaging_ddsm": "has masks only in the configurations "
    "original-calc and original-mass",
    "lvis": "has overlapping masks of single objects, of 1203 classes",
    "ref_coco": "has masks only of the objects that a sentence refers to",
    "segment_anything": "has overlapping masks without classes",
    "voc": "has only boxes in tfds",
    "youtube_vis": "has overlapping masks of single objects in videos",
}

_CATALOG = {
    entry.name: entry
    for entry in (
        # Colors as in the SegNet demonstration.
        SegmentationSet(
            name="cam_vid",
            image_key="image",
            mask_key="segmentation_mask",
            class_names=(
                "sky",
                "building",
                "pole",
                "road",
                "pavement",
                "tree",
                "sign_symbol",
                "fence",
                "car",
                "pedestrian",
                "bicyclist",
            ),
            palette=(
                (128, 128, 128),
                (128, 0, 0),
                (192, 192, 128),
                (128, 64, 128),
                (60, 40, 222),
                (128, 128, 0),
                (192, 128, 128),
                (64, 64, 128),
                (64, 0, 128),
                (64, 64, 0),
                (0, 128, 192),
            ),
            labels={label: label for label in range(11)},
            void_labels=(11,),
            splits=("train", "validation", "test"),
        ),
        SegmentationSet(
            name="oxford_iiit_pet",
            image_key="image",
            mask_key="segmentation_mask",
            class_names=("pet", "background", "border"),
            palette=((220, 80, 60), (60, 90, 160), (250, 210, 90)),
            labels={1: 0, 2: 1, 3: 2},
            splits=("train", "test"),
        ),
        SegmentationSet(
            name="scenes",
            image_key="image",
            mask_key="segmentation_mask",
            class_names=(
                "sky",
                "building",
                "road",
                "pavement",
                "tree",
                "car",
            ),
            # The colors of Okabe and Ito, which color-blind readers can tell
            # apart, with darker trees.
            palette=(
                (86, 180, 233),
                (213, 94, 0),
                (153, 153, 153),
                (240, 228, 66),
                (0, 87, 63),
                (0, 0, 0),
            ),
            labels={label: label for label in range(6)},
            void_labels=(VOID,),
            splits=("train", "validation", "test"),
        ),
        SegmentationSet(
            name="cityscapes",
            image_key="image_left",
            mask_key="segmentation_label",
            class_names=tuple(_CITYSCAPES),
            palette=tuple(color for _, color in _CITYSCAPES.values()),
            labels=_CITYSCAPES_LABELS,
            # The other labels up to 33, and license plates: their label -1 is
            # 255 in the masks.
            void_labels=(
                *sorted(set(range(34)) - set(_CITYSCAPES_LABELS)),
                VOID,
            ),
            # The masks of the test split are not published.
            splits=("train", "validation"),
        ),
        # Obstacles have one label per kind. The surroundings of the road and
        # the recording car are not labeled.
        SegmentationSet(
            name="lost_and_found",
            image_key="image_left",
            mask_key="segmentation_label",
            class_names=("road", "obstacle"),
            palette=((128, 64, 128), (220, 20, 60)),
            labels={1: 0, **dict.fromkeys(range(2, VOID), 1)},
            void_labels=(0, VOID),
            splits=("train", "test"),
        ),
        # The builder reads the masks of the instance task: 100 categories of
        # objects, and 0 for everything else, such as walls and sky.
        plain_set(
            "scene_parse150",
            "image",
            "annotation",
            ("other", *_SCENE_PARSE_CLASSES),
            void_labels=(),
            read_mask=_read_red_channel,
            splits=("train", "test"),
        ),
        plain_set(
            "coco/2017_panoptic",
            "image",
            "panoptic_image",
            _COCO_CLASSES,
            read_mask=_read_panoptic_mask,
            splits=("train", "validation"),
        ),
        plain_set(
            "caltech_birds2010",
            "image",
            "segmentation_mask",
            ("background", "bird"),
            void_labels=(),
            splits=("train", "test"),
        ),
        # The gray value tells how many annotators saw a bird.
        SegmentationSet(
            name="caltech_birds2011",
            image_key="image",
            mask_key="segmentation_mask",
            class_names=("background", "bird"),
            palette=default_palette(2),
            labels={shade: int(shade > 127) for shade in range(256)},
            splits=("train", "test"),
        ),
        # Objects are numbered from 1 in every video, independent of their
        # class.
        SegmentationSet(
            name="davis",
            image_key="frames",
            mask_key="segmentations",
            class_names=("background", "object"),
            palette=default_palette(2),
            labels={0: 0, **dict.fromkeys(range(1, VOID), 1)},
            void_labels=(VOID,),
            frames_key="video",
            splits=("train", "validation"),
        ),
        *(
            plain_set(
                f"curated_breast_imaging_ddsm/original-{kind}",
                "image",
                "abnormalities",
                ("background", "abnormality"),
                void_labels=(),
                read_mask=_read_abnormalities,
                splits=("train", "test"),
            )
            for kind in ("calc", "mass")
        ),
    )
}
