"""Train a network on CamVid and score it, as Table 1 of the SegNet paper does.

    python benchmarks/camvid.py --manual-dir CAMVID --network segnet_basic
    python benchmarks/camvid.py --manual-dir CAMVID --pack camvid.npz
    KERAS_BACKEND=jax python benchmarks/camvid.py --data camvid.npz

Each command measures one row. It trains on 367 images with 11 classes; void
pixels do not count. It takes the epoch with the best global accuracy on the
validation split, and recomputes the batch statistics. The scores are those of
the test split, or of the validation split if there is no test split. To resume
a command that was stopped or killed, repeat it. See benchmarks/README.md.
"""

import argparse
import contextlib
import fcntl
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

# Files beside this one: scripts find what lies in their own folder.
from measuring import (
    about,
    image_size,
    positive_int,
    write_json,
)
from training import (
    RECIPES,
    SCHEDULES,
    SPLITS,
    Arrays,
    Batches,
    compile_for_training,
    measure,
    pack,
    read_tfds,
    recompute_statistics,
    size_of,
    unpack,
)

from keras_deconv import callbacks, distribution

NAME = "cam_vid"
DECODERS = ("max_unpool", "bed_of_nails", "nearest", "conv_transpose")
CLASS_WEIGHTS = ("median", "segnet", "enet", "none")
DTYPE_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
# The options that decide a row. Its command repeats them. None stands for the
# value of the recipe.
DECISIVE = (
    *("network", "decoder", "image_size", "epochs", "batch_size"),
    *("learning_rate", "schedule", "class_weights", "l2", "augment", "seed"),
    "dtype_policy",
)
SCORE = "val_global_accuracy"
SHORT = dict(
    global_accuracy="G",
    class_accuracy="C",
    mean_iou="mIoU",
    boundary_f1="BF",
)


def train(options: argparse.Namespace, arrays: Arrays) -> keras.Model:
    """Return the trained model; read it if its training is complete."""
    file = options.output / "model.keras"
    if file.exists():
        print(f"{file} is trained.")
        return keras.saving.load_model(file, compile=False)
    keras.utils.set_random_seed(options.seed)
    model = build(options, arrays)
    # State to resume from, and the weights of the best epoch. Each file is
    # written whole or not at all, even if the process is killed.
    last = distribution.EpochBackup(
        distribution.Replicas(), options.output / "last"
    )
    best = distribution.EpochBackup(
        distribution.Replicas(), options.output / "best"
    )
    num_done = last.restore(model)
    # An epoch that is in the file but not backed up is repeated.
    rows = read_history(options)[:num_done]
    if num_done:
        print(f"Resuming after epoch {num_done} of {options.epochs}.")
    for epoch in range(num_done, options.epochs):
        start = time.perf_counter()
        scores = run_epoch(options, model, arrays, epoch)
        seconds = time.perf_counter() - start
        is_best = scores[SCORE] > max((row[SCORE] for row in rows), default=-1)
        rows.append(dict(epoch=epoch + 1, seconds=seconds, **scores))
        print(describe(rows[-1], options.epochs), flush=True)
        if is_best:
            best.write(model, epoch + 1)
        write_json(history_file(options), rows)
        last.write(model, epoch + 1)
    best.restore(model)
    recompute_statistics(model, arrays, options.batch_size)
    part = options.output / "part.keras"
    model.save(part)
    part.replace(file)
    for backup in (last, best):
        backup.delete()
    return model


def build(options: argparse.Namespace, arrays: Arrays) -> keras.Model:
    images = Batches(
        arrays["train_images"], arrays["train_masks"], options.batch_size
    )
    keras.config.set_dtype_policy(options.dtype_policy)
    model = RECIPES[options.network].build(
        (*options.image_size, 3),
        len(arrays["class_names"]),
        decoder=options.decoder,
    )
    # Only the network, since metrics count in float32.
    keras.config.set_dtype_policy("float32")
    compile_for_training(
        model,
        arrays,
        SCHEDULES[options.schedule](
            options.learning_rate, options.epochs * len(images)
        ),
        options.class_weights,
        options.l2,
    )
    return model


def run_epoch(
    options: argparse.Namespace,
    model: keras.Model,
    arrays: Arrays,
    epoch: int,
) -> dict[str, float]:
    """The scores of an epoch, which depends on its number and the seed."""
    split = "validation"
    history = model.fit(
        Batches(
            arrays["train_images"],
            arrays["train_masks"],
            options.batch_size,
            draw=(options.seed, epoch),
            augment=options.augment,
            workers=options.workers,
        ),
        validation_data=Batches(
            arrays[f"{split}_images"],
            arrays[f"{split}_masks"],
            options.batch_size,
        ),
        initial_epoch=epoch,
        epochs=epoch + 1,
        callbacks=[
            callbacks.EpochSeed(options.seed),
            keras.callbacks.TerminateOnNaN(),
        ],
        shuffle=False,
        verbose=0,
    ).history
    if not math.isfinite(history["loss"][-1]):
        sys.exit(
            f"The loss is not finite in epoch {epoch + 1}. Give a smaller "
            "--learning-rate, and another --output."
        )
    return {name: float(value) for name, [value] in history.items()}


def describe(row: dict[str, Any], num_epochs: int) -> str:
    scores = ", ".join(
        f"{short} {row[f'val_{name}']:.4f}"
        for name, short in SHORT.items()
        if f"val_{name}" in row
    )
    return (
        f"Epoch {row['epoch']}/{num_epochs}: loss {row['loss']:.4f}, "
        f"validation {scores}, {row['seconds']:.0f} s"
    )


def score(
    options: argparse.Namespace, model: keras.Model, arrays: Arrays
) -> dict[str, Any]:
    """The row."""
    split = "test" if "test_images" in arrays else "validation"
    start = time.perf_counter()
    overall, classes = measure(
        model, arrays, split, samples=options.samples, seed=options.seed
    )
    seconds = time.perf_counter() - start
    rows = read_history(options)
    best = max(rows, key=lambda row: row[SCORE])
    return dict(
        command=command(options),
        **decisions(options),
        backend=keras.config.backend(),
        samples=options.samples,
        parameters=sum(
            math.prod(weight.shape) for weight in model.trainable_weights
        ),
        images={
            split: len(arrays[f"{split}_images"])
            for split in SPLITS
            if f"{split}_images" in arrays
        },
        best_epoch=best["epoch"],
        split=split,
        scores=overall,
        classes=classes,
        minutes=sum(row["seconds"] for row in rows) / 60,
        scoring_minutes=seconds / 60,
        about=about(),
        history=rows,
    )


def draw(
    model: keras.Model, arrays: Arrays, split: str, number: int, file: Path
) -> None:
    """Draw the predictions for images spread over the split."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    from keras_deconv import visualize

    images = arrays[f"{split}_images"]
    chosen = np.linspace(0, len(images) - 1, number).astype(int)
    logits = model.predict(images[chosen], batch_size=1, verbose=0)
    height, width = images.shape[1:3]
    figure = Figure(
        figsize=(2 * number, 2.1 * height / width + 0.5), layout="constrained"
    )
    [row] = figure.subplots(1, number, squeeze=False)
    predicted = visualize.color_mask(logits.argmax(-1), arrays["palette"])
    for axes, pixels in zip(row, predicted, strict=True):
        axes.imshow(pixels, interpolation="nearest")
        axes.set(xticks=(), yticks=())
    figure.legend(
        handles=[
            Patch(color=color / 255, label=name)
            for name, color in zip(
                arrays["class_names"], arrays["palette"], strict=True
            )
        ],
        loc="outside lower center",
        ncols=6,
        frameon=False,
        fontsize="small",
    )
    figure.savefig(file, dpi=100)


# The folder of a training


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Prevent two trainings in one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"Another process is training in {folder}.")
        yield


def check_same(options: argparse.Namespace) -> None:
    """Exit if the training in the folder has other options."""
    file = options.output / "options.json"
    # JSON has lists in place of tuples.
    now = json.loads(
        json.dumps(dict(decisions(options), backend=keras.config.backend()))
    )
    if not file.exists():
        write_json(file, now)
        return
    before = json.loads(file.read_text())
    differences = [
        f"{name} was {before.get(name)} and is {value}"
        for name, value in now.items()
        if before.get(name) != value
    ]
    if differences:
        sys.exit(
            f"{options.output} holds a training with other options: "
            f"{'; '.join(differences)}. Give another --output."
        )


def history_file(options: argparse.Namespace) -> Path:
    return options.output / "history.json"


def read_history(options: argparse.Namespace) -> list[dict[str, Any]]:
    file = history_file(options)
    return json.loads(file.read_text()) if file.exists() else []


def decisions(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in DECISIVE}


def command(options: argparse.Namespace) -> str:
    """The command of the row, without where files lie."""
    words = [
        f"KERAS_BACKEND={keras.config.backend()}",
        "python benchmarks/camvid.py",
    ]
    for name in (*DECISIVE, "samples"):
        value = getattr(options, name)
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value is not None and value is not False:
            text = "x".join(map(str, value)) if name == "image_size" else value
            words.append(f"{option} {text}")
    return " ".join(words)


# Options


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    images = parser.add_argument_group("images")
    add = images.add_argument
    add("--data-dir", help="where tfds keeps prepared sets")
    add("--manual-dir", help="folder with CamVid; else it is downloaded")
    add("--pack", type=Path, metavar="FILE", help="write the images and exit")
    add("--data", type=Path, metavar="FILE", help="images that --pack wrote")
    add(
        "--image-size",
        type=image_size,
        help="360x480, or that of the images of --data",
    )
    training = parser.add_argument_group("training")
    add = training.add_argument
    add("--network", default="segnet_basic", choices=RECIPES)
    add("--decoder", default="max_unpool", choices=DECODERS)
    add("--epochs", type=positive_int, help="60; 300 for enet")
    add("--batch-size", type=positive_int, help="4; 10 for enet")
    add("--learning-rate", type=float, help="of Adam: 0.002; 0.0005 for enet")
    add("--schedule", choices=SCHEDULES, help="cosine; steps for enet")
    add("--class-weights", choices=CLASS_WEIGHTS, help="median; enet for enet")
    add("--l2", type=float, help="decay of weights: 0; 0.0002 for enet")
    add("--augment", action="store_true", help="mirror, enlarge and brighten")
    add("--seed", default=1, type=int)
    add("--dtype-policy", default="float32", choices=DTYPE_POLICIES)
    add("--workers", default=1, type=positive_int, help="threads for images")
    results = parser.add_argument_group("results")
    add = results.add_argument
    add("--samples", type=positive_int, help="average this many predictions")
    add("--output", type=Path, help="folder; resumed if it holds a training")
    add("--json", type=Path, metavar="FILE", help="default: OUTPUT/row.json")
    add("--draw", type=Path, metavar="FILE", help="predictions for four images")
    options = parser.parse_args(arguments)
    recipe = RECIPES[options.network]
    for name in DECISIVE:
        if getattr(options, name) is None and name != "image_size":
            setattr(options, name, getattr(recipe, name))
    if options.seed < 0:
        parser.error(
            f"--seed must be an integer >= 0. Received: {options.seed}"
        )
    if options.samples and not options.network.startswith("bayesian"):
        parser.error("--samples needs a network with dropout: bayesian_...")
    return options


def read_images(options: argparse.Namespace) -> Arrays:
    """Return the images, and set the option for their size."""
    if options.data is None:
        options.image_size = options.image_size or (360, 480)
        return read_tfds(
            NAME,
            options.image_size,
            data_dir=options.data_dir,
            manual_dir=options.manual_dir,
        )
    arrays = unpack(options.data)
    size = tuple(size_of(arrays))
    if options.image_size not in (None, size):
        sys.exit(
            f"--image-size must be that of the images in {options.data}, "
            f"{'x'.join(map(str, size))}. Pack them again for another size."
        )
    options.image_size = size
    return arrays


def settle_places(options: argparse.Namespace) -> None:
    height, width = options.image_size
    options.output = options.output or Path(
        "runs/camvid",
        f"{options.network}_{options.decoder}_{height}x{width}",
    )
    name = f"row_{options.samples}_samples" if options.samples else "row"
    options.json = options.json or options.output / f"{name}.json"


def main() -> None:
    options = parse_arguments()
    arrays = read_images(options)
    if options.pack is not None:
        pack(arrays, options.pack)
        print(f"Wrote {options.pack}")
        return
    settle_places(options)
    with alone(options.output):
        check_same(options)
        print(command(options), flush=True)
        model = train(options, arrays)
        row = score(options, model, arrays)
    write_json(options.json, row)
    if options.draw is not None:
        draw(model, arrays, row["split"], 4, options.draw)
    shown = ", ".join(
        f"{short} {row['scores'][name]:.4f}" for name, short in SHORT.items()
    )
    print(f"{row['split']}: {shown}\nWrote {options.json}")


if __name__ == "__main__":
    main()
