"""Tests of the command with folders of images and masks."""

import errno
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from keras_deconv import _files, _network, export, inference
from keras_deconv_cli import decisions, evaluation, main, parser, runs, sources
from tests import networks, tiny_datasets
from tests.cli.samples import read_history, tiny_model, write_scenes
from tests.paths import ROOT

FAST = ["--image-size", "32x32", "--preview-every", "0"]


def draw(number, size=(32, 32)):
    """Return an image of a bright disk on dark ground, and its mask."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[: size[0], : size[1]]
    center = rng.uniform(0.35, 0.65, 2) * size
    radius = rng.uniform(0.2, 0.3) * min(size)
    disk = np.hypot(rows - center[0], columns - center[1]) < radius
    image = np.full((*size, 3), 40, "uint8")
    image[disk] = 200, 120, 80
    return image, disk


def write_disks(folder, values=(0, 255), number=24, size=(32, 32)):
    """Write pairs whose masks have two values; return their options."""
    for count in range(number):
        image, disk = draw(count, size)
        mask = np.where(disk, values[1], values[0]).astype("uint8")
        name = f"{count:02}.png"
        tiny_datasets.write_png(folder / "images" / name, image)
        tiny_datasets.write_png(folder / "masks" / name, mask[..., None])
    return [
        *["--images", str(folder / "images")],
        *["--masks", str(folder / "masks")],
    ]


@pytest.fixture(scope="module")
def disks(tmp_path_factory):
    return write_disks(tmp_path_factory.mktemp("disks"))


def last_error(capsys):
    return capsys.readouterr().err.splitlines()[-1]


def foreground_iou(run, written, arguments=()):
    command = ["evaluate", str(run), "--json", str(written), *arguments]
    assert main(command) == 0
    return json.loads(written.read_text())["classes"]["foreground"]["iou"]


@pytest.mark.parametrize(
    "command", [pytest.param("train", marks=pytest.mark.slow), "check"]
)
def test_binary_masks_stop_with_the_ways_out(
    command, disks, tiny_models, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main([command, *disks, "--classes", "ground,disk"]) == 1
    error = last_error(capsys)
    assert "Pass --foreground 255 if 255 is 'disk'" in error
    assert "Pass --void-labels 255 if 255 means void." in error
    # With explicit void labels, check can accept the missing foreground.
    voided = [*disks, "--classes", "ground,disk", "--void-labels", "255"]
    if command == "check":
        assert main([command, *voided]) == 1
        assert main([command, *voided, "--allow-missing-classes"]) == 0
        return
    assert main([command, *voided, *FAST, "--epochs", "1"]) == 1
    assert re.search(
        r"must contain at least two classes\. Received: only ground in the 19 "
        r"training images \(ground \d{5}, disk 0, void \d{4}\)\.",
        last_error(capsys),
    )


@pytest.mark.slow
def test_a_foreground_is_learned(disks, tiny_models, tmp_path):
    run = tmp_path / "run"
    arguments = [*disks, "--foreground", "255", "--output", str(run), *FAST]
    arguments += ["--learning-rate", "0.1", "--epochs", "15"]
    assert main(["train", *arguments]) == 0
    assert foreground_iou(run, tmp_path / "scores.json") > 0.5


@pytest.mark.slow
@pytest.mark.release
def test_a_foreground_is_learned_with_the_defaults(disks, tmp_path):
    """Run the command in a new process with its default options."""
    run = tmp_path / "run"
    command = [sys.executable, "-m", "keras_deconv_cli", "train", *disks]
    command += ["--foreground", "255", "--output", str(run)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert foreground_iou(run, tmp_path / "scores.json") > 0.5


@pytest.mark.slow
@pytest.mark.release
def test_labels_name_the_classes(disks, tiny_models, tmp_path, capsys):
    run = tmp_path / "run"
    arguments = ["train", *disks, "--output", str(run), *FAST, "--epochs", "1"]
    arguments += ["--labels", "0=background,255=building"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "Classes: 0 background, 1 building\n" in printed
    assert "Values in the masks: 0 background, 255 building\n" in printed
    assert runs.read(run).class_names == ["background", "building"]
    assert runs.read(run).data.labels == {0: "background", 255: "building"}
    # Repeating the command resumes the same run.
    assert main(arguments) == 0
    assert "is finished" in capsys.readouterr().out
    assert main(["evaluate", str(run)]) == 0
    assert "building" in capsys.readouterr().out
    for classes, labels, status in (
        ("building,background", "0=background,255=building", 0),
        ("building,street", "0=background,255=building", 1),
        ("2", "0=0,255=1", 0),
        ("3", "0=0,255=1", 1),
    ):
        given = ["--classes", classes, "--labels", labels]
        assert main(["check", *disks, *given]) == status, given
        if status:
            error = last_error(capsys)
            assert (
                "--labels must map to exactly the classes of --classes" in error
            )
    assert main(["check", *disks, "--foreground", "255"]) == 0


def write_photos(folder, number, size):
    """Write JPEG photos and masks of sky, road and car."""
    for count in range(number):
        image, disk = draw(count, size)
        mask = np.where(disk, 2, 0).astype("uint8")
        mask[size[0] * 3 // 4 :] = 1
        image[mask == 1] = 90
        for kind, pixels, suffix in (
            ("photos", image, "jpg"),
            ("labels", mask, "png"),
        ):
            path = folder / kind / f"{count}.{suffix}"
            path.parent.mkdir(exist_ok=True, parents=True)
            PIL.Image.fromarray(pixels).save(path)


def printed_command():
    """Return the command of docs/command.md that trains on photos."""
    page = (ROOT / "docs" / "command.md").read_text()
    [line] = re.findall(r"^keras-deconv (train --images.*)", page, re.MULTILINE)
    return shlex.split(line)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        ("--epochs 1 --preview-every 0", "1 epoch"),
        pytest.param(
            "",
            "20 epochs (assumed; change it with --epochs)",
            marks=(pytest.mark.slow, pytest.mark.release),
        ),
    ],
)
def test_the_command_of_the_page(
    options, epochs, tiny_models, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path, 24, (480, 640))
    assert main([*printed_command(), *options.split()]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:6] == [
        f"Training on 19 images in {tmp_path}/photos, validating on 5 others, "
        "drawn with seed 0 (assumed; change it with --val-split).",
        "Image size: 192x256, from the median 480x640 of the images (assumed; "
        "change it with --image-size)",
        "Classes: 0 sky, 1 road, 2 car",
        "Values in the masks: 0 sky, 1 road, 2 car, 255 void (assumed; change "
        "it with --labels, --foreground or --void-labels)",
        f"Model: segnet_basic, batches of 8 images, {epochs}",
        "Writing to runs/photos_segnet_basic",
    ]
    folder = tmp_path / "runs" / "photos_segnet_basic"
    assert len(read_history(folder)) == int(epochs.split()[0])
    assert all(float(row["val_mean_iou"]) > 0 for row in read_history(folder))
    run = runs.read(folder)
    assert run.image_size == [192, 256]
    assert {name: len(files) for name, files in run.files.items()} == {
        "train": 19,
        "validation": 5,
    }
    names = sorted(name for part in run.files.values() for name in part)
    assert names == sorted(map(str, range(24)))
    written = tmp_path / "scores.json"
    assert main(["evaluate", str(folder), "--json", str(written)]) == 0
    printed = capsys.readouterr().out
    assert "split validation" in printed
    assert "warning" not in printed
    scores = json.loads(written.read_text())
    assert scores["split"] == "validation"
    assert not scores["split_was_trained_on"]
    assert scores["split_chose_model"]


@pytest.mark.slow
@pytest.mark.release
def test_a_set_that_grew_is_resumed_with_its_images(
    tiny_models, tmp_path, capsys
):
    folders = write_disks(tmp_path, (0, 1), number=10)
    run = tmp_path / "run"
    arguments = ["train", *folders, "--classes", "2", *FAST]
    arguments += ["--output", str(run)]
    assert main([*arguments, "--epochs", "1"]) == 0
    before = runs.read(run)
    assert sorted(map(len, before.files.values())) == [2, 8]
    content = json.loads((run / "run.json").read_text())
    content["is_finished"] = False
    (run / "run.json").write_text(json.dumps(content))
    write_disks(tmp_path, (0, 1), number=15)
    assert main(arguments) == 0
    after = runs.read(run)
    assert (after.files, after.splits) == (before.files, before.splits)
    assert after.is_finished
    capsys.readouterr()
    # The folder also contains training images.
    assert main(["evaluate", str(run), *folders, "--classes", "2"]) == 0
    assert "warning: The model was trained on" in capsys.readouterr().out
    # The error names a missing image.
    (tmp_path / "images" / f"{before.files['validation'][0]}.png").unlink()
    (tmp_path / "masks" / f"{before.files['validation'][0]}.png").unlink()
    assert main(["evaluate", str(run)]) == 1
    assert f"such as {before.files['validation'][0]!r}" in last_error(capsys)


def parsed(arguments):
    command, _ = parser.parse(arguments)
    return command


def write_run(folder, arguments):
    """Write the files of a training without training."""
    command = parsed(["train", *arguments])
    plan = decisions.decide(command, None)
    source = plan.source
    folder.mkdir()
    tiny_model((32, 32, 3), source.num_classes).save(folder / "model.keras")
    limits = source.value_range
    runs.Run(
        class_names=list(source.class_names),
        palette=[list(color) for color in source.palette],
        image_size=[32, 32],
        options=command.record(),
        value_range=list(limits) if limits else None,
        splits=plan.splits,
        files=plan.files,
        is_finished=True,
    ).write(folder)
    return str(folder)


def scores_of(run, written, arguments=()):
    assert main(["evaluate", run, "--json", str(written), *arguments]) == 0
    return json.loads(written.read_text())


def deepen(folder):
    """Convert the images to 12 bits, with 4080 in place of 255."""
    for path in folder.iterdir():
        pixels = tf.io.decode_png(path.read_bytes())
        deep = tf.io.encode_png(tf.cast(pixels, tf.uint16) * 16)
        path.write_bytes(deep.numpy())


@pytest.mark.slow
def test_evaluate_reads_images_as_the_training_did(
    tmp_path, capsys, monkeypatch
):
    folders = write_disks(tmp_path, (0, 1), number=4)
    deepen(tmp_path / "images")
    narrow, wide = (["--value-range", text] for text in ("0,4080", "0,65535"))
    given = [*folders, "--classes", "2"]
    run = write_run(tmp_path / "run", [*given, *narrow])
    brightest = []

    def measure(model, dataset, run, verbose):
        brightest.append(max(image.numpy().max() for image, _ in dataset))
        return evaluation.Scores({}, {})

    monkeypatch.setattr(evaluation, "measure", measure)
    monkeypatch.setattr(evaluation.Scores, "__str__", lambda scores: "")
    # Evaluate the images of the training, and then given folders.
    for folders in ([], given):
        assert main(["evaluate", run, *folders]) == 0
        assert (
            "Image values: 0 to 4080, scaled to 0 to 255 (assumed; change it "
            "with --value-range)\n"
        ) in capsys.readouterr().out
        assert main(["evaluate", run, *folders, *wide]) == 0
        printed = capsys.readouterr().out
        assert "Image values: 0 to 65535, scaled to 0 to 255\n" in printed
    # The value of the disks is 200 of 255, or 3200 in 12 bits.
    expected = [200, 3200 * 255 / 65535] * 2
    np.testing.assert_allclose(brightest, expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.release
def test_evaluate_skips_files_without_partner(tmp_path, capsys):
    folders = write_disks(tmp_path, (0, 1), number=4)
    run = write_run(tmp_path / "run", [*folders, "--classes", "2"])
    shutil.copy(tmp_path / "images" / "00.png", tmp_path / "images" / "x.png")
    assert main(["evaluate", run]) == 1
    assert "skip these files with --unmatched skip" in last_error(capsys)
    assert main(["evaluate", run, "--unmatched", "skip"]) == 0
    # The evaluation skips unmatched images if the training skipped them.
    arguments = [*folders, "--classes", "2", "--unmatched", "skip"]
    run = write_run(tmp_path / "other", arguments)
    assert main(["evaluate", run]) == 0
    assert main(["evaluate", run, "--unmatched", "error"]) == 1


def test_export_says_the_range_of_the_training(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export, "to_saved_model", lambda *a, **b: None)
    folders = write_disks(tmp_path, (0, 1), number=4)
    for options, said in ((["--value-range", "0,200"], True), ([], False)):
        arguments = [*folders, "--classes", "2", *options]
        run = write_run(tmp_path / f"run_{said}", arguments)
        assert main(["export", run, "--output", str(tmp_path / "saved")]) == 0
        text = (
            "expects image values from 0 to 255. Scale values from 0 to 200, "
            "the range of the training,"
        )
        assert (text in capsys.readouterr().out) == said


@pytest.mark.parametrize(
    "kind",
    [
        "folder",
        pytest.param("files", marks=[pytest.mark.slow, pytest.mark.release]),
        pytest.param("parent", marks=[pytest.mark.slow, pytest.mark.release]),
    ],
)
def test_training_images_are_known_behind_links(kind, tmp_path, capsys):
    folders = write_disks(tmp_path / "data", (0, 1), number=4)
    run = write_run(tmp_path / "run", [*folders, "--classes", "2"])
    for name in ("images", "masks"):
        real = tmp_path / "data" / name
        link = tmp_path / "links" / name
        link.parent.mkdir(exist_ok=True)
        if kind == "folder":
            link.symlink_to(real)
        elif kind == "files":
            link.mkdir()
            for number, path in enumerate(sorted(real.iterdir())):
                (link / f"{number}.png").symlink_to(path)
        else:
            (link / "below").parent.mkdir()
            (link / "below").symlink_to(real)
    given = ["--images", str(tmp_path / "links" / "images")]
    given += ["--masks", str(tmp_path / "links" / "masks"), "--classes", "2"]
    scores = scores_of(run, tmp_path / "scores.json", given)
    assert scores["split_was_trained_on"]
    assert scores["split_chose_model"]
    assert "warning: The model was trained on" in capsys.readouterr().out
    # Copies count as other images, since their content is not compared.
    others = write_disks(tmp_path / "others", (0, 1), number=2)
    given = [*others, "--classes", "2"]
    scores = scores_of(run, tmp_path / "scores.json", given)
    assert not scores["split_was_trained_on"]


@pytest.mark.slow
@pytest.mark.release
def test_training_images_are_known_with_a_version(scenes_dir, tmp_path):
    where = ["--data-dir", str(scenes_dir)]
    arguments = ["scenes", *where, "--train-split", "train[:8]"]
    run = write_run(tmp_path / "run", arguments)
    for split, expected in (("train[:4]", True), ("train[8:12]", False)):
        given = ["scenes:1.0.0", *where, "--split", split]
        scores = scores_of(run, tmp_path / "scores.json", given)
        assert scores["split_was_trained_on"] == expected


@pytest.mark.parametrize(
    ("number", "options", "line", "unused"),
    [
        (
            10,
            "--train-split train[:80%] --val-split 20%",
            "Training on 6 images in {}, validating on 2 others.",
            "2 images are not used for training or validation. ",
        ),
        (
            10,
            "--train-split train[:9] --val-split none",
            "Training on 9 images in {}, without validation.",
            "1 image is not used for training or validation. ",
        ),
        (
            1,
            "--val-split 20%",
            "Training on 1 image in {}, without validation, since a single "
            "image cannot be split.",
            None,
        ),
        (
            1,
            "",
            "Training on 1 image in {}, without validation, since a single "
            "image cannot be split.",
            None,
        ),
        (
            2,
            "--val-split rest",
            "Training on 2 images in {}, without validation, since "
            "--train-split train does not leave out any images.",
            None,
        ),
        (2, "--val-split none", "Training on 2 images in {}, without va", None),
        (
            2,
            "",
            "Training on 1 image in {}, validating on 1 other, drawn with seed",
            None,
        ),
    ],
)
def test_what_is_said_about_splits(number, options, line, unused, tmp_path):
    folders = write_disks(tmp_path, (0, 1), number=number)
    arguments = ["train", *folders, "--classes", "2", *options.split()]
    lines = decisions.decide(parsed(arguments), None).lines
    assert lines[0].startswith(line.format(folders[1]))
    assert ("not used" in lines[1]) == (unused is not None)
    if unused:
        assert lines[1].startswith(unused)


def test_a_validation_split_that_does_not_exist(tmp_path, capsys):
    folders = write_disks(tmp_path, (0, 1), number=2)
    arguments = ["train", *folders, "--classes", "2", "--val-split", "valid"]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 1
    assert last_error(capsys).startswith(
        "error: --val-split must be a share such as 20%, `rest`, `none`, or a "
        "slice of the images in these folders. SPLIT must be train, or a slice"
    )


@pytest.mark.parametrize(
    ("options", "train", "validation"),
    [
        ("", 8, 2),
        ("--val-split 50%", 5, 5),
        ("--val-split 1%", 9, 1),
        ("--val-split none", 10, 0),
        ("--train-split train[:70%]", 7, 3),
        ("--train-split train[:70%] --val-split none", 7, 0),
        ("--train-split train[:6] --val-split 50%", 3, 3),
        ("--train-split train[:6] --val-split train[8:]", 6, 2),
        ("--train-split train[2:6]", 4, 6),
    ],
)
def test_splits_of_folders(options, train, validation, tmp_path):
    folders = write_disks(tmp_path, (0, 1), number=10)
    command = parsed(["train", *folders, "--classes", "2", *options.split()])
    divided = []
    for _ in range(2):
        source = sources.find(command.data)
        source, names = source.divide(
            command.train_split, command.val_split, command.seed
        )
        divided.append({name: p.names for name, p in source.parts.items()})
    assert divided[0] == divided[1]
    found = divided[0]
    assert names == {name: name for name in found}
    assert len(found["train"]) == train
    assert len(found.get("validation", ())) == validation
    assert not set(found["train"]) & set(found.get("validation", ()))
    if "[2:6]" in options:
        assert found["train"] == ["02", "03", "04", "05"]
        assert found["validation"] == ["00", "01", "06", "07", "08", "09"]


@pytest.mark.parametrize("val_split", ["train", "train[80%:]"])
def test_training_and_validation_share_no_images(val_split, tmp_path, capsys):
    folders = write_disks(tmp_path, (0, 1), number=10)
    arguments = ["train", *folders, "--classes", "2", "--val-split", val_split]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 1
    assert "must not share images" in capsys.readouterr().err


def test_a_validation_folder_is_not_divided(tmp_path, capsys):
    folders = write_disks(tmp_path, (0, 1), number=2)
    arguments = ["train", *folders, "--classes", "2", "--val-split", "20%"]
    arguments += ["--val-images", folders[1], "--val-masks", folders[3]]
    with pytest.raises(SystemExit):
        main(arguments)
    assert "cannot be used with --val-images" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.release
def test_folders_of_their_own_for_validation(tiny_models, tmp_path, capsys):
    folders = write_scenes(tmp_path)
    arguments = ["train", *folders, "--classes", "6", *FAST, "--epochs", "1"]
    arguments += ["--val-images", folders[1], "--val-masks", folders[3]]
    arguments += ["--output", str(tmp_path / "run")]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "Training on 3 images in" in printed
    assert "validating on 3 others" in printed
    assert "class_5" in (tmp_path / "run" / "per_class.csv").read_text()


@pytest.mark.slow
@pytest.mark.release
def test_evaluating_training_images_is_said(
    disks, tiny_models, tmp_path, capsys
):
    run = tmp_path / "run"
    arguments = [*disks, "--foreground", "255", *FAST, "--epochs", "1"]
    assert main(["train", *arguments, "--output", str(run)]) == 0
    capsys.readouterr()
    for options, trained_on in (
        ([], False),
        (["--split", "validation"], False),
        (["--split", "train"], True),
        (["--split", "train[:3]"], True),
    ):
        written = tmp_path / "scores.json"
        foreground_iou(run, written, options)
        said = "warning: The model was trained on" in capsys.readouterr().out
        scores = json.loads(written.read_text())
        assert said == scores["split_was_trained_on"] == trained_on


@pytest.mark.slow
@pytest.mark.release
def test_classes_that_do_not_occur_are_said(tiny_models, tmp_path, capsys):
    folders = write_disks(tmp_path, (0, 1), number=4)
    run = tmp_path / "run"
    arguments = ["train", *folders, "--classes", "ground,disk,boat", *FAST]
    arguments += ["--epochs", "1", "--output", str(run)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert (
        "warning: 1 of 3 classes never occurs in the 3 training images: boat."
        in printed
    )
    assert re.search(r"^boat +does not occur$", printed, re.MULTILINE)
    # The class is also reported as absent if the model predicts it.
    model = tiny_model((32, 32, 3), 3)
    model.layers[-2].kernel.assign(tf.zeros((3, 3, 3, 3)))
    model.layers[-2].bias.assign([0.0, 0.0, 1.0])
    model.save(run / "model.keras")
    assert main(["evaluate", str(run)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^boat +does not occur$", printed, re.MULTILINE)
    assert re.search(r"^disk +0.000 ", printed, re.MULTILINE)
    # All pixels are void.
    arguments = ["train", *folders, "--labels", "5=a,6=b", *FAST]
    arguments += ["--void-labels", "0,1", "--epochs", "1"]
    assert main([*arguments, "--output", str(tmp_path / "void")]) == 1
    assert "Received: only void in the 3 training" in last_error(capsys)


@pytest.mark.parametrize(
    "more", [[], pytest.param(["--smoke"], marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    ("values", "has_hint"), [((0, 255), True), ((1, 255), False)]
)
def test_masks_with_one_class_stop_the_training(
    values, has_hint, more, tiny_models, tmp_path, capsys
):
    folders = write_disks(tmp_path, values, number=4)
    run = tmp_path / "run"
    arguments = ["train", *folders, "--classes", "sky,road,car", *FAST, *more]
    assert main([*arguments, "--output", str(run)]) == 1
    error = last_error(capsys)
    assert "The training masks must contain at least two classes." in error
    hint = "If 255 is a class, use two classes and --foreground 255."
    assert (hint in error) == has_hint
    assert not (run / "run.json").exists()


def test_smoke_allows_one_class_in_its_batches(tiny_models, tmp_path, capsys):
    folders = write_disks(tmp_path, (0, 0), number=2)
    _, disk = draw(0, (32, 32))
    tiny_datasets.write_png(tmp_path / "images" / "02.png", draw(2)[0])
    tiny_datasets.write_png(
        tmp_path / "masks" / "02.png", disk.astype("uint8")[..., None]
    )
    arguments = ["train", *folders, "--classes", "2", *FAST, "--smoke"]
    arguments += ["--batch-size", "1", "--val-split", "none"]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert "warning" not in printed
    assert "Next steps: " in printed


@pytest.mark.slow
def test_smoke_ends_with_next_steps(tiny_models, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folders = write_disks(tmp_path, (0, 1), number=4)
    arguments = ["train", *folders, "--classes", "2", "--smoke"]
    arguments += ["--image-size", "32x32", "--batch-size", "1"]
    assert main([*arguments, "--output", "a run"]) == 0
    printed = capsys.readouterr().out
    assert ", 1 epoch of 2 batches (--smoke)\n" in printed
    assert f"\nPreviews: {tmp_path / 'a run' / 'previews'}\n" in printed
    assert (tmp_path / "a run" / "previews").is_dir()
    _, steps = printed.split("Next steps: ")
    commands = re.findall(r"^  keras-deconv (.*)$", steps, re.MULTILINE)
    evaluate, predict, export = map(shlex.split, commands)
    assert main(evaluate) == 0
    assert main(predict) == 0
    assert (tmp_path / "a run" / "labeled" / "00_overlay.png").exists()
    assert main(export) == 0
    assert (tmp_path / "a run" / "saved_model").is_dir()
    capsys.readouterr()
    assert main(["info", "a run"]) == 0
    assert "images (finished, smoke run)\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "classes", "words"),
    [
        ((1, 2), "2", ["--void-labels 0 or --labels 1=class_0,2=class_1"]),
        ((1, 2), "sky,road", ["--void-labels 0 or --labels 1=sky,2=road"]),
        ((0, 2), "2", ["label 2", "use --classes 3 or --void-labels 2"]),
        ((0, 77), "3", ["label 77", "use --void-labels 77"]),
    ],
)
def test_labels_beyond_the_classes_are_explained(
    values, classes, words, tiny_models, tmp_path, capsys
):
    folders = write_disks(tmp_path, values, number=4)
    arguments = ["train", *folders, "--classes", classes, *FAST]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 1
    printed = capsys.readouterr()
    assert "cannot be used for training" in printed.err
    assert "void_labels" not in printed.out
    assert not (tmp_path / "run" / "run.json").exists()
    for word in words:
        assert word in printed.out


def encoded(pixels, **options):
    content = io.BytesIO()
    PIL.Image.fromarray(pixels).save(content, "PNG", **options)
    return content.getvalue()


def orientation(value):
    exif = PIL.Image.Exif()
    exif[0x0112] = value
    return exif


def test_check_lists_ten_faults(tmp_path, capsys):
    folders = write_disks(tmp_path, (0, 1), number=12, size=(32, 48))
    images, masks = tmp_path / "images", tmp_path / "masks"
    image, disk = draw(0, (32, 48))
    mask = disk.astype("uint8")
    (masks / "00.png").unlink()
    (images / "01.png").unlink()
    (images / "02.png").write_bytes(b"GIF89a?")
    whole = (masks / "03.png").read_bytes()
    (masks / "03.png").write_bytes(whole[: len(whole) // 2])
    deep = tf.io.encode_png(image.astype("uint16") * 257).numpy()
    (images / "04.png").write_bytes(deep)
    deep = tf.io.encode_png(mask[..., None] * np.uint16(300)).numpy()
    (masks / "05.png").write_bytes(deep)
    (masks / "06.png").write_bytes(encoded(mask[:-1]))
    (images / "07.png").write_bytes(encoded(image, exif=orientation(6)))
    (masks / "08.png").write_bytes(encoded(mask * 7))
    (masks / "09.png").write_bytes(encoded(image))
    arguments = ["check", *folders, "--classes", "ground,disk,boat"]
    assert main(arguments) == 1
    printed = capsys.readouterr().out
    for words in (
        "images without mask: 1 (00)",
        "masks without image: 1 (01)",
        "images/02.png: The file cannot be read",
        "masks/03.png: The file cannot be read",
        "images/04.png: The image has more than 8 bits per channel, so "
        "--value-range must",
        "masks/05.png: The labels of the mask must be whole numbers in 0..255",
        "images/06.png: Image and mask must have the same size",
        "The image is rotated by its EXIF orientation, 6, but the mask is not",
        "label 7, neither class nor void",
        "masks/09.png: The mask has colors",
        "2 (boat)",
    ):
        assert words in printed, words
    # The report counts the two remaining examples.
    assert "NOT OK: 2 examples" in printed


@pytest.mark.slow
def test_deep_images_need_a_range_and_keep_it(tiny_models, tmp_path, capsys):
    folders = write_disks(tmp_path, (0, 1), number=4)
    shutil.copytree(tmp_path / "images", tmp_path / "bytes")
    deepen(tmp_path / "images")
    run = tmp_path / "run"
    arguments = ["train", *folders, "--classes", "2", *FAST, "--epochs", "1"]
    arguments += ["--output", str(run)]
    assert main(arguments) == 1
    printed = capsys.readouterr().out
    assert "--value-range must say which values become 0 and 255" in printed
    assert "values from 640 to 3200" in printed
    assert main([*arguments, "--value-range", "0,4080"]) == 0
    printed = capsys.readouterr().out
    assert "Image values: 0 to 4080, scaled to 0 to 255" in printed
    assert runs.read(run).value_range == [0.0, 4080.0]
    name = "02.png"
    for kind, options in (
        ("images", []),
        ("bytes", ["--value-range", "0,255"]),
    ):
        arguments = ["predict", str(run), str(tmp_path / kind / name)]
        arguments += ["--output", str(tmp_path / f"{kind}_out"), *options]
        assert main(arguments) == 0
    for name in ("02_mask.png", "02_overlay.png"):
        deep = (tmp_path / "images_out" / name).read_bytes()
        assert deep == (tmp_path / "bytes_out" / name).read_bytes()
    # With the range of 12 bits, an 8-bit image would be black.
    arguments = ["predict", str(run), str(tmp_path / "bytes" / "02.png")]
    assert main([*arguments, "--output", str(tmp_path / "o")]) == 1
    assert "--value-range" in last_error(capsys)


@pytest.mark.parametrize("value", range(1, 9))
def test_predict_turns_photos_as_viewers_do(value, tmp_path):
    model = tiny_model((32, 48, 3), 3)
    model.save(tmp_path / "model.keras")
    image, _ = draw(1, (64, 96))
    image[:8] = 10, 250, 10
    path = tmp_path / "turned.png"
    path.write_bytes(encoded(image, exif=orientation(value)))
    with PIL.Image.open(path) as opened:
        seen = np.asarray(PIL.ImageOps.exif_transpose(opened))
    (tmp_path / "upright.png").write_bytes(encoded(seen))
    arguments = ["predict", str(tmp_path / "model.keras")]
    arguments += [str(path), str(tmp_path / "upright.png")]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    for kind in ("mask", "overlay"):
        with PIL.Image.open(tmp_path / "out" / f"turned_{kind}.png") as found:
            assert found.size == (seen.shape[1], seen.shape[0])
        turned = (tmp_path / "out" / f"turned_{kind}.png").read_bytes()
        upright = (tmp_path / "out" / f"upright_{kind}.png").read_bytes()
        assert turned == upright


@pytest.mark.slow
@pytest.mark.release
def test_files_without_partner_can_be_skipped(tiny_models, tmp_path, capsys):
    folders = write_disks(tmp_path, (0, 1), number=6)
    (tmp_path / "masks" / "05.png").unlink()
    arguments = ["train", *folders, "--classes", "2", *FAST, "--epochs", "1"]
    arguments += ["--output", str(tmp_path / "run")]
    assert main(arguments) == 1
    assert "--unmatched" in last_error(capsys)
    assert main([*arguments, "--unmatched", "skip"]) == 0
    printed = capsys.readouterr().out
    assert "Training on 4 images" in printed
    assert printed.count("images without mask: 1 (05)") == 1


@pytest.mark.slow
def test_a_full_disk_is_said(disks, tiny_models, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    arguments = ["train", *disks, "--foreground", "255", *FAST]
    arguments += ["--epochs", "2", "--output", str(run)]
    save = keras.Model.save_weights
    num_saved = []

    def fail(model, path, *options, **named):
        num_saved.append(path)
        if len(num_saved) == 2:
            # HDF5 puts the number and the text of the error in a sentence.
            raise OSError(
                f"Can't write data (errno = 28, error message = "
                f"'{os.strerror(errno.ENOSPC)}')"
            )
        return save(model, path, *options, **named)

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "save_weights", fail)
        assert main(arguments) == 1
    error = last_error(capsys)
    assert error.startswith(
        f"error: The disk is full: '{run}/.resume/backup-2.weights.h5' could "
        f"not be written. {run} keeps the files that were already written "
        "(model.keras, history.csv, per_class.csv, .resume)."
    )
    assert "repeat the command to resume" in error
    assert main(arguments) == 0
    assert "Resuming at epoch 2 of 2." in capsys.readouterr().out


def test_other_errors_of_the_disk_are_not_taken_for_a_full_one(tmp_path):
    with pytest.raises(PermissionError):
        with _files.replaced(tmp_path / "x"):
            raise PermissionError(errno.EACCES, "no")


def test_predict_says_which_files_of_a_folder_it_leaves_out(tmp_path, capsys):
    tiny_model((32, 32, 3), 3).save(tmp_path / "model.keras")
    write_disks(tmp_path, (0, 1), number=1)
    for name in ("b.dng", "notes.txt", ".hidden.png"):
        (tmp_path / "images" / name).write_bytes(b"")
    arguments = ["predict", str(tmp_path / "model.keras")]
    arguments += [str(tmp_path / "images"), "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert (
        f"warning: Skipped 2 files in {tmp_path}/images without a suffix of an "
        "image (.png, .jpg, .jpeg, .jfif, .bmp, .gif, .webp, .tif, .tiff): "
        "b.dng, notes.txt\n"
    ) in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "check", "predict"])
def test_a_range_that_is_too_narrow_is_said(
    command, tiny_models, tmp_path, capsys
):
    folders = write_disks(tmp_path, (0, 1), number=2)
    given = [*folders, "--classes", "2", "--value-range", "0,1"]
    if command == "predict":
        tiny_model((32, 32, 3), 3).save(tmp_path / "model.keras")
        given = [str(tmp_path / "model.keras"), folders[1], *given[-2:]]
    if command != "check":
        given += ["--output", str(tmp_path / "out")]
    assert main([command, *given]) == 1
    printed = "".join(capsys.readouterr())
    assert "00.png" in printed
    assert ": --value-range is too narrow for the image" in printed
    assert "such as --value-range 0,255." in printed


@pytest.mark.slow
def test_weights_that_cannot_be_downloaded_are_said(
    tmp_path, capsys, monkeypatch
):
    networks.make_slim(monkeypatch)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(_network, "unreachable_hosts", lambda urls: ["a.host"])
    folders = write_disks(tmp_path, (0, 1), number=2)
    arguments = ["train", *folders, "--classes", "2", *FAST]
    arguments += ["--model", "segnet", "--encoder-weights", "imagenet"]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 1
    error = last_error(capsys)
    assert error.startswith("error: --encoder-weights must be None, 'imagenet'")
    assert error.endswith("there is no connection to a.host")


@pytest.mark.slow
def test_colors_are_classes(tiny_models, tmp_path, capsys):
    folders = write_disks(tmp_path, (0, 1), number=4)
    colors = np.uint8([[70, 130, 180], [0, 0, 0], [255, 255, 255]])
    for path in (tmp_path / "masks").iterdir():
        mask = tf.io.decode_png(path.read_bytes())[..., 0].numpy()
        mask[0, 0] = 2
        path.write_bytes(encoded(colors[mask]))
    classes = [*folders, "--classes", "ground,disk"]
    assert main(["check", *classes]) == 1
    assert "--palette must say what they mean" in capsys.readouterr().out
    arguments = [*classes, "--palette", "4682B4,000000"]
    assert main(["check", *arguments]) == 1
    assert "only the colors of --palette and --void-colors" in (
        capsys.readouterr().out
    )
    arguments += ["--void-colors", "ffffff"]
    assert main(["check", *arguments]) == 0
    run = tmp_path / "run"
    training = ["train", *arguments, *FAST, "--epochs", "1"]
    training += ["--output", str(run)]
    assert main(training) == 0
    printed = capsys.readouterr().out
    assert "Colors in the masks: 4682b4 ground, 000000 disk, ffffff void\n" in (
        printed
    )
    assert "Values in the masks" not in printed
    # The run stores the colors for its images and for the evaluation.
    assert runs.read(run).palette == [[70, 130, 180], [0, 0, 0]]
    assert main(training) == 0
    assert "is finished" in capsys.readouterr().out
    assert main(["evaluate", str(run)]) == 0
    assert re.search("^disk +[0-9]", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.slow
def test_no_option_of_a_training_is_repeated(tiny_models, tmp_path, capsys):
    """Gray images of 12 bits, and color masks with a suffix."""
    colors = np.uint8([[70, 130, 180], [0, 0, 0], [255, 255, 255]])
    for part, first in (("train", 0), ("test", 4)):
        for number in range(first, first + 4):
            image, disk = draw(number)
            deep = tf.io.encode_png(np.uint16(image[..., :1]) * 16).numpy()
            mask = np.uint8(disk)
            mask[0, 0] = 2
            for kind, name, content in (
                ("images", f"{number}.png", deep),
                ("masks", f"{number}_mask.png", encoded(colors[mask])),
            ):
                path = tmp_path / part / kind / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    def folders(part):
        place = tmp_path / part
        return ["--images", f"{place}/images", "--masks", f"{place}/masks"]

    run = tmp_path / "run"
    given = ["--classes", "ground,disk", "--palette", "4682b4,000000"]
    given += ["--void-colors", "ffffff", "--mask-suffix", "_mask"]
    given += ["--channels", "1", "--value-range", "0,4080"]
    arguments = ["train", *folders("train"), *given, *FAST, "--epochs", "1"]
    assert main([*arguments, "--output", str(run)]) == 0

    def scores(*arguments):
        written = tmp_path / "scores.json"
        command = ["evaluate", str(run), "--json", str(written), *arguments]
        assert main(command) == 0
        return json.loads(written.read_text())

    capsys.readouterr()
    of_test = scores(*folders("test"))
    printed = capsys.readouterr().out
    assert "masks are read with the mask options of the training." in printed
    assert "0 to 4080, scaled to 0 to 255" in printed
    assert of_test == scores(*folders("test"), *given)

    # With --at and --flip, evaluate compares the masks that predict writes.
    out = tmp_path / "out"
    view = ["--at", "original", "--flip"]
    arguments = ["predict", str(run), f"{tmp_path}/test/images", *view]
    assert main([*arguments, "--output", str(out)]) == 0
    found = inference.predict(
        run, tmp_path / "test" / "images", image_size="original", flip=True
    )
    correct, number = 0, 0
    for path, _, mask in found:
        written = tf.io.decode_png((out / f"{path.stem}_mask.png").read_bytes())
        np.testing.assert_array_equal(written[..., 0], mask)
        color = tf.io.decode_png((out / f"{path.stem}_color.png").read_bytes())
        np.testing.assert_array_equal(color, colors[mask])
        counted = np.ones((32, 32), bool)
        counted[0, 0] = False
        correct += ((mask == draw(int(path.stem))[1]) & counted).sum()
        number += counted.sum()
    accuracy = scores(*folders("test"), *view)["global_accuracy"]
    np.testing.assert_allclose(accuracy, correct / number, atol=1e-6)


@pytest.mark.slow
def test_folders_hold_the_classes_of_a_model_from_elsewhere(tmp_path, capsys):
    folders = write_disks(tmp_path, (0, 1), number=2)
    tiny_model((32, 32, 3), 2).save(tmp_path / "model.keras")
    command = ["evaluate", str(tmp_path / "model.keras"), *folders]
    assert main(command) == 0
    assert (
        "Values in the masks: 0 class_0, 1 class_1 (assumed; change it with "
        "--classes, --labels or --label-map)\n"
    ) in capsys.readouterr().out
