"""Tests of the command with all kinds of files, which must all be reported."""

import numpy as np
import PIL.Image
import pytest

from keras_deconv_cli import main, sources
from keras_deconv_cli.parser import parse
from tests.cli.samples import tiny_model
from tests.data import file_kinds
from tests.tiny_datasets import write_png

# Versions of Pillow differ in how they read some files.
pytestmark = pytest.mark.oldest

pytest.importorskip("rasterio")


def plain(name):
    return name.encode("utf-8", "backslashreplace").decode()


def predict(folder, *arguments):
    tiny_model((16, 24, 3), 3).save(folder / "model.keras")
    command = ["predict", str(folder / "model.keras"), str(folder / "images")]
    return main([*command, "--output", str(folder / "out"), *arguments])


def test_predict_accounts_for_every_file(tmp_path, capsys):
    kinds = [
        *file_kinds.images(),
        *file_kinds.faulty_images(),
        *file_kinds.deep_images(),
    ]
    (tmp_path / "images").mkdir()
    for number, kind in enumerate(kinds):
        # The number makes names unique, since some differ only in the suffix.
        name = f"{number:03} {kind.name}"
        (tmp_path / "images" / name).write_bytes(kind.content)
    others = ["notes.txt", "photo.heic", "map.json"]
    for name in others:
        (tmp_path / "images" / name).write_bytes(b"")
    assert predict(tmp_path) == 1
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    num_failed = 0
    for number, kind in enumerate(kinds):
        name = f"{number:03} {kind.name}"
        mask = tmp_path / "out" / f"{name.rpartition('.')[0]}_mask.png"
        is_read = kind.expected is not None and kind.expected.dtype == np.uint8
        assert mask.exists() == is_read, name
        if is_read:
            with PIL.Image.open(mask) as image:
                assert image.size == kind.expected.shape[1::-1]
            continue
        num_failed += 1
        start = f"error: {tmp_path}/images/{plain(name)} cannot be labeled: "
        [line] = [line for line in lines if line.startswith(start)]
        error = kind.error or "--value-range must say"
        if error.startswith("Pass channels="):
            number = error.partition("=")[2]
            error = f"The image has {number} channels, but the model takes 3."
        assert error in line
    assert lines[0].startswith("warning: Skipped 3 files in ")
    assert all(name in lines[0] for name in others)
    assert len(lines) == 1 + num_failed
    assert printed.out.splitlines()[-2] == (
        f"Wrote {len(kinds) - num_failed} labeled images to {tmp_path}/out; "
        f"skipped {num_failed}"
    )


def test_predict_says_nothing_of_no_images(tmp_path, capsys):
    write_png(tmp_path / "images" / "a.png", np.zeros((2, 2, 3), np.uint8))
    (tmp_path / "images" / "a.png").write_bytes(b"")
    assert predict(tmp_path) == 1
    printed = capsys.readouterr()
    assert "Wrote" not in printed.out
    assert "a.png cannot be labeled" in printed.err


def write_pairs(folder, number):
    for count in range(number):
        image = np.zeros((4, 4, 3), np.uint8)
        mask = np.uint8(np.eye(4))[..., None]
        write_png(folder / "images" / f"{count}.png", image)
        write_png(folder / "masks" / f"{count}.png", mask)
    return [
        *["--images", str(folder / "images")],
        *["--masks", str(folder / "masks"), "--classes", "2"],
    ]


def test_check_lists_all_files(tmp_path, capsys):
    """The report lists all unmatched and all unreadable files."""
    given = write_pairs(tmp_path, 60)
    for number in range(9):
        (tmp_path / "masks" / f"{number}.png").unlink()
    (tmp_path / "masks" / "9.tif").write_bytes(b"")
    (tmp_path / "masks" / "10.png").rename(tmp_path / "masks" / "10.jpg")
    for number in range(11, 56):
        (tmp_path / "images" / f"{number}.png").write_bytes(b"")
    assert main(["check", *given]) == 1
    printed = capsys.readouterr().out
    for line in (
        "NOT OK: images without mask: 10 (0, 1, 10, 2, 3, 4, 5, 6, 7, 8)",
        "NOT OK: masks with lossy compression: 1 (10.jpg)",
        "NOT OK: masks of the same name: 2 (9.png, 9.tif)",
        "--lossy-masks",
    ):
        assert line in printed, line
    for number in range(11, 56):
        assert f"images/{number}.png: The file cannot be read" in printed
    # With --unmatched skip, unmatched files are listed but are not an error.
    for number in range(11, 56):
        (tmp_path / "images" / f"{number}.png").unlink()
    assert main(["check", *given, "--unmatched", "skip"]) == 0
    printed = capsys.readouterr().out
    assert "skipped: images without mask: 10 (0, 1, 10, 2" in printed
    assert "NOT OK" not in printed


def test_suffixes_of_both(tmp_path):
    given = write_pairs(tmp_path, 2)
    for kind, suffix in (
        ("images", "_leftImg8bit"),
        ("masks", "_gtFine_labelIds"),
    ):
        for path in (tmp_path / kind).iterdir():
            path.rename(path.with_stem(path.stem + suffix))
    given += ["--image-suffix", "_leftImg8bit"]
    given += ["--mask-suffix", "_gtFine_labelIds"]
    assert main(["check", *given]) == 0
    command, _ = parse(["train", *given])
    source = sources.find(command.data)
    assert source.part("train").names == ["0", "1"]
    [(image, _)] = source.load("train", image_size=(8, 8), batch_size=2)
    assert image.shape == (2, 8, 8, 3)
