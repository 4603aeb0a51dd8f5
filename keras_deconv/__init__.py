"""Max pooling with indices, unpooling and encoder-decoder networks."""

__version__ = "0.1.0"

from keras_deconv import layers, models, ops
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
    "layers",
    "models",
    "ops",
]
