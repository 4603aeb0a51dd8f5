"""Kernels with gradients, for whichever backend is in use."""

from typing import Any

import keras

differentiable: Any
if keras.config.backend() == "tensorflow":
    from keras_deconv._kernels import fused as differentiable
else:
    from keras_deconv._kernels import autodiff as differentiable

pool = differentiable.pool
unpool = differentiable.unpool
nearest = differentiable.nearest
bed_of_nails = differentiable.bed_of_nails
