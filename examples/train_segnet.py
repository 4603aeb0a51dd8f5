"""Train a SegNet, measure it, save it, and look at what it predicts.

    python examples/train_segnet.py

draws a data set of street scenes, trains SegNet-Basic on it (one to three
minutes on two CPU cores, test mIoU about 0.8) and writes into runs/:
model.keras, saved_model/ and predictions.png. With real pictures:

    python examples/train_segnet.py --dataset cam_vid --manual-dir CamVid \
        --image-size 360x480 --epochs 100 --batch-size 4

Ctrl-C stops the training and saves what has been learned so far.
"""

import argparse
import math
import os
import re
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import matplotlib as mpl
import numpy as np
import tensorflow as tf

from keras_deconv import blocks, data, losses, metrics, models

mpl.use("agg")
import matplotlib.pyplot as plt

MODELS = {
    "segnet_basic": models.SegNetBasic,
    "segnet": models.SegNet,
    "bayesian_segnet_basic": models.BayesianSegNetBasic,
    "bayesian_segnet": models.BayesianSegNet,
    "deconvnet": models.DeconvNet,
    "enet": models.ENet,
}
NUM_PICTURES = 4

# Runs in a process of its own, without keras_deconv: what a server would do.
SERVE = """
import sys
import numpy as np
import tensorflow as tf
folder, images, predictions = sys.argv[1:]
model = tf.saved_model.load(folder)
np.save(predictions, model.serve(np.load(images)))
if "keras_deconv" in sys.modules:
    sys.exit("the SavedModel needed keras_deconv")
"""


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--dataset", default="scenes", help="scenes, cam_vid, oxford_iiit_pet")
    add("--data-dir", help="where tfds keeps prepared data sets")
    add("--manual-dir", help="folder with archives or pictures of your own")
    add("--model", default="segnet_basic", choices=MODELS)
    add("--decoder", default="max_unpool", choices=blocks.DECODERS)
    add("--image-size", default="48x64", type=size, metavar="HEIGHTxWIDTH")
    add("--epochs", default=6, type=positive_int)
    add("--batch-size", default=8, type=positive_int)
    add("--learning-rate", default=2e-3, type=rate, help="Adam's, at first")
    add("--mixed-precision", choices=["float16", "bfloat16"])
    add("--seed", default=0, type=natural_number)
    add("--output", default="runs", type=Path, help="folder for the results")
    add("--smoke", action="store_true", help="a few images, in seconds")
    return parser.parse_args(arguments)


def size(text):
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be HEIGHTxWIDTH in pixels, such as 180x240"
        )
    return int(match[1]), int(match[2])


def natural_number(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} must be an integer >= 0")
    return int(text)


def positive_int(text):
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be an integer >= 1")
    return int(text)


def rate(text):
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0")
    return value


def load_data(options):
    """Training, validation (or None) and test batches, and their meaning."""
    where = dict(data_dir=options.data_dir, manual_dir=options.manual_dir)
    available = data.splits(options.dataset, **where)
    test = "test" if "test" in available else "validation"
    if test not in available or "train" not in available:
        raise ValueError(
            f"{options.dataset} needs a split to train on and one to measure "
            f"on (test or validation); there are: {', '.join(available)}"
        )
    if test != "test":
        print("There is no test split: measuring on the validation split.")

    def load(split, limit):
        return data.load(
            options.dataset,
            f"{split}[:{limit}]" if options.smoke else split,
            image_size=options.image_size,
            batch_size=options.batch_size,
            seed=options.seed,
            **where,
        )

    validation = load("validation", 8) if "validation" in available else None
    description = data.describe(options.dataset)
    return load("train", 16), validation, load(test, 8), description


def build_model(options, description, num_steps):
    if options.mixed_precision:
        policy = f"mixed_{options.mixed_precision}"
        keras.config.set_dtype_policy(policy)
    num_classes = description.num_classes
    model = MODELS[options.model](
        (*options.image_size, 3), num_classes, decoder=options.decoder
    )
    decay = keras.optimizers.schedules.CosineDecay(
        options.learning_rate, num_steps
    )
    scores = [
        metrics.GlobalAccuracy(num_classes),
        metrics.ClassAccuracy(num_classes),
        metrics.MeanIoU(num_classes),
    ]
    # jit_compile stays "auto": with a GPU Keras compiles with XLA.
    model.compile(
        keras.optimizers.Adam(decay),
        losses.SegmentationCrossentropy(),
        metrics=scores,
    )
    return model, scores


def say_device():
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        print(f"Training on {len(gpus)} GPU: {details.get('device_name')}")
    else:
        print(f"Training on the CPU ({os.cpu_count()} cores), no GPU found.")


def report(model, test, scores, description):
    """Print the scores of the test split, in all and class by class."""
    results = model.evaluate(test, verbose=0, return_dict=True)
    print(f"\n{'class':<16}{'accuracy':>10}{'IoU':>10}")
    _, accuracy, iou = scores
    for name, a, i in zip(
        description.class_names,
        np.asarray(accuracy.per_class()),
        np.asarray(iou.per_class()),
        strict=True,
    ):
        print(f"{name:<16}{a:>10.3f}{i:>10.3f}")
    print(
        f"\nglobal accuracy {results['global_accuracy']:.3f}   "
        f"class accuracy {results['class_accuracy']:.3f}   "
        f"mIoU {results['mean_iou']:.3f}   loss {results['loss']:.3f}"
    )


def make_output_folder(folder):
    """Find out before training whether the results can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / "probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"--output must be a folder that can be written to: {error}"
        ) from error
    for name, is_right in (
        ("model.keras", Path.is_file),
        ("saved_model", Path.is_dir),
        ("predictions.png", Path.is_file),
    ):
        if (folder / name).exists() and not is_right(folder / name):
            raise ValueError(
                f"--output holds {folder / name}, which is in the way of a "
                "result of this name: move it, or give another folder"
            )


def save(model, options):
    path = options.output / "model.keras"
    model.save(path)
    model.export(options.output / "saved_model", verbose=False)
    print(f"Saved {path} and {options.output / 'saved_model'}")


def check_saved_model(model, images, options):
    """Predict with the SavedModel in a process without keras_deconv."""
    folder = options.output
    sent, received = folder / "images.npy", folder / "logits.npy"
    np.save(sent, images)
    command = [sys.executable, "-c", SERVE, folder / "saved_model"]
    subprocess.run([*command, sent, received], check=True)
    served, logits = np.load(received), model.predict(images, verbose=0)
    sent.unlink()
    received.unlink()
    tolerance = 0.1 if options.mixed_precision else 1e-3
    np.testing.assert_allclose(served, logits, rtol=0, atol=tolerance)
    difference = np.abs(served - logits).max()
    print(
        "The SavedModel predicts the same in a process without keras_deconv "
        f"(largest difference of a logit: {difference:.1e})"
    )


def draw(model, images, masks, description, path):
    """Image, truth and prediction side by side, with a legend."""
    void = np.array([[255, 255, 255]])
    colours = np.vstack([description.palette, void]).astype("uint8")

    def paint(mask):
        return colours[np.minimum(mask, description.num_classes)]

    predicted = model.predict(images, verbose=0).argmax(-1)
    columns = {
        "image": images.astype("uint8"),
        "truth": paint(masks),
        "prediction": paint(predicted),
    }
    height, width = images.shape[1:3]
    figure, axes = plt.subplots(
        len(images),
        3,
        figsize=(9, 3 * len(images) * height / width + 1),
        squeeze=False,
        layout="constrained",
    )
    for column, (title, pictures) in enumerate(columns.items()):
        axes[0, column].set_title(title)
        for axis, picture in zip(axes[:, column], pictures, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_axis_off()
    names = (*description.class_names, "void")
    figure.legend(
        handles=[
            mpl.patches.Patch(
                facecolor=colour / 255, edgecolor="grey", label=name
            )
            for colour, name in zip(colours, names, strict=True)
        ],
        loc="outside lower center",
        ncols=len(names) if len(names) < 8 else math.ceil(len(names) / 2),
        frameon=False,
    )
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"Drew {path}")


def run(options):
    if keras.backend.backend() != "tensorflow":
        raise ValueError("a SavedModel needs KERAS_BACKEND=tensorflow")
    make_output_folder(options.output)
    keras.utils.set_random_seed(options.seed)
    train, validation, test, description = load_data(options)
    epochs = 1 if options.smoke else options.epochs
    model, scores = build_model(options, description, epochs * len(train))
    say_device()
    try:
        model.fit(
            train,
            validation_data=validation,
            epochs=epochs,
            shuffle=False,
            callbacks=[keras.callbacks.TerminateOnNaN()],
        )
    except KeyboardInterrupt:
        print("\nStopped: saving what has been learned so far.")
    save(model, options)
    report(model, test, scores, description)
    images, masks = next(iter(test))
    images, masks = images[:NUM_PICTURES].numpy(), masks[:NUM_PICTURES].numpy()
    check_saved_model(model, images, options)
    path = options.output / "predictions.png"
    draw(model, images, masks, description, path)


def main():
    options = parse_arguments()
    try:
        run(options)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except tf.errors.OpError as error:
        # Raised while reading: the text names the example.
        sys.exit(f"error: {error.message}")


if __name__ == "__main__":
    main()
