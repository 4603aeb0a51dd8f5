"""Kernels with gradients, for whichever backend is in use."""

from typing import Any

import keras

differentiable: Any
if keras.config.backend() == "tensorflow":
    from keras_deconv._kernels import fused as differentiable
elif keras.config.backend() == "torch":
    from keras_deconv._kernels import native_torch as differentiable
else:
    from keras_deconv._kernels import autodiff as differentiable

# Whether `scatter` itself finds positions outside, where they can be seen.
REFUSES_OUTSIDE = keras.config.backend() == "torch"

pool = differentiable.pool
pool_to_positions = differentiable.pool_to_positions
unpool = differentiable.unpool
scatter = differentiable.scatter
nearest = differentiable.nearest
bed_of_nails = differentiable.bed_of_nails
