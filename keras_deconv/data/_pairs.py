"""Which files of two folders are an image and its mask."""

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
# Common name, image, mask.
Files: TypeAlias = list[tuple[str, pathlib.Path, pathlib.Path]]
_Named: TypeAlias = dict[str, list[pathlib.Path]]
# How many file names a report lists, for each problem.
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
    """What was found in two folders.

    Args:
        images: The folder of images.
        masks: The folder of masks.
        files: The pairs, in the order of their names.
        problems: The names of files that are in no pair, by what is wrong.
    """

    images: StrPath
    masks: StrPath
    files: Files
    problems: Mapping[str, Sequence[str]]

    def lines(self, num_shown: int | None = None) -> list[str]:
        """Write one line per problem, with the first names or all."""
        return [
            f"{problem}: {_shown(names, num_shown)}"
            for problem, names in self.problems.items()
        ]

    def ways_out(self) -> str:
        """Say what to do about the problems."""
        ways = [
            "Give `mask_suffix` if all masks are named so (`image_suffix` for "
            "images), or leave files out with unmatched='skip'."
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
    """Find out which files of two folders belong together.

    Raises:
        ValueError: If a folder does not exist or has no such files.
    """
    image_suffix = _checked(image_suffix, "image_suffix")
    mask_suffix = _checked(mask_suffix, "mask_suffix")
    _arguments.boolean(lossy_masks, "lossy_masks")
    mask_kinds = MASK_SUFFIXES + (JPEG_SUFFIXES if lossy_masks else ())
    images, masks = _folder(images, "images"), _folder(masks, "masks")
    image_paths = _list_files(images, "images", IMAGE_SUFFIXES)
    mask_paths = _list_files(masks, "masks", mask_kinds)
    # A file of a folder for both is an image if that suffix says more.
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
        # Beside a mask of the same name, it is likely an image.
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
    """Pair the files of two folders: (common name, image, mask), in order.

    Args:
        images: Folder.
        masks: Folder.
        unmatched: "error", or "skip" to leave out what is in no pair.
        verbose: Whether to print what is left out.
        **naming: Arguments of `find_pairs`.

    Raises:
        ValueError: If there are no pairs, or something is in no pair and
            `unmatched` is "error".
    """
    unmatched = _arguments.choice(unmatched, "unmatched", ("error", "skip"))
    pairing = find_pairs(images, masks, **naming)
    files = pairing.files
    folders = f"'{printable(images)}' and '{printable(masks)}'"
    report = "; ".join([f"pairs: {len(files)}", *pairing.lines(_NUM_SHOWN)])
    if not files or (unmatched == "error" and pairing.problems):
        raise ValueError(
            "`images` and `masks` must hold files of the same names, except "
            f"for the suffix. Received: {folders} with {report}. "
            f"{pairing.ways_out()}"
        )
    if pairing.problems and verbose:
        print(f"{folders}: {report}.")
    return files


def _checked(suffix: Any, argument: str) -> str:
    if not isinstance(suffix, str):
        raise ValueError(
            f"`{argument}` must be a str such as '_mask', or '' for none. "
            f"Received: {argument}={suffix!r}"
        )
    return unicodedata.normalize("NFC", suffix)


def _named(
    paths: Sequence[pathlib.Path], folder: StrPath, suffix: str
) -> tuple[list[str], list[pathlib.Path]]:
    """Return the files whose names have a suffix, and the names of pairs."""
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
    """Return the files of some formats by the names of pairs."""
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
    """Return files that are not read, unless one of the name is."""
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
    """Return the pairs of some names, in the order of `files`.

    Raises:
        ValueError: If a name is not there, or none is given.
    """
    wanted = {unicodedata.normalize("NFC", str(name)) for name in names}
    missing = sorted(wanted - {name for name, _, _ in files})
    if missing or not wanted or isinstance(names, str):
        shown = ", ".join(map(printable, missing[:_NUM_SHOWN]))
        raise ValueError(
            "`files` must be a sequence of names of pairs, without suffix, at "
            "least one. Received: "
            + (
                f"{len(missing)} that are not there ({shown})"
                if missing
                else f"files={names!r}"
            )
        )
    return [file for file in files if file[0] in wanted]


def _shown(names: Sequence[str], num_shown: int | None) -> str:
    """Write how many there are, with the first of them or all."""
    more = ", ..." if num_shown and len(names) > num_shown else ""
    shown = ", ".join(map(printable, names[:num_shown]))
    return f"{len(names)} ({shown}{more})"


def list_pictures(
    folder: StrPath, suffixes: Sequence[str] = IMAGE_SUFFIXES
) -> list[pathlib.Path]:
    """List the files in a folder and below that have one of some suffixes.

    Links are followed, but not back to a folder above them. Files and folders
    whose names start with a dot are left out: macOS, Jupyter and others
    create such.

    Args:
        folder: path.
        suffixes: sequence of str in small letters, with the dot: ".png".

    Returns:
        list of paths that begin with `folder`, sorted.
    """
    return [path for path in list_files(folder) if _kind(path) in suffixes]


def list_files(folder: StrPath) -> list[pathlib.Path]:
    """List all files in a folder and below, as `list_pictures` does."""
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
            # No links to nowhere.
            and (parent / name).is_file()
        ]
    return sorted(found)


def _leads_back(path: pathlib.Path) -> bool:
    """Whether a path is a link to a folder that it lies in."""
    return path.is_symlink() and os.path.realpath(path) in map(
        os.path.realpath, path.parents
    )


def name_of(path: pathlib.Path, folder: StrPath) -> str:
    """Return the name of a pair: the path inside the folder, without suffix.

    It is in one form of Unicode: macOS writes letters with accents as two
    characters, others as one.
    """
    name = path.relative_to(folder).with_suffix("").as_posix()
    return unicodedata.normalize("NFC", name)


def _folder(folder: Any, argument: str) -> pathlib.Path:
    """Return the path of a folder that exists."""
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
    """List the image files of a folder, those that are not read included.

    Raises:
        ValueError: If it has no file of `suffixes`.
    """
    found = list_pictures(folder, (*IMAGE_SUFFIXES, *OTHER_SUFFIXES))
    if any(_kind(path) in suffixes for path in found):
        return found
    text = (
        f"`{argument}` must hold {', '.join(suffixes)} files. Received: "
        f"{argument}='{printable(folder)}', which has none."
    )
    if found:
        shown = _shown(_names(found), _NUM_SHOWN)
        text += f" It has files of other formats: {shown}. "
        is_lossy = any(_kind(path) in JPEG_SUFFIXES for path in found)
        text += _WAYS_OUT[_LOSSY] if is_lossy else "Convert them to PNG."
    raise ValueError(text)
