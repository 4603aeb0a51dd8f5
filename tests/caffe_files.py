"""Files of Caffe, written by the protobuf library for tests."""

import functools

import numpy as np
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

CHANNELS = 3
NUM_CLASSES = 5

FIELD = descriptor_pb2.FieldDescriptorProto
# Name, number, type and repetition of the fields of each message.
MESSAGES = {
    "BlobShape": [("dim", 1, FIELD.TYPE_INT64, True)],
    "BlobProto": [
        ("num", 1, FIELD.TYPE_INT32, False),
        ("channels", 2, FIELD.TYPE_INT32, False),
        ("height", 3, FIELD.TYPE_INT32, False),
        ("width", 4, FIELD.TYPE_INT32, False),
        ("data", 5, FIELD.TYPE_FLOAT, True),
        ("diff", 6, FIELD.TYPE_FLOAT, True),
        ("shape", 7, "BlobShape", False),
    ],
    "LayerParameter": [
        ("name", 1, FIELD.TYPE_STRING, False),
        ("type", 2, FIELD.TYPE_STRING, False),
        ("bottom", 3, FIELD.TYPE_STRING, True),
        ("top", 4, FIELD.TYPE_STRING, True),
        ("loss_weight", 5, FIELD.TYPE_FLOAT, True),
        ("blobs", 7, "BlobProto", True),
    ],
    "V1LayerParameter": [
        ("bottom", 2, FIELD.TYPE_STRING, True),
        ("top", 3, FIELD.TYPE_STRING, True),
        ("name", 4, FIELD.TYPE_STRING, False),
        ("type", 5, FIELD.TYPE_INT32, False),
        ("blobs", 6, "BlobProto", True),
    ],
    "NetParameter": [
        ("name", 1, FIELD.TYPE_STRING, False),
        ("layers", 2, "V1LayerParameter", True),
        ("input", 3, FIELD.TYPE_STRING, True),
        ("force_backward", 5, FIELD.TYPE_BOOL, False),
        ("layer", 100, "LayerParameter", True),
    ],
}


@functools.cache
def message_class(name, packed=True):
    """A message class of caffe.proto, with packed lists or not."""
    package = f"caffe_{packed}".lower()
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package
    )
    for message, fields in MESSAGES.items():
        descriptor = file.message_type.add(name=message)
        for field, number, kind, is_repeated in fields:
            is_message = isinstance(kind, str)
            added = descriptor.field.add(
                name=field,
                number=number,
                type=FIELD.TYPE_MESSAGE if is_message else kind,
                label=FIELD.LABEL_REPEATED
                if is_repeated
                else FIELD.LABEL_OPTIONAL,
            )
            if is_message:
                added.type_name = f".{package}.{kind}"
            elif is_repeated and kind != FIELD.TYPE_STRING:
                added.options.packed = packed
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    descriptor = pool.FindMessageTypeByName(f"{package}.{name}")
    return message_factory.GetMessageClass(descriptor)


def message(params, old=False, packed=True, diff=False):
    """A network of layers with these arrays, and further layers without arrays.

    Args:
        params: Arrays of each layer by its name.
        old: Whether layers and sizes have the format of old versions of Caffe.
        packed: Whether lists of numbers are packed.
        diff: Whether gradients are included, as in a snapshot.
    """
    net = message_class("NetParameter", packed)(name="net", force_backward=True)
    layers = net.layers if old else net.layer
    layers.add(name="data", top=["data", "label"])
    layers.add(name="data")  # for the other phase
    for name, arrays in params.items():
        layer = layers.add(name=name, bottom=["x"], top=[name])
        layer.type = 4 if old else "Convolution"
        for array in arrays:
            blob = layer.blobs.add(data=array.ravel())
            if diff:
                blob.diff.extend(array.ravel())
            if old:
                sizes = (1, 1, 1, *array.shape)[-4:]
                blob.num, blob.channels, blob.height, blob.width = sizes
            else:
                blob.shape.dim.extend(array.shape)
    layers.add(name="loss", bottom=["x", "label"])
    return net


def write(path, params, **options):
    path.write_bytes(message(params, **options).SerializeToString())
    return path


def conv_params(rng, filters, channels, size):
    kernel = rng.normal(size=(filters, channels, size, size))
    kernel *= np.sqrt(2 / (channels * size**2))
    return [np.float32(kernel), np.float32(rng.normal(size=filters))]


def norm_params(rng, filters):
    """A scale and a shift, in the shape of the authors' layer."""
    return list(np.float32(rng.uniform(0.5, 1.5, (2, 1, filters, 1, 1))))


def basic_params(
    rng, filters=(64,) * 4, kernel_size=7, num_classes=NUM_CLASSES
):
    """Random arrays, named as in segnet_basic_train.prototxt."""
    params, channels = {}, CHANNELS
    for n, num in enumerate(filters, 1):
        params[f"conv{n}"] = conv_params(rng, num, channels, kernel_size)
        params[f"conv{n}_bn"] = norm_params(rng, num)
        channels = num
    for n in range(len(filters), 0, -1):
        num = filters[max(n - 2, 0)]
        params[f"conv_decode{n}"] = conv_params(rng, num, channels, kernel_size)
        params[f"conv_decode{n}_bn"] = norm_params(rng, num)
        channels = num
    params["conv_classifier"] = conv_params(rng, num_classes, channels, 1)
    return params
