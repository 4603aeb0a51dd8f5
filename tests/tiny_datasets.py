"""Tiny datasets that tests write, instead of files in the repository."""

import contextlib
import io
import tarfile

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

# Label and color of the stripes that `write_pet_archives` draws, from left to
# right.
PET_STRIPES = ((1, (200, 40, 40)), (3, (40, 200, 40)), (2, (40, 40, 200)))


def write_png(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tf.io.encode_png(pixels).numpy())


def write_camvid(folder, num_pairs=None, size=(12, 16)):
    """Write images and masks in the layout of the SegNet tutorial.

    Column c of every mask has the label c % 12. Every pixel of an image is ten
    times its label, plus the number of the pair.
    """
    for split, count in (num_pairs or {"train": 3, "val": 2}).items():
        for number in range(count):
            labels = np.zeros((*size, 1), np.uint8)
            labels[:] = (np.arange(size[1]) % 12)[:, None]
            image = np.repeat(10 * labels + number, 3, axis=-1)
            name = f"{split}_{number}.png"
            write_png(folder / split / name, image)
            write_png(folder / f"{split}annot" / name, labels)


def write_pet_archives(folder, num_train=3, num_test=2, size=(30, 60)):
    """Write archives of oxford_iiit_pet with three stripes per image."""
    height, width = size
    stripe = np.arange(width) * len(PET_STRIPES) // width
    labels = np.uint8([label for label, _ in PET_STRIPES])
    colors = np.uint8([color for _, color in PET_STRIPES])
    image = np.broadcast_to(colors[stripe], (height, width, 3))
    mask = np.broadcast_to(labels[stripe][:, None], (height, width, 1))
    train = [f"Birman_{number}" for number in range(num_train)]
    test = [f"beagle_{number}" for number in range(num_test)]
    images, annotations = {}, {}
    for name in train + test:
        jpeg = tf.io.encode_jpeg(
            image, quality=100, chroma_downsampling=False
        ).numpy()
        images[f"images/{name}.jpg"] = jpeg
        annotations[f"annotations/trimaps/{name}.png"] = tf.io.encode_png(
            mask
        ).numpy()
    for list_name, names in (("trainval", train), ("test", test)):
        lines = "".join(f"{name} 1 1 1\n" for name in names)
        annotations[f"annotations/{list_name}.txt"] = lines.encode()
    folder.mkdir(parents=True, exist_ok=True)
    _write_tar(folder / "images.tar.gz", images)
    _write_tar(folder / "annotations.tar.gz", annotations)


@contextlib.contextmanager
def mock_pets(num_examples=5):
    """Make tfds return a mock of oxford_iiit_pet with labels that exist.

    By default, the mock draws labels in 0..255.
    """

    def as_dataset(self, split, **_):
        keys = {"image", "segmentation_mask"}
        specs = {
            key: tf.TensorSpec(info.shape, info.np_dtype)
            for key, info in self.info.features.get_tensor_info().items()
            if key in keys
        }
        example = {
            "image": np.zeros((7, 9, 3), np.uint8),
            "segmentation_mask": np.full((7, 9, 1), 3, np.uint8),
        }
        return tf.data.Dataset.from_generator(
            lambda: [example] * num_examples, output_signature=specs
        ).apply(tf.data.experimental.assert_cardinality(num_examples))

    with tfds.testing.mock_data(as_dataset_fn=as_dataset):
        yield


def _write_tar(path, files):
    # Uncompressed in spite of its name, like the original archive.
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
