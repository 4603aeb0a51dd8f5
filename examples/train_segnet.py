"""Train, evaluate and save a SegNet, and draw its predictions.

    python examples/train_segnet.py

The script draws a dataset of street scenes and trains SegNet-Basic on it.
This takes one to six minutes on two CPU cores and reaches a test mIoU of
about 0.8. The results are written to the folder runs/: model.keras,
saved_model/, predictions.png and images/. The command `keras-deconv train`
does the same, with more options.
"""

# ruff: noqa: E402
import argparse
from pathlib import Path

from keras_deconv_cli import startup

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--data-dir", help="folder of prepared datasets")
parser.add_argument("--epochs", default=6, type=int)
parser.add_argument("--output", default="runs", type=Path)
parser.add_argument("--smoke", action="store_true", help="use few images")
options = parser.parse_args()

# The training split of the dataset has 400 scenes.
num_scenes = 16 if options.smoke else 400
epochs = 1 if options.smoke else options.epochs
print(
    f"Training SegNet-Basic on {num_scenes} scenes for {epochs} "
    f"epoch{'' if epochs == 1 else 's'}. Results go to {options.output}/.",
    flush=True,
)

# Optional: hides the messages that TensorFlow logs when it is imported.
startup.import_tensorflow()

import keras
import tensorflow as tf

from keras_deconv import callbacks, data, losses, metrics, models, visualize

IMAGE_SIZE = (48, 64)
SEED = 0

options.output.mkdir(parents=True, exist_ok=True)
keras.utils.set_random_seed(SEED)

# Data: batches of images in 0..255 and masks of class ids; 255 is void.
epoch = tf.Variable(0, dtype="int64", trainable=False)
splits = ["train", "validation", "test"]
train, validation, test = data.load(
    "scenes",
    [f"{split}[:{num_scenes}]" for split in splits]
    if options.smoke
    else splits,
    image_size=IMAGE_SIZE,
    batch_size=8,
    data_dir=options.data_dir,
    seed=SEED,
    epoch=epoch,
)
scenes = data.describe("scenes")
num_classes = scenes.num_classes

# Model: jit_compile stays "auto", so that Keras uses XLA on a GPU.
model = models.SegNetBasic((*IMAGE_SIZE, 3), num_classes)
model.compile(
    keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(2e-3, epochs * len(train))
    ),
    losses.SegmentationCrossentropy(),
    metrics=[metrics.GlobalAccuracy(num_classes), metrics.MeanIoU(num_classes)],
)

# Training: deterministic; the last epoch prints the scores of each class.
model.fit(
    train,
    validation_data=validation,
    epochs=epochs,
    shuffle=False,
    callbacks=[
        callbacks.EpochSeed(SEED, epoch),
        callbacks.PerClassReport(scenes.class_names, every=epochs),
    ],
)
scores = model.evaluate(test, verbose=0, return_dict=True)
print(f"\nTest: mIoU {scores['mean_iou']:.3f}")

# Results: files for Keras and TensorFlow Serving, a figure, and the images of
# the figure.
output = options.output
model.save(output / "model.keras")
model.export(output / "saved_model", verbose=False)
images, masks = next(iter(test.unbatch().batch(4)))
figure = visualize.draw_predictions(
    images.numpy(),
    model.predict(images, verbose=0),
    masks.numpy(),
    class_names=scenes.class_names,
    palette=scenes.palette,
)
figure.savefig(output / "predictions.png")
(output / "images").mkdir(exist_ok=True)
for number, image in enumerate(images):
    path = output / "images" / f"{number}.png"
    keras.utils.save_img(path, image, data_format="channels_last", scale=False)
data_dir = f" --data-dir {options.data_dir}" if options.data_dir else ""
print(f"""
Results:
  {output / "predictions.png"}: four test images, their masks and predictions
  {output / "images"}: these images as files
  {output / "model.keras"}: the model for Keras
  {output / "saved_model"}: the model for TensorFlow Serving

Next steps: score the model per class, label images with it, and train on your
own images and masks.
  keras-deconv evaluate {output / "model.keras"} scenes{data_dir}
  keras-deconv predict {output / "model.keras"} {output / "images"} \\
      --output {output / "labeled"}
  keras-deconv train --images photos --masks labels --classes sky,road,car""")
