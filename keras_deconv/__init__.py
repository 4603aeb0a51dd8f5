"""Max pooling with indices, unpooling and encoder-decoder networks."""

__version__ = "0.1.0"

import importlib
from types import ModuleType

from keras_deconv import (
    callbacks,
    config,
    distribution,
    export,
    inference,
    initializers,
    layers,
    losses,
    metrics,
    models,
    ops,
    visualize,
)
from keras_deconv.layers import (
    BedOfNailsUnpool1D,
    BedOfNailsUnpool2D,
    BedOfNailsUnpool3D,
    MaxPoolWithArgmax1D,
    MaxPoolWithArgmax2D,
    MaxPoolWithArgmax3D,
    MaxUnpool1D,
    MaxUnpool2D,
    MaxUnpool3D,
    NearestUnpool1D,
    NearestUnpool2D,
    NearestUnpool3D,
)

__all__ = [
    "BedOfNailsUnpool1D",
    "BedOfNailsUnpool2D",
    "BedOfNailsUnpool3D",
    "MaxPoolWithArgmax1D",
    "MaxPoolWithArgmax2D",
    "MaxPoolWithArgmax3D",
    "MaxUnpool1D",
    "MaxUnpool2D",
    "MaxUnpool3D",
    "NearestUnpool1D",
    "NearestUnpool2D",
    "NearestUnpool3D",
    "callbacks",
    "config",
    "data",
    "distribution",
    "export",
    "inference",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "visualize",
]


def __getattr__(name: str) -> ModuleType:
    # `data` imports tensorflow-datasets, so it is imported on first use.
    if name == "data":
        try:
            return importlib.import_module("keras_deconv.data")
        except ImportError as error:
            raise ImportError(
                "keras_deconv.data reads datasets with TensorFlow, "
                f"tensorflow-datasets and Pillow. Received: {error}. Install "
                "them with: pip install keras-deconv. Layers, models, losses, "
                "metrics and `fit` do not need them on JAX and PyTorch."
            ) from error
    raise AttributeError(f"module 'keras_deconv' has no attribute {name!r}")
