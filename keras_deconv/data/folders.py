"""Pictures and masks that lie in two folders."""

from __future__ import annotations

import contextlib
import dataclasses
import operator
import os
import pathlib
import re
import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_deconv import arguments, labels
from keras_deconv.data.catalog import (
    VOID,
    Colour,
    SegmentationSet,
    check_class_names,
    class_table,
    generic_names,
    names,
    plain_set,
)
from keras_deconv.data.pairs import Augment, ClassWeights, segmentation_pairs

StrPath: TypeAlias = str | os.PathLike[str]
Classes: TypeAlias = int | Sequence[str] | SegmentationSet

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_MASK_SUFFIXES = (".png",)

# How many names of files a report lists, for each thing it found.
_NUM_SHOWN = 5

# What the header of a PNG file says of its colours.
_GREY, _RGB, _INDEXED, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6


def from_folders(
    images: StrPath,
    masks: StrPath,
    *,
    classes: Classes,
    image_size: int | Sequence[int] | None,
    batch_size: int,
    palette: Sequence[Colour] | None = None,
    void_labels: Sequence[int] = (VOID,),
    void_colours: Sequence[Colour] = (),
    mask_suffix: str = "",
    unmatched: str = "error",
    shuffle: bool = False,
    seed: int | None = None,
    epoch: tf.Variable | None = None,
    cache: bool = True,
    drop_remainder: bool = False,
    augment: Augment | None = None,
    class_weights: ClassWeights | None = None,
) -> tf.data.Dataset:
    """Loads a folder of pictures and a folder of masks, ready for `fit`.

    A picture and a mask belong together if their paths inside the two folders
    are the same but for the suffix: `photos/street/7.jpg` and
    `truth/street/7.png`. Links are followed; files and folders with a dot in
    front are left out. Pictures are PNG or JPEG files, masks PNG files of 8
    bits or less (JPEG would change labels), each of one of three kinds:

    - shades of grey: the shade of a pixel is its label;
    - indexed colours, as in VOC and DAVIS: the index is the label, whatever
      colour it has;
    - RGB: the colour is looked up in `palette`.

    Args:
        images: path of the folder of pictures, with or without subfolders.
        masks: path of the folder of masks.
        classes: int, the number of classes, which are then labelled 0, 1, 2
            and so on, without the `void_labels`; or a sequence of their names,
            likewise; or a `SegmentationSet`, which knows other labels too.
        image_size: int, tuple (height, width) of ints > 0, or None. See
            `segmentation_pairs`.
        batch_size: int > 0.
        palette: sequence of (red, green, blue) in 0..255, one per class, for
            RGB masks. Default: that of the `SegmentationSet`, if there is one.
        void_labels: sequence of labels in 0..255 that mean void. They are left
            out where classes are counted: with `(0,)` the classes are labelled
            1, 2, 3 and so on. A `SegmentationSet` has its own.
        void_colours: sequence of colours that mean void in RGB masks.
        mask_suffix: str. What the names of the masks have more than those of
            the pictures: "_mask" for `7.jpg` and `7_mask.png`. Other masks
            are not looked at, so both may lie in one folder.
        unmatched: `"error"` to refuse pictures without mask and masks without
            picture, or `"skip"` to leave them out and print how many.
        shuffle: bool. As in `segmentation_pairs`.
        seed: int or None. As in `segmentation_pairs`.
        epoch: `tf.Variable` or None. As in `segmentation_pairs`.
        cache: bool. As in `segmentation_pairs`.
        drop_remainder: bool. As in `segmentation_pairs`.
        augment: function or None. As in `segmentation_pairs`.
        class_weights: floats or None. As in `segmentation_pairs`.

    Returns:
        A `tf.data.Dataset` as from `segmentation_pairs`, in the order of the
        names.

    Raises:
        ValueError: if a folder is missing or has no such files, two files
            differ in their suffix alone, something does not match, or
            an argument is out of range.
        tf.errors.InvalidArgumentError: while iterating, naming the file: if it
            cannot be read, is of another kind, has a colour that is not in
            `palette`, or a label that is neither class nor void, or if picture
            and mask differ in size.

    Example:
        >>> import pathlib, tempfile, tensorflow as tf
        >>> from keras_deconv.data import draw_scene, from_folders
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     folder = pathlib.Path(folder)
        ...     for number in range(3):
        ...         image, mask = draw_scene(number)
        ...         for kind, pixels in (("x", image), ("y", mask[..., None])):
        ...             path = folder / kind / f"{number}.png"
        ...             path.parent.mkdir(exist_ok=True)
        ...             _ = path.write_bytes(tf.io.encode_png(pixels).numpy())
        ...     pairs = from_folders(folder / "x", folder / "y", classes=6,
        ...                          image_size=(48, 64), batch_size=3)
        ...     [(image, mask)] = pairs
        >>> tuple(image.shape), tuple(mask.shape)
        ((3, 48, 64, 3), (3, 48, 64))
    """
    source = _source(classes, palette, void_labels, void_colours, str(images))
    files = _match(images, masks, mask_suffix, unmatched)

    def read_files(
        image_path: tf.Tensor, mask_path: tf.Tensor
    ) -> tuple[np.ndarray, np.ndarray]:
        return _read_pair(
            pathlib.Path(image_path.numpy().decode()),
            pathlib.Path(mask_path.numpy().decode()),
            source,
        )

    def read(
        name: tf.Tensor, image_path: tf.Tensor, mask_path: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        # In Python, so that an error names the file.
        image, mask = tf.py_function(
            read_files, (image_path, mask_path), (tf.uint8, tf.uint8)
        )
        return {
            "image": tf.ensure_shape(image, (None, None, 3)),
            "mask": tf.ensure_shape(mask, (None, None, 1)),
            "file_name": name,
        }

    columns = [list(column) for column in zip(*files, strict=True)]
    dataset = tf.data.Dataset.from_tensor_slices(
        tuple([str(value) for value in column] for column in columns)
    ).map(read, num_parallel_calls=tf.data.AUTOTUNE)
    return segmentation_pairs(
        dataset,
        source.entry,
        image_size=image_size,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        epoch=epoch,
        cache=cache,
        drop_remainder=drop_remainder,
        augment=augment,
        class_weights=class_weights,
    )


def to_tfds(
    name: str,
    folders: Mapping[str, tuple[StrPath, StrPath]],
    *,
    classes: Classes,
    data_dir: StrPath | None = None,
    palette: Sequence[Colour] | None = None,
    void_labels: Sequence[int] = (VOID,),
    void_colours: Sequence[Colour] = (),
    mask_suffix: str = "",
    unmatched: str = "error",
    version: str = "1.0.0",
) -> dict[str, int]:
    """Writes folders of pictures and masks as a prepared tfds data set.

    From then on `load(name, split, data_dir=...)` reads it, and `tfds.load`,
    here and wherever the folder `data_dir/name` is copied to. Pictures are
    kept as they are, masks as classes 0..num_classes-1 and 255, with the names
    of the classes. Every pair is checked, and nothing is kept if one fails.

    Args:
        name: str of small letters, digits and underscores. No name of tfds.
        folders: dict from the name of a split, e.g. "train", to a tuple of
            paths (folder of pictures, folder of masks).
        classes: int, names or `SegmentationSet`. As in `from_folders`.
        data_dir: path to write to, of a folder or of none yet. Default: as in
            `load`.
        palette: colours. As in `from_folders`.
        void_labels: labels. As in `from_folders`.
        void_colours: colours. As in `from_folders`.
        mask_suffix: str. As in `from_folders`.
        unmatched: str. As in `from_folders`.
        version: str of three numbers, "1.0.0".

    Returns:
        dict from the name of a split to its number of examples.

    Raises:
        ValueError: as `from_folders` raises it, at once; the set is there
            already; `data_dir` leads to a file; `name`, a split or `version`
            is not as described (they become names of files and must not lead
            out of `data_dir`).

    Example:
        >>> import pathlib, tempfile, tensorflow as tf
        >>> from keras_deconv.data import draw_scene, load, to_tfds
        >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +ELLIPSIS
        ...     folder = pathlib.Path(folder)
        ...     for number in range(2):
        ...         image, mask = draw_scene(number)
        ...         for kind, pixels in (("x", image), ("y", mask[..., None])):
        ...             path = folder / kind / f"{number}.png"
        ...             path.parent.mkdir(exist_ok=True)
        ...             _ = path.write_bytes(tf.io.encode_png(pixels).numpy())
        ...     sizes = to_tfds("my_streets", {"train": (folder / "x",
        ...                     folder / "y")}, classes=6, data_dir=folder)
        ...     train = load("my_streets", "train", image_size=(48, 64),
        ...                  batch_size=2, data_dir=folder)
        ...     [(image, mask)] = train
        Downloading and preparing dataset ...
        >>> sizes, tuple(mask.shape)
        ({'train': 2}, (2, 48, 64))
    """
    _check_names(name, folders, version)
    root = _root(data_dir)
    source = _source(classes, palette, void_labels, void_colours, name)
    files = {
        split: _match(images, masks, mask_suffix, unmatched)
        for split, (images, masks) in folders.items()
    }
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "segmentation_mask": tfds.features.LabeledImage(
                labels=list(source.entry.class_names),
                shape=(None, None, 1),
                encoding_format="png",
            ),
            "file_name": tfds.features.Text(),
        }
    )
    # What tfds makes even if it writes nothing; the innermost come first.
    new_folders = [
        path
        for path in (
            *(root / "downloads" / "extracted", root / "downloads"),
            *(root / name, root),
        )
        if not path.exists()
    ]
    try:
        builder = tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version=version,
            features=features,
            split_datasets={
                split: _checked_examples(found, source)
                for split, found in files.items()
            },
            data_dir=None if data_dir is None else str(root),
            description="Pictures and masks from folders.",
        )
    except RuntimeError as error:
        # Then follows all that tfds knows of the set that is there.
        reason = str(error).split(" Dataset info:")[0]
        raise ValueError(
            f"Data set {name!r} could not be written. {reason} If it is there "
            "already, delete its folder or choose another `name` or `version`. "
            f"Received: name={name!r}, version={version!r}, data_dir='{root}'"
        ) from None
    finally:
        for path in new_folders:
            # It goes if it is empty.
            with contextlib.suppress(OSError):
                path.rmdir()
    return {
        split: info.num_examples for split, info in builder.info.splits.items()
    }


def _root(data_dir: Any) -> pathlib.Path:
    """The folder that data sets are written to; it need not be there yet."""
    if data_dir is None:
        data_dir = tfds.core.constants.DATA_DIR
    if isinstance(data_dir, str | os.PathLike):
        root = pathlib.Path(data_dir).expanduser()
        if not any(path.is_file() for path in (root, *root.parents)):
            return root
    raise ValueError(
        "`data_dir` must be the path of a folder, or of none yet, or None. "
        f"Received: data_dir={data_dir!r}"
    )


@dataclasses.dataclass(frozen=True)
class _Source:
    """What the labels and colours of the masks of a folder mean."""

    entry: SegmentationSet
    # The label of each colour; a colour is red * 65536 + green * 256 + blue.
    label_of_colour: dict[int, int]


def _source(
    classes: Classes,
    palette: Sequence[Colour] | None,
    void_labels: Sequence[int],
    void_colours: Sequence[Colour],
    name: str,
) -> _Source:
    void_labels = _void_labels(void_labels)
    if isinstance(classes, SegmentationSet):
        palette = classes.palette if palette is None else palette
        entry = dataclasses.replace(
            classes,
            name=name,
            image_key="image",
            mask_key="mask",
            read_mask=None,
            frames_key=None,
        )
    else:
        if isinstance(classes, str):
            raise ValueError(
                "`classes` must be an int, a sequence of names or a "
                f"SegmentationSet. Received: classes={classes!r}"
            )
        if isinstance(classes, Sequence):
            check_class_names(classes, "classes")
            class_names = tuple(classes)
        else:
            class_names = generic_names(labels.num_classes(classes))
        free = [label for label in range(256) if label not in void_labels]
        if len(class_names) > len(free):
            raise ValueError(
                "`classes` must be at most as many as there are labels in "
                f"0..255 that are not void, {len(free)}. Received: "
                f"{len(class_names)} classes, void_labels={void_labels}"
            )
        entry = plain_set(
            name,
            "image",
            "mask",
            class_names,
            labels={free[number]: number for number in range(len(class_names))},
            void_labels=void_labels,
        )
    void_codes = _colour_codes(void_colours, "void_colours")
    if palette is None:
        return _Source(entry, {})
    codes = _colour_codes(palette, "palette")
    if len(codes) != entry.num_classes:
        raise ValueError(
            "`palette` must have one colour per class. Received: "
            f"{len(codes)} colours for {entry.num_classes} classes."
        )
    if void_codes and not entry.void_labels:
        raise ValueError(
            "`void_colours` need a label that means void. Add 255 to the "
            "`void_labels`."
        )
    # Any label of a class will do; there may be several.
    label_of_class = {number: label for label, number in entry.labels.items()}
    meanings = [
        *((codes[number], label) for number, label in label_of_class.items()),
        *((code, entry.void_labels[0]) for code in void_codes),
    ]
    label_of_colour = dict(meanings)
    if len(label_of_colour) < len(meanings):
        raise ValueError(
            "The colours of `palette` and `void_colours` must be distinct. "
            f"Received: palette={palette!r}, void_colours={void_colours!r}"
        )
    return _Source(entry, label_of_colour)


def _void_labels(value: Any) -> tuple[int, ...]:
    try:
        found = tuple(operator.index(label) for label in value)
    except TypeError:
        found = (-1,)
    if len(set(found)) < len(found) or not set(found) <= set(range(256)):
        raise ValueError(
            "`void_labels` must be a sequence of distinct ints in 0..255, such "
            f"as (255,), or () for none. Received: void_labels={value!r}"
        )
    return found


def _colour_codes(value: Any, argument: str) -> list[int]:
    if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str):
        raise ValueError(
            f"`{argument}` must be a sequence of colours (red, green, blue). "
            f"Received: {argument}={value!r}"
        )
    return [_colour_code(colour) for colour in value]


def _colour_code(colour: Any) -> int:
    try:
        red, green, blue = (operator.index(value) for value in colour)
    except (TypeError, ValueError):
        red = green = blue = -1
    if not all(0 <= value <= 255 for value in (red, green, blue)):
        raise ValueError(
            "A colour must be three ints (red, green, blue) in 0..255. "
            f"Received: {colour!r}"
        )
    return 65536 * red + 256 * green + blue


def _match(
    images: StrPath, masks: StrPath, mask_suffix: str, unmatched: str
) -> list[tuple[str, pathlib.Path, pathlib.Path]]:
    """Pairs files of two folders: (common name, picture, mask), in order."""
    unmatched = arguments.choice(unmatched, "unmatched", ("error", "skip"))
    if not isinstance(mask_suffix, str):
        raise ValueError(
            "`mask_suffix` must be a str such as '_mask', or '' for none. "
            f"Received: mask_suffix={mask_suffix!r}"
        )
    mask_suffix = unicodedata.normalize("NFC", mask_suffix)
    mask_files = {
        stem.removesuffix(mask_suffix): path
        for stem, path in _list_files(masks, "masks", _MASK_SUFFIXES).items()
        if stem.endswith(mask_suffix)
    }
    taken = set(mask_files.values())
    image_files = {
        stem: path
        for stem, path in _list_files(images, "images", _IMAGE_SUFFIXES).items()
        if path not in taken
    }
    both = sorted(image_files.keys() & mask_files.keys())
    report = [f"pairs: {len(both)}"]
    for kind, stems in (
        ("pictures without mask", image_files.keys() - set(both)),
        ("masks without picture", mask_files.keys() - set(both)),
    ):
        if stems:
            more = ", ..." if len(stems) > _NUM_SHOWN else ""
            shown = ", ".join(sorted(stems)[:_NUM_SHOWN])
            report.append(f"{kind}: {len(stems)} ({shown}{more})")
    is_complete = len(report) == 1
    if not both or (unmatched == "error" and not is_complete):
        raise ValueError(
            "`images` and `masks` must hold files of the same names, but for "
            f"the suffix. Received: '{images}' and '{masks}' with "
            f"{'; '.join(report)}. "
            "Give `mask_suffix` if all masks are named so, or leave files out "
            "with unmatched='skip'."
        )
    if not is_complete:
        print(f"'{images}' and '{masks}': {'; '.join(report)}.")
    return [(stem, image_files[stem], mask_files[stem]) for stem in both]


def list_pictures(
    folder: StrPath, suffixes: Sequence[str] = _IMAGE_SUFFIXES
) -> list[pathlib.Path]:
    """Lists the files in a folder and below that have one of some suffixes.

    Links are followed, but not back to a folder above them. What has a dot in
    front is left out, folders too: macOS, Jupyter and others leave such.

    Args:
        folder: path.
        suffixes: sequence of str in small letters, with the dot: ".png".

    Returns:
        list of paths that begin with `folder`, sorted.
    """
    found = []
    for name, folder_names, file_names in os.walk(folder, followlinks=True):
        parent = pathlib.Path(name)
        folder_names[:] = [
            name
            for name in folder_names
            if not name.startswith(".") and not _leads_back(parent / name)
        ]
        found += [
            parent / name
            for name in file_names
            if not name.startswith(".")
            and pathlib.Path(name).suffix.lower() in suffixes
            # No links to nowhere.
            and (parent / name).is_file()
        ]
    return sorted(found)


def _leads_back(path: pathlib.Path) -> bool:
    """Whether a path is a link to a folder that it lies in."""
    return path.is_symlink() and os.path.realpath(path) in map(
        os.path.realpath, path.parents
    )


def _list_files(
    folder: StrPath, argument: str, suffixes: tuple[str, ...]
) -> dict[str, pathlib.Path]:
    """Lists files by their path inside the folder, without suffix.

    The path is in one form of Unicode: macOS writes letters with accents as
    two characters, others as one.
    """
    if isinstance(folder, str | os.PathLike):
        folder = pathlib.Path(folder).expanduser()
    if not isinstance(folder, pathlib.Path) or not folder.is_dir():
        raise ValueError(
            f"`{argument}` must be a folder that exists. "
            f"Received: {argument}='{folder}'"
        )
    files: dict[str, pathlib.Path] = {}
    for path in list_pictures(folder, suffixes):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        stem = unicodedata.normalize("NFC", stem)
        if stem in files:
            raise ValueError(
                f"`{argument}` must have one file of a name. Received: "
                f"'{files[stem]}' and '{path}'. Remove one of them."
            )
        files[stem] = path
    if not files:
        raise ValueError(
            f"`{argument}` must hold {', '.join(suffixes)} files. "
            f"Received: {argument}='{folder}', which has none."
        )
    return files


def _read_pair(
    image_path: pathlib.Path, mask_path: pathlib.Path, source: _Source
) -> tuple[np.ndarray, np.ndarray]:
    """Reads uint8 (height, width, 3) and labels (height, width, 1)."""
    image = _decode(image_path, image_path.read_bytes(), 3)
    return image, _read_labels(mask_path, source.label_of_colour)


def _decode(
    path: pathlib.Path, content: bytes, num_channels: int
) -> np.ndarray:
    try:
        return tf.io.decode_image(
            content, num_channels, expand_animations=False
        ).numpy()
    except tf.errors.InvalidArgumentError:
        raise ValueError(
            f"File '{path}' cannot be read: it must be a complete picture "
            "of the kind that its suffix says."
        ) from None


def _read_labels(
    path: pathlib.Path, label_of_colour: Mapping[int, int]
) -> np.ndarray:
    content = path.read_bytes()
    # 8 bytes say PNG, 8 say header, 8 are the size.
    is_png = content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) > 33
    depth, kind = content[24:26] if is_png else (0, 0)
    if depth not in (1, 2, 4, 8):
        raise ValueError(
            f"Mask '{path}' must be a PNG file of 8 bits per channel or less. "
            "Received: " + (f"{depth} bits." if is_png else "no PNG file.")
        )
    if kind in (_RGB, _RGB_ALPHA):
        return _look_up_colours(
            path, _decode(path, content, 3), label_of_colour
        )
    if kind == _INDEXED:
        content = _as_grey(content)
    # Shades of less than 8 bits come spread over 0..255.
    return _decode(path, content, 1) // np.uint8(255 // (2**depth - 1))


def _as_grey(content: bytes) -> bytes:
    """Makes an indexed PNG file one of grey: what was index is shade then."""
    kept, start = [content[:8]], 8
    while start < len(content):
        length = int.from_bytes(content[start : start + 4], "big")
        kind = content[start + 4 : start + 8]
        body = content[start + 8 : start + 8 + length]
        start += 12 + length
        if kind == b"IHDR":
            body = body[:9] + bytes([_GREY]) + body[10:]
        if kind in (b"IHDR", b"IDAT", b"IEND"):
            checksum = zlib.crc32(kind + body).to_bytes(4, "big")
            kept.append(len(body).to_bytes(4, "big") + kind + body + checksum)
    return b"".join(kept)


def _look_up_colours(
    path: pathlib.Path, pixels: np.ndarray, label_of_colour: Mapping[int, int]
) -> np.ndarray:
    if not label_of_colour:
        raise ValueError(
            f"Mask '{path}' is an RGB picture, for which `palette` must say "
            "what the colours mean. Received: palette=None"
        )
    codes = pixels.astype(np.int64) @ np.array([65536, 256, 1])
    known = np.array(sorted(label_of_colour))
    place = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    strays = np.unique(codes[known[place] != codes])
    if strays.size:
        colours = [
            (int(code) >> 16, int(code) >> 8 & 255, int(code) & 255)
            for code in strays[:5]
        ]
        raise ValueError(
            f"Mask '{path}' must have the colours of `palette` and "
            f"`void_colours` alone. Found {strays.size} others: "
            f"{', '.join(map(str, colours))}. Colours in between come from "
            "smoothing: resize masks with nearest neighbour only."
        )
    found = np.array([label_of_colour[code] for code in known.tolist()])
    return found[place].astype(np.uint8)[..., None]


def _checked_examples(
    files: list[tuple[str, pathlib.Path, pathlib.Path]], source: _Source
) -> Iterator[tuple[str, dict[str, Any]]]:
    table = np.array(class_table(source.entry))
    for name, image_path, mask_path in files:
        image, mask = _read_pair(image_path, mask_path, source)
        if image.shape[:2] != mask.shape[:2]:
            raise ValueError(
                "A picture and its mask must have the same size. Received "
                f"(height, width): {image.shape[:2]} in '{image_path}', "
                f"{mask.shape[:2]} in '{mask_path}'."
            )
        classes = table[mask]
        strays = np.unique(mask[classes < 0])
        if strays.size:
            raise ValueError(
                f"Labels must be classes or void, one of "
                f"{sorted([*source.entry.labels, *source.entry.void_labels])}. "
                f"Received: {', '.join(map(str, strays[:10]))} in "
                f"'{mask_path}'."
            )
        yield (
            name,
            {
                "image": image_path,
                "segmentation_mask": classes.astype(np.uint8),
                "file_name": name,
            },
        )


def _check_names(name: Any, folders: Any, version: Any) -> None:
    """Refuses names that are no names of files, or stand for something else."""
    if not re.fullmatch("[a-z][a-z0-9_]*", str(name)):
        raise ValueError(
            "`name` must be small letters, digits and underscores, a letter "
            f"first. Received: name={name!r}"
        )
    if not re.fullmatch(r"\d+\.\d+\.\d+", str(version), re.ASCII):
        raise ValueError(
            "`version` must be three numbers such as '1.0.0'. "
            f"Received: version={version!r}"
        )
    if (
        not isinstance(folders, Mapping)
        or not folders
        or not all(
            isinstance(pair, tuple | list) and len(pair) == 2
            for pair in folders.values()
        )
    ):
        raise ValueError(
            "`folders` must be a dict from split to (folder of pictures, "
            f"folder of masks). Received: folders={folders!r}"
        )
    for split in folders:
        if (
            not re.fullmatch(r"[a-z]\w*", str(split), re.ASCII)
            or split == "all"
        ):
            raise ValueError(
                "The names of splits in `folders` must be letters, digits and "
                "underscores, a small letter first, and not 'all'. "
                f"Received: {split!r}"
            )
    if name in {*names(), *tfds.list_builders(with_community_datasets=False)}:
        raise ValueError(
            "`name` must not be that of a data set that tfds knows, or it "
            f"could not be told from it. Received: name={name!r}"
        )
