"""Devices, timing and memory on the backends of Keras."""

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from measuring import gpu_name

# Measurements take at least this time, because clocks have a limited precision.
SECONDS_AT_ONCE = 0.02
MAX_CALLS_AT_ONCE = 200


def accelerator() -> str:
    """Return the name of the GPU, or of the CPU if there is no GPU."""
    return "cpu:0" if gpu_name() is None else "gpu:0"


def place(array: np.ndarray, dtype: str, device: str) -> Any:
    """Create a tensor on a device. NumPy does not need to know its dtype."""
    with keras.device(device):
        return keras.ops.cast(keras.ops.convert_to_tensor(array), dtype)


def is_on(tensor: Any, device: str) -> bool:
    kind = device.partition(":")[0]
    backend = keras.config.backend()
    if backend == "jax":
        kinds = {each.platform for each in tensor.devices()}
        return kinds == {"cpu"} if kind == "cpu" else "cpu" not in kinds
    if backend == "torch":
        return (tensor.device.type == "cpu") == (kind == "cpu")
    return kind.upper() in tensor.device


def as_numpy(tensor: Any) -> np.ndarray:
    """Convert a tensor to NumPy, half precision to float32."""
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if dtype in ("float16", "bfloat16"):
        tensor = keras.ops.cast(tensor, "float32")
    return keras.ops.convert_to_numpy(tensor)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function as Keras compiles models: not on PyTorch."""
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        return jax.jit(function)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)
    return function


def with_gradient(
    function: Callable[[Any], Any], x: Any, upstream: Any
) -> tuple[Any, Any]:
    """Return the result of a function and its gradient."""
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        y, backward = jax.vjp(function, x)
        return y, backward(upstream)[0]
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return y, tape.gradient(y, x, output_gradients=upstream)
    import torch

    x = x.detach().requires_grad_()
    y = function(x)
    return y.detach(), torch.autograd.grad(y, x, upstream)[0]


def copy(x: Any) -> Any:
    """Copy a tensor. Other times are compared with this one."""
    backend = keras.config.backend()
    if backend == "jax":
        import jax.numpy as jnp

        return jnp.copy(x)
    if backend == "tensorflow":
        import tensorflow as tf

        # TensorFlow does not copy a tensor without changing it.
        return tf.add(x, 1)
    return x.clone()


def wait(result: Any) -> None:
    """Wait until the device has finished all work."""
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        jax.block_until_ready(result)
    elif backend == "torch":
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
    else:
        import tensorflow as tf

        tf.test.experimental.sync_devices()


def in_turns(
    calls: dict[Any, Callable[[], Any]], repetitions: int
) -> dict[Any, list[float]]:
    """Measure the seconds of each call, taking turns.

    Each measurement runs many calls in a row, so that the GPU does not wait for
    Python between them.
    """
    for call in calls.values():
        wait(call())  # compiles
    numbers = {key: _num_calls(call) for key, call in calls.items()}
    times: dict[Any, list[float]] = {key: [] for key in calls}
    for _ in range(repetitions):
        for key, call in calls.items():
            times[key].append(_seconds_per_call(call, numbers[key]))
    return times


def _num_calls(call: Callable[[], Any]) -> int:
    seconds = _seconds_per_call(call, 2)
    return min(int(SECONDS_AT_ONCE / seconds) + 1, MAX_CALLS_AT_ONCE)


def _seconds_per_call(call: Callable[[], Any], num_calls: int) -> float:
    if gpu_name() is not None and keras.config.backend() == "torch":
        return _seconds_by_events(call, num_calls)
    result = None
    wait(result)
    start = time.perf_counter()
    for _ in range(num_calls):
        result = call()
    wait(result)
    return (time.perf_counter() - start) / num_calls


def _seconds_by_events(call: Callable[[], Any], num_calls: int) -> float:
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(num_calls):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / num_calls


def peak_bytes() -> int | None:
    """Return the peak GPU memory of this process, or None on a CPU."""
    if gpu_name() is None:
        return None
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        return jax.devices()[0].memory_stats()["peak_bytes_in_use"]
    if backend == "torch":
        import torch

        return torch.cuda.max_memory_allocated()
    import tensorflow as tf

    return tf.config.experimental.get_memory_info("GPU:0")["peak"]
