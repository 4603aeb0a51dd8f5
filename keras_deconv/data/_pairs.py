"""Match the images and masks of two folders by their names."""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from keras_deconv import _arguments
from keras_deconv.data._errors import printable
from keras_deconv.data._images import (
    IMAGE_SUFFIXES,
    JPEG_SUFFIXES,
    OTHER_SUFFIXES,
)
from keras_deconv.data._masks import MASK_SUFFIXES

StrPath: TypeAlias = str | os.PathLike[str]
# Tuples of the common name, the image and the mask.
Files: TypeAlias = list[tuple[str, pathlib.Path, pathlib.Path]]
_Named: TypeAlias = dict[str, list[pathlib.Path]]
# Largest number of file names that a report lists per problem.
_NUM_SHOWN = 5
_LOSSY = "masks with lossy compression"
_OTHER = " that are not "
_TWINS = " of the same name"
_WAYS_OUT = {
    _LOSSY: "JPEG changes labels at the edges of objects: save masks as PNG. "
    "If all values are within 2 of a label, lossy_masks=True rounds them.",
    _OTHER: "Convert files of other formats to PNG.",
    _TWINS: "Keep one file of each name.",
}


@dataclasses.dataclass(frozen=True)
class Pairing:
    """The pairs of two folders, and the files without a partner.

    Args:
        images: Folder of images.
        masks: Folder of masks.
        files: Pairs, sorted by name.
        problems: Names of the files that are not part of a pair, by problem.
    """

    images: StrPath
    masks: StrPath
    files: Files
    problems: Mapping[str, Sequence[str]]

    def lines(self, num_shown: int | None = None) -> list[str]:
        """Return one line per problem, with the first names or all of them."""
        return [
            f"{problem}: {_shown(names, num_shown)}"
            for problem, names in self.problems.items()
        ]

    def ways_out(self) -> str:
        """Return advice on how to fix the problems."""
        ways = [
            "Pass `mask_suffix` if the names of all masks end with the same "
            "suffix (`image_suffix` for images), or skip these files with "
            "unmatched='skip'."
        ]
        for kind, way in _WAYS_OUT.items():
            if any(kind in problem for problem in self.problems):
                ways.append(way)
        return " ".join(ways)


def find_pairs(
    images: StrPath,
    masks: StrPath,
    *,
    image_suffix: str = "",
    mask_suffix: str = "",
    lossy_masks: bool = False,
) -> Pairing:
    """Find the files of two folders that belong together.

    Raises:
        ValueError: If a folder does not exist.
        ValueError: If a folder does not contain images or masks.
    """
    image_suffix = _checked(image_suffix, "image_suffix")
    mask_suffix = _checked(mask_suffix, "mask_suffix")
    _arguments.boolean(lossy_masks, "lossy_masks")
    mask_kinds = MASK_SUFFIXES + (JPEG_SUFFIXES if lossy_masks else ())
    images, masks = _folder(images, "images"), _folder(masks, "masks")
    image_paths = _list_files(images, "images", IMAGE_SUFFIXES)
    mask_paths = _list_files(masks, "masks", mask_kinds)
    # If images and masks share a folder, a file is an image if the image suffix
    # is longer and matches.
    is_image = set[pathlib.Path]()
    if len(image_suffix) > len(mask_suffix):
        is_image.update(_named(image_paths, images, image_suffix)[1])
    names, candidates = _named(
        [path for path in mask_paths if path not in is_image],
        masks,
        mask_suffix,
    )
    mask_files = _grouped(names, candidates, MASK_SUFFIXES)
    if lossy_masks:
        # A JPEG file with the same name as another mask is probably an image.
        lossy = _grouped(names, candidates, JPEG_SUFFIXES)
        mask_files = lossy | mask_files
    taken = {path for paths in mask_files.values() for path in paths}
    names, found = _named(
        [path for path in image_paths if path not in taken],
        images,
        image_suffix,
    )
    image_files = _grouped(names, found, IMAGE_SUFFIXES)
    taken.update(path for paths in image_files.values() for path in paths)
    other_masks = _others(candidates, masks, mask_suffix, mask_files, taken)
    taken.update(other_masks)
    other_images = _others(found, images, image_suffix, image_files, taken)
    lossy_files = [p for p in other_masks if _kind(p) in JPEG_SUFFIXES]
    others = [path for path in other_masks if path not in lossy_files]
    problems = {
        "images without mask": sorted(image_files.keys() - mask_files.keys()),
        "masks without image": sorted(mask_files.keys() - image_files.keys()),
        f"images{_OTHER}{' or '.join(IMAGE_SUFFIXES)}": _names(other_images),
        f"masks{_OTHER}{' or '.join(MASK_SUFFIXES)}": _names(others),
        _LOSSY: _names(lossy_files),
        f"images{_TWINS}": _names(_twins(image_files)),
        f"masks{_TWINS}": _names(_twins(mask_files)),
    }
    both = sorted(
        stem
        for stem in image_files.keys() & mask_files.keys()
        if len(image_files[stem]) == len(mask_files[stem]) == 1
    )
    return Pairing(
        images,
        masks,
        [(stem, image_files[stem][0], mask_files[stem][0]) for stem in both],
        {problem: names for problem, names in problems.items() if names},
    )


def match_files(
    images: StrPath,
    masks: StrPath,
    unmatched: str = "error",
    verbose: bool = True,
    **naming: Any,
) -> Files:
    """Return pairs as (common name, image, mask), sorted by name.

    Args:
        images: Folder of images.
        masks: Folder of masks.
        unmatched: "error", or "skip" to ignore files without a partner.
        verbose: Whether to print the files that are skipped.
        **naming: Arguments of `find_pairs`.

    Raises:
        ValueError: If there are no pairs.
        ValueError: If `unmatched` is "error" and a file is not part of a pair.
    """
    unmatched = _arguments.choice(unmatched, "unmatched", ("error", "skip"))
    pairing = find_pairs(images, masks, **naming)
    files = pairing.files
    folders = f"'{printable(images)}' and '{printable(masks)}'"
    report = "; ".join([f"pairs: {len(files)}", *pairing.lines(_NUM_SHOWN)])
    if not files or (unmatched == "error" and pairing.problems):
        raise ValueError(
            "`images` and `masks` must contain files with the same names, "
            f"except for the suffix. Received: {folders} with {report}. "
            f"{pairing.ways_out()}"
        )
    if pairing.problems and verbose:
        print(f"{folders}: {report}.")
    return files


def _checked(suffix: Any, argument: str) -> str:
    if not isinstance(suffix, str):
        raise ValueError(
            f"`{argument}` must be a str such as '_mask', or ''. "
            f"Received: {argument}={suffix!r}"
        )
    return unicodedata.normalize("NFC", suffix)


def _named(
    paths: Sequence[pathlib.Path], folder: StrPath, suffix: str
) -> tuple[list[str], list[pathlib.Path]]:
    """Return the files with a name suffix, and their names without it."""
    names = [(name_of(path, folder), path) for path in paths]
    kept = [(name, path) for name, path in names if name.endswith(suffix)]
    return (
        [name.removesuffix(suffix) for name, _ in kept],
        [path for _, path in kept],
    )


def _grouped(
    names: Sequence[str],
    paths: Sequence[pathlib.Path],
    suffixes: Sequence[str],
) -> _Named:
    """Group the files of some formats by the names of their pairs."""
    found: _Named = collections.defaultdict(list)
    for name, path in zip(names, paths, strict=True):
        if _kind(path) in suffixes:
            found[name].append(path)
    return dict(found)


def _others(
    paths: Sequence[pathlib.Path],
    folder: StrPath,
    suffix: str,
    files: Mapping[str, Any],
    taken: set[pathlib.Path],
) -> list[pathlib.Path]:
    """Return unused files, except those whose pair has another file."""
    return [
        path
        for path in paths
        if path not in taken
        and name_of(path, folder).removesuffix(suffix) not in files
    ]


def _twins(files: Mapping[str, Sequence[pathlib.Path]]) -> list[pathlib.Path]:
    return [p for paths in files.values() if len(paths) > 1 for p in paths]


def _names(paths: Iterable[pathlib.Path]) -> list[str]:
    return [path.name for path in paths]


def _kind(path: pathlib.Path) -> str:
    return path.suffix.lower()


def only(files: Files, names: Sequence[str]) -> Files:
    """Return the pairs with some names, in the order of `files`.

    Raises:
        ValueError: If a name does not exist.
        ValueError: If `names` is empty or a str.
    """
    wanted = {unicodedata.normalize("NFC", str(name)) for name in names}
    missing = sorted(wanted - {name for name, _, _ in files})
    if missing or not wanted or isinstance(names, str):
        shown = ", ".join(map(printable, missing[:_NUM_SHOWN]))
        raise ValueError(
            "`files` must be a sequence of at least one name of a pair, "
            "without suffix. Received: "
            + (
                f"{len(missing)} names that do not exist ({shown})"
                if missing
                else f"files={names!r}"
            )
        )
    return [file for file in files if file[0] in wanted]


def _shown(names: Sequence[str], num_shown: int | None) -> str:
    """Return the number of names, and the first of them or all."""
    more = ", ..." if num_shown and len(names) > num_shown else ""
    shown = ", ".join(map(printable, names[:num_shown]))
    return f"{len(names)} ({shown}{more})"


def list_pictures(
    folder: StrPath, suffixes: Sequence[str] = IMAGE_SUFFIXES
) -> list[pathlib.Path]:
    """List the files with some suffixes in a folder and its subfolders.

    Links are followed, except those to a parent folder. Files and folders whose
    names start with a dot are ignored, because macOS, Jupyter and other
    programs create them.

    Args:
        folder: Path of the folder.
        suffixes: Sequence of lowercase str with the dot, such as ".png".

    Returns:
        Sorted list of paths that start with `folder`.
    """
    return [path for path in list_files(folder) if _kind(path) in suffixes]


def list_files(folder: StrPath) -> list[pathlib.Path]:
    """List all files in a folder and its subfolders, like `list_pictures`."""
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
            # Broken links are ignored.
            and (parent / name).is_file()
        ]
    return sorted(found)


def _leads_back(path: pathlib.Path) -> bool:
    """Return whether a path is a link to one of its parent folders."""
    return path.is_symlink() and os.path.realpath(path) in map(
        os.path.realpath, path.parents
    )


def name_of(path: pathlib.Path, folder: StrPath) -> str:
    """Return the name of a pair: its path in the folder, without suffix.

    The name is normalized to the Unicode form NFC, because macOS stores letters
    with accents as two characters.
    """
    name = path.relative_to(folder).with_suffix("").as_posix()
    return unicodedata.normalize("NFC", name)


def _folder(folder: Any, argument: str) -> pathlib.Path:
    """Return the path of an existing folder."""
    if isinstance(folder, str | os.PathLike):
        folder = pathlib.Path(folder).expanduser()
    if not isinstance(folder, pathlib.Path) or not folder.is_dir():
        raise ValueError(
            f"`{argument}` must be a folder that exists. "
            f"Received: {argument}='{printable(str(folder))}'"
        )
    return folder


def _list_files(
    folder: pathlib.Path, argument: str, suffixes: tuple[str, ...]
) -> list[pathlib.Path]:
    """List the image files of a folder, including unsupported formats.

    Raises:
        ValueError: If the folder does not contain a file with one of
            `suffixes`.
    """
    found = list_pictures(folder, (*IMAGE_SUFFIXES, *OTHER_SUFFIXES))
    if any(_kind(path) in suffixes for path in found):
        return found
    text = (
        f"`{argument}` must contain {', '.join(suffixes)} files. Received: "
        f"{argument}='{printable(folder)}', which does not contain any."
    )
    if found:
        shown = _shown(_names(found), _NUM_SHOWN)
        text += f" It contains files of other formats: {shown}. "
        is_lossy = any(_kind(path) in JPEG_SUFFIXES for path in found)
        text += _WAYS_OUT[_LOSSY] if is_lossy else "Convert them to PNG."
    raise ValueError(text)
