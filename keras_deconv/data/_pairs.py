"""Which files of two folders are an image and its mask."""

from __future__ import annotations

import os
import pathlib
import unicodedata
from collections.abc import Sequence
from typing import TypeAlias

from keras_deconv import _arguments
from keras_deconv.data._errors import printable
from keras_deconv.data._images import IMAGE_SUFFIXES, OTHER_SUFFIXES
from keras_deconv.data._masks import MASK_SUFFIXES

StrPath: TypeAlias = str | os.PathLike[str]
# Common name, image, mask.
Files: TypeAlias = list[tuple[str, pathlib.Path, pathlib.Path]]
# How many file names a report lists, for each problem.
_NUM_SHOWN = 5


def match_files(
    images: StrPath,
    masks: StrPath,
    mask_suffix: str,
    unmatched: str,
    verbose: bool = True,
) -> Files:
    """Pair the files of two folders: (common name, image, mask), in order."""
    unmatched = _arguments.choice(unmatched, "unmatched", ("error", "skip"))
    if not isinstance(mask_suffix, str):
        raise ValueError(
            "`mask_suffix` must be a str such as '_mask', or '' for none. "
            f"Received: mask_suffix={mask_suffix!r}"
        )
    mask_suffix = unicodedata.normalize("NFC", mask_suffix)
    all_masks, other_masks = _list_files(masks, "masks", MASK_SUFFIXES)
    mask_files = {
        stem.removesuffix(mask_suffix): path
        for stem, path in all_masks.items()
        if stem.endswith(mask_suffix)
    }
    taken = set(mask_files.values())
    all_images, other_images = _list_files(images, "images", IMAGE_SUFFIXES)
    image_files = {
        stem: path for stem, path in all_images.items() if path not in taken
    }
    # The folder may be the same for both.
    read = {*all_images.values(), *taken}
    other_masks = [
        path
        for path in other_masks
        if unicodedata.normalize("NFC", path.stem).endswith(mask_suffix)
        and path not in read
    ]
    read.update(other_masks)
    other_images = [path for path in other_images if path not in read]
    both = sorted(image_files.keys() & mask_files.keys())
    report = [f"pairs: {len(both)}"]
    for kind, stems in (
        ("images without mask", image_files.keys() - set(both)),
        ("masks without image", mask_files.keys() - set(both)),
    ):
        if stems:
            report.append(f"{kind}: {_shown(sorted(stems))}")
    for kind, suffixes, paths in (
        ("images", IMAGE_SUFFIXES, other_images),
        ("masks", MASK_SUFFIXES, other_masks),
    ):
        if paths:
            report.append(
                f"{kind} that are not {' or '.join(suffixes)}: {_shown(paths)}"
            )
    is_complete = len(report) == 1
    if not both or (unmatched == "error" and not is_complete):
        raise ValueError(
            "`images` and `masks` must hold files of the same names, except "
            f"for the suffix. Received: '{printable(images)}' and "
            f"'{printable(masks)}' with "
            f"{'; '.join(report)}. "
            "Give `mask_suffix` if all masks are named so, or leave files out "
            "with unmatched='skip'."
            + (
                " Convert files of other formats to PNG."
                if other_images or other_masks
                else ""
            )
        )
    if not is_complete and verbose:
        folders = f"'{printable(images)}' and '{printable(masks)}'"
        print(f"{folders}: {'; '.join(report)}.")
    return [(stem, image_files[stem], mask_files[stem]) for stem in both]


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


def _shown(names: Sequence[StrPath]) -> str:
    """Write how many there are, with some of them."""
    more = ", ..." if len(names) > _NUM_SHOWN else ""
    shown = ", ".join(
        printable(getattr(name, "name", name)) for name in names[:_NUM_SHOWN]
    )
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


def other_pictures(
    folder: StrPath, suffixes: Sequence[str] = IMAGE_SUFFIXES
) -> list[pathlib.Path]:
    """List the image files that `list_pictures` leaves out."""
    others = {*IMAGE_SUFFIXES, *OTHER_SUFFIXES} - {*suffixes}
    return list_pictures(folder, sorted(others))


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


def _list_files(
    folder: StrPath, argument: str, suffixes: tuple[str, ...]
) -> tuple[dict[str, pathlib.Path], list[pathlib.Path]]:
    """List files by their names, and files of other image formats.

    Returns:
        The files, and those of other image formats, unless there is a file of
        the same name that is read.
    """
    if isinstance(folder, str | os.PathLike):
        folder = pathlib.Path(folder).expanduser()
    if not isinstance(folder, pathlib.Path) or not folder.is_dir():
        raise ValueError(
            f"`{argument}` must be a folder that exists. "
            f"Received: {argument}='{printable(str(folder))}'"
        )
    files: dict[str, pathlib.Path] = {}
    others = []
    for path in list_pictures(folder, (*IMAGE_SUFFIXES, *OTHER_SUFFIXES)):
        if path.suffix.lower() not in suffixes:
            others.append(path)
            continue
        stem = name_of(path, folder)
        if stem in files:
            raise ValueError(
                f"`{argument}` must have one file of a name. Received: "
                f"'{printable(files[stem])}' and '{printable(path)}'. "
                "Remove one of them."
            )
        files[stem] = path
    others = [path for path in others if name_of(path, folder) not in files]
    if not files:
        raise ValueError(
            f"`{argument}` must hold {', '.join(suffixes)} files. "
            f"Received: {argument}='{printable(folder)}', which has none."
            + (
                f" It has files of other formats: {_shown(others)}. Convert "
                "them to PNG."
                if others
                else ""
            )
        )
    return files, others
