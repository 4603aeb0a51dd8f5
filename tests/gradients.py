"""Gradients on the backend in use."""

import keras


def vjp(function, x, upstream):
    """The gradient of `function` at `x` for an upstream gradient."""
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return tape.gradient(y, x, output_gradients=upstream)
    if backend == "jax":
        import jax

        return jax.vjp(function, x)[1](upstream)[0]
    import torch

    x = x.detach().requires_grad_()
    return torch.autograd.grad(function(x), x, upstream)[0]
