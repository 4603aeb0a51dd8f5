"""Label files of labeling tools."""

import json

import numpy as np
import pytest
import tensorflow as tf

from keras_deconv.data import color_map, from_folders, read_label_map
from tests.tiny_datasets import write_png

COLORS = {
    "classes": ("road", "sky"),
    "palette": ((128, 64, 128), (70, 130, 180)),
}
# Each kind of file, and the arguments that it defines.
KINDS = {
    "cvat": (
        "# label:color_rgb:parts:actions\n"
        "road:128,64,128::\nsky:70,130,180:hand,head:action\n\n",
        COLORS,
    ),
    "voc": (
        "background:0,0,0::\nroad:128,64,128::\nignored:224,224,192::\n",
        {
            "classes": ("background", "road"),
            "palette": ((0, 0, 0), (128, 64, 128)),
            "void_colors": ((224, 224, 192),),
        },
    ),
    "datumaro": (
        "# label:color_rgb:parts:actions\nbackground:::\ncat:::\ndog:::\n",
        {"classes": ("background", "cat", "dog"), "palette": color_map(3)},
    ),
    "labelme": (
        "__ignore__\n_background_\ncat\n",
        {"labels": {0: "_background_", 1: "cat"}},
    ),
    "camvid": (
        "128 64 128\troad\n70 130 180\t\tsky\n0 0 0\t\tVoid\n",
        COLORS | {"void_colors": ((0, 0, 0),)},
    ),
    "table": (
        "name,r,g,b\nroad,128,64,128\nsky, 70, 130, 180\nVoid,0,0,0\n",
        COLORS | {"void_colors": ((0, 0, 0),)},
    ),
    "names that begin with digits": (
        "2-wheeler\n3D object\n",
        {"labels": {0: "2-wheeler", 1: "3D object"}},
    ),
    "names": (
        "road\r\n traffic light \n",
        {"labels": {0: "road", 1: "traffic light"}},
    ),
    "names with void": (
        "unlabeled\nroad\nsky\n",
        {"labels": {1: "road", 2: "sky"}, "void_labels": (0, 255)},
    ),
    "array": ('["road", "sky"]', {"labels": {0: "road", 1: "sky"}}),
    "names of labels": (
        '{"7": "road", "11": "sky", "255": "void"}',
        {"labels": {7: "road", 11: "sky"}, "void_labels": (255,)},
    ),
    "labels of names": (
        '{"road": 0, "sky": 255}',
        {"labels": {0: "road", 255: "sky"}},
    ),
    "colors of names": (
        '{"road": [128, 64, 128], "sky": "#4682B4"}',
        COLORS,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind, tmp_path):
    text, expected = KINDS[kind]
    path = tmp_path / "map.txt"
    # Windows adds a byte order mark.
    path.write_text(text, "utf-8-sig")
    assert read_label_map(path) == expected
    path.write_text(text, "utf-8")
    assert read_label_map(str(path)) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_folders_take_what_it_gives(kind, tmp_path):
    path = tmp_path / "map.txt"
    path.write_text(KINDS[kind][0])
    arguments = read_label_map(path)
    if "palette" in arguments:
        mask = np.uint8(
            [[*arguments["palette"], *arguments.get("void_colors", ())]]
        )
        labels = [*range(len(arguments["palette"]))]
        labels += [255] * len(arguments.get("void_colors", ()))
    else:
        void = arguments.get("void_labels", ())
        mask = np.uint8([[*arguments["labels"], *void]])[..., None]
        labels = [0, 1, *[255] * len(void)]
    write_png(tmp_path / "masks" / "a.png", mask)
    image = np.zeros((1, len(labels), 3), np.uint8)
    write_png(tmp_path / "images" / "a.png", image)
    [(_, found)] = from_folders(
        tmp_path / "images",
        tmp_path / "masks",
        image_size=None,
        batch_size=1,
        **arguments,
    )
    assert found.numpy().tolist() == [[labels]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("road:1,2,3::\nsky\n", "One line has a different form: 'sky'"),
        ("1 2 3 road\n4 5 sky\n", "One line has a different form: '4 5 sky'"),
        ("road:1,2,300::\nsky:1,2,3::\n", "not a color in 0..255"),
        ("road:1,2,3::\nsky:1,2,3::\n", r"Two entries have the color \(1, 2"),
        ("road\nroad\n", "distinct names"),
        ("road\n", "at least two"),
        ("", "at least two"),
        ("{", "It is not JSON"),
        ('{"a": 1, "a": 2}', "same key"),
        ("[1, 2]", "only names"),
        ('{"0": "a", "300": "b"}', "distinct and in 0..255, not 300"),
        ('{"a": 0, "b": 0}', "distinct and in 0..255, not 0"),
        ('{"a": 0.5, "b": 1}', r"not a color in 0..255: 0\.5"),
        ('{"a": "#12345", "b": "#123456"}', "not a color in 0..255: '#12345'"),
        ("[" * 100_000, "It is not JSON"),
        ("name,r,g,b\nroad,1,2\n", "One line has a different form: 'road,1,2'"),
        ("name,r,g,b\n", "at least two"),
        ("0 void\n1 road\n", "more than a name: '0 void'.* JSON object"),
        ("void\n1: road\n", "more than a name: '1: road'"),
        ("1. sky\n2. road\n", "more than a name: '1. sky'"),
        ("id,name\n0,sky\n", "more than a name: '0,sky'"),
        ("name,red,green,blue\nsky,1,2,3\n", "more than a name: 'sky,1,2,3'"),
        ("sky 1 2 3\nroad 4 5 6\n", "more than a name: 'sky 1 2 3'"),
        (
            '{"a": [0.9, 0.9, 0.9], "b": [1, 2, 3]}',
            r"not a color in 0..255: \[0\.9",
        ),
        ('{"a": [true, 0, 0], "b": [1, 2, 3]}', r"not a color .*\[True"),
        ('{"a": ["12", 0, 0], "b": [1, 2, 3]}', r"not a color .*\['12'"),
    ],
)
def test_faulty_files(text, message, tmp_path):
    path = tmp_path / "map.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"map\.txt: .*{message}"):
        read_label_map(path)


def test_files_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(ValueError, match="The file cannot be read"):
            read_label_map(path)
    path = tmp_path / "map.txt"
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ValueError, match="it is not UTF-8"):
        read_label_map(path)


def test_colors_of_voc(tmp_path):
    border = (224, 224, 192)
    colors = np.uint8([[*color_map(3), border]])
    write_png(tmp_path / "masks" / "a.png", colors)
    write_png(tmp_path / "images" / "a.png", np.zeros((1, 4, 3), np.uint8))
    options = {"classes": 3, "image_size": None, "batch_size": 1}
    folders = tmp_path / "images", tmp_path / "masks"
    [(_, mask)] = from_folders(*folders, palette="voc", **options)
    assert mask.numpy().tolist() == [[[0, 1, 2, 255]]]
    pairs = from_folders(*folders, palette="voc", void_labels=(), **options)
    with pytest.raises(tf.errors.InvalidArgumentError, match="224, 224, 192"):
        list(pairs)
    with pytest.raises(ValueError, match=r"or 'voc'\. Received: palette='cam'"):
        from_folders(*folders, palette="cam", **options)


def test_an_object_of_colors_is_as_json_writes_it(tmp_path):
    path = tmp_path / "map.json"
    colors = dict(zip("ab", color_map(2), strict=True))
    path.write_text(json.dumps(colors, indent=2))
    assert read_label_map(path)["palette"] == color_map(2)
