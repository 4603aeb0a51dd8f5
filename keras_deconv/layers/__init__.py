"""Layers for pooling with indices, unpooling and cropping."""

from keras_deconv.layers.cropping import CropLike2D
from keras_deconv.layers.fixed_unpooling import (
    BedOfNailsUnpool1D,
    BedOfNailsUnpool2D,
    BedOfNailsUnpool3D,
    NearestUnpool1D,
    NearestUnpool2D,
    NearestUnpool3D,
)
from keras_deconv.layers.max_pooling import (
    MaxPoolWithArgmax1D,
    MaxPoolWithArgmax2D,
    MaxPoolWithArgmax3D,
)
from keras_deconv.layers.max_unpooling import (
    MaxUnpool1D,
    MaxUnpool2D,
    MaxUnpool3D,
)

__all__ = [
    "BedOfNailsUnpool1D",
    "BedOfNailsUnpool2D",
    "BedOfNailsUnpool3D",
    "CropLike2D",
    "MaxPoolWithArgmax1D",
    "MaxPoolWithArgmax2D",
    "MaxPoolWithArgmax3D",
    "MaxUnpool1D",
    "MaxUnpool2D",
    "MaxUnpool3D",
    "NearestUnpool1D",
    "NearestUnpool2D",
    "NearestUnpool3D",
]
