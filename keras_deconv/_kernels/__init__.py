"""Kernels with gradients for the current backend."""

from typing import Any

import keras

differentiable: Any
if keras.config.backend() == "tensorflow":
    from keras_deconv._kernels import fused as differentiable
elif keras.config.backend() == "torch":
    from keras_deconv._kernels import native_torch as differentiable
else:
    from keras_deconv._kernels import autodiff as differentiable

# Whether `scatter` itself raises an error for positions outside, in eager calls
# on the CPU.
REFUSES_OUTSIDE = keras.config.backend() == "torch"

pool = differentiable.pool
pool_to_positions = differentiable.pool_to_positions
unpool = differentiable.unpool
scatter = differentiable.scatter
nearest = differentiable.nearest
bed_of_nails = differentiable.bed_of_nails
