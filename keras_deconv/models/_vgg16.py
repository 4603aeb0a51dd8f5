"""Weights of VGG-16, from Keras and from PyTorch."""

import math
import os
import re
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from keras_deconv import _network
from keras_deconv.models import _state_dicts, _weight_files

# Mean color (RGB, 0..255) that VGG-16 expects to be subtracted.
VGG16_MEAN = np.array([123.68, 116.779, 103.939], "float32")
# Mean and standard deviation of RGB in 0..1, as used by torchvision.
TORCH_MEAN = np.array([0.485, 0.456, 0.406], "float32")
TORCH_STD = np.array([0.229, 0.224, 0.225], "float32")
TORCH_EPSILON = 1e-5
CONVOLUTIONS = tuple(
    f"block{stage}_conv{i}"
    for stage, count in enumerate((2, 2, 3, 3, 3), start=1)
    for i in range(1, count + 1)
)
# Fully connected layers as convolutions: kernel size, channels, filters.
FULLY_CONNECTED = {"fc6": (7, 512, 4096), "fc7": (1, 4096, 4096)}
# The folder from which Keras downloads the weights.
_IMAGENET_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
)
KERAS_SUFFIXES = (".h5", ".hdf5", ".keras")


class ConvWeights(NamedTuple):
    """Weights of a convolution for RGB in 0..255, in Keras' layout."""

    kernel: np.ndarray
    bias: np.ndarray
    # Scale, shift, mean and variance of batch normalization.
    norm: tuple[np.ndarray, ...] | None = None


def check_encoder_weights(value: object) -> None:
    """Check `encoder_weights` for `load_vgg16` before a model is built.

    Args:
        value: None, "imagenet", or a path as str or `os.PathLike`. `~` is the
            home folder, and the case of the suffix does not matter.

    Raises:
        ValueError: If `value` is something else, or the file does not exist.
    """
    if value is None:
        return
    suffixes = (*KERAS_SUFFIXES, *_state_dicts.SUFFIXES)
    if isinstance(value, str | os.PathLike):
        path = Path(os.path.expanduser(value))
        if value == "imagenet":
            return
        if path.suffix.lower() in suffixes and path.is_file():
            return
    raise ValueError(
        "`encoder_weights` must be None, 'imagenet', or the path of an "
        f"existing file that ends in {', '.join(suffixes)}. Received: "
        f"encoder_weights={value!r}"
    )


def load_vgg16(model: keras.Model, weights: str | Path) -> None:
    """Copy the layers of VGG-16 into the layers of the same names.

    VGG-16 takes BGR minus its mean color (Keras), or RGB minus its mean divided
    by its standard deviation (PyTorch). The first convolution is changed so
    that it takes RGB in 0..255. If it does not have a bias, the batch
    normalization after it subtracts the mean.

    The kernel of the first convolution is also adapted to the number of
    channels. For grayscale images, it is the sum over red, green and blue: the
    result is that of an image with three equal channels. For n channels, the
    kernels of red, green and blue are repeated in turn and multiplied by 3 / n,
    as timm does, so that outputs keep their scale.

    VGG-16 does not have batch normalization, which keeps its initial values.
    That of VGG-16-BN is loaded too. PyTorch's epsilon is smaller, so the scale
    is changed to get the same predictions.

    Args:
        model: Model with layers `block1_conv1` to `block5_conv3` on any number
            of input channels, and perhaps `fc6` and `fc7`; changed in place.
            The latter are loaded if they have VGG-16's 4096 units.
        weights: "imagenet" (downloaded by Keras), or the path of a file with
            the weights of `keras.applications.VGG16` or of torchvision's
            `vgg16` or `vgg16_bn`: .pth or .pt (require torch) or .safetensors
            (requires safetensors).

    Raises:
        ValueError: If the weights cannot be read, are those of another network,
            or contain NaN, infinities or a negative variance. The model is not
            changed then.
    """
    check_encoder_weights(weights)
    num_channels = model.input_shape[-1]
    names = [*CONVOLUTIONS, *_fully_connected(model)]
    path = Path(os.path.expanduser(weights))
    if path.suffix.lower() in _state_dicts.SUFFIXES:
        shapes = {n: tuple(model.get_layer(n).kernel.shape) for n in names}
        # The file is for three channels.
        *size, _, filters = shapes[CONVOLUTIONS[0]]
        shapes[CONVOLUTIONS[0]] = (*size, 3, filters)
        source = _read_torch(path, shapes, num_channels)
    else:
        source = _read_keras(path, names, num_channels)
    for name, values in source.items():
        conv, norm = model.get_layer(name), model.get_layer(f"{name}_norm")
        conv.set_weights([values.kernel, values.bias][: len(conv.weights)])
        if values.norm is not None:
            scale, shift, mean, variance = values.norm
            if not conv.use_bias:
                mean = mean - values.bias
            scale = scale * np.sqrt(
                (variance + norm.epsilon) / (variance + TORCH_EPSILON)
            )
            norm.set_weights([scale, shift, mean, variance])


def _fully_connected(model: keras.Model) -> list[str]:
    """Return the fully connected layers of VGG-16 that the model has."""
    names = {layer.name for layer in model.layers}
    return [
        name
        for name, (*_, filters) in FULLY_CONNECTED.items()
        if name in names and model.get_layer(name).filters == filters
    ]


def _for_channels(
    kernel: np.ndarray, bias: np.ndarray, mean: np.ndarray, num_channels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Adapt the first convolution to images of any number of channels.

    Args:
        kernel: Kernel for RGB in 0..255.
        bias: Bias for images minus their mean color.
        mean: Mean color, RGB in 0..255.
        num_channels: Number of channels of the new kernel.

    Returns:
        The kernel, and the bias for images without subtraction of the mean.
    """
    if num_channels == 1:
        bias = bias - np.einsum("hwio,i->o", kernel, mean)
        return kernel.sum(axis=2, keepdims=True), bias
    if num_channels != 3:
        places = np.arange(num_channels) % 3
        kernel = kernel[:, :, places] * np.float32(3 / num_channels)
        mean = mean[places]
    return kernel, bias - np.einsum("hwio,i->o", kernel, mean)


def _read_keras(
    weights: str | Path, names: list[str], num_channels: int
) -> dict[str, ConvWeights]:
    include_top = "fc6" in names
    file = "vgg16_weights_tf_dim_ordering_tf_kernels"
    file += ".h5" if include_top else "_notop.h5"
    try:
        if str(weights) == "imagenet":
            _check_download(file)
        vgg16 = keras.applications.VGG16(
            include_top=include_top, weights=str(weights)
        )
    except Exception as error:
        raise ValueError(
            "`encoder_weights` must be None, 'imagenet' (requires a network "
            f"connection, or {file} in ~/.keras/models), or the path of such a "
            "file or of a PyTorch state dict (.pth, .safetensors). Received: "
            f"encoder_weights={str(weights)!r}, which failed with: {error}"
        ) from error
    read = {}
    for name in names:
        # Keras numbers fully connected layers from 1.
        source = {"fc6": "fc1", "fc7": "fc2"}.get(name, name)
        kernel, bias = vgg16.get_layer(source).get_weights()
        for array, part in ((kernel, "kernel"), (bias, "bias")):
            _weight_files.check_numbers(
                array, f"{source}'s {part}", weights, "encoder_weights"
            )
        if name == CONVOLUTIONS[0]:
            kernel, bias = _for_channels(
                kernel[:, :, ::-1], bias, VGG16_MEAN, num_channels
            )
        elif name in FULLY_CONNECTED:
            size, channels, filters = FULLY_CONNECTED[name]
            kernel = kernel.reshape(size, size, channels, filters)
        read[name] = ConvWeights(kernel, bias)
    return read


def _read_torch(
    path: Path, kernel_shapes: dict[str, tuple[int, ...]], num_channels: int
) -> dict[str, ConvWeights]:
    state = _state_dicts.read(path, "encoder_weights")
    numbers = sorted(
        int(key.split(".")[1])
        for key, value in state.items()
        if re.fullmatch(r"features\.\d+\.weight", key) and value.ndim == 4
    )
    if len(numbers) != len(CONVOLUTIONS):
        raise ValueError(
            "`encoder_weights` must be the state dict of torchvision's vgg16 "
            f"or vgg16_bn, with {len(CONVOLUTIONS)} convolutions named "
            f"features.<number>.weight. Received: {str(path)!r} with "
            f"{len(numbers)}; its names begin with {list(state)[:3]}"
        )
    # torchvision's classifier: linear, ReLU, dropout, linear, ...
    sources = {"fc6": "classifier.0", "fc7": "classifier.3"}
    for name, number in zip(CONVOLUTIONS, numbers, strict=True):
        sources[name] = f"features.{number}"
    has_norm = any(key.endswith("running_mean") for key in state)
    read = {}
    for name, (*size, channels, filters) in kernel_shapes.items():
        source = sources[name]
        shapes = {f"{source}.weight": (filters, channels, *size)}
        if name in FULLY_CONNECTED:
            shapes = {f"{source}.weight": (filters, channels * math.prod(size))}
        shapes[f"{source}.bias"] = (filters,)
        if has_norm and name in CONVOLUTIONS:
            norm = f"features.{numbers[CONVOLUTIONS.index(name)] + 1}"
            for part in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{norm}.{part}"] = (filters,)
        kernel, bias, *parts = _weight_files.take(
            state,
            shapes,
            "`encoder_weights` must be the state dict of torchvision's vgg16 "
            "or vgg16_bn",
            path,
            "encoder_weights",
        ).values()
        kernel = kernel.reshape(filters, channels, *size).transpose(2, 3, 1, 0)
        if name == CONVOLUTIONS[0]:
            kernel, bias = _for_channels(
                kernel / (255 * TORCH_STD)[:, None],
                bias,
                255 * TORCH_MEAN,
                num_channels,
            )
        read[name] = ConvWeights(kernel, bias, tuple(parts) or None)
    return read


def _check_download(file: str) -> None:
    """Reject a download without a network, which would retry for minutes.

    Raises:
        OSError: If the file does not exist and its host does not answer.
    """
    home = os.path.expanduser(os.environ.get("KERAS_HOME", "~/.keras"))
    # Keras uses the second folder if the first one is read-only.
    for folder in (home, "/tmp/.keras"):
        if os.path.isfile(os.path.join(folder, "models", file)):
            return
    hosts = _network.unreachable_hosts([_IMAGENET_URL + file])
    if hosts:
        raise OSError(f"there is no connection to {', '.join(hosts)}")
