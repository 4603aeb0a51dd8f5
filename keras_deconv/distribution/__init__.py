"""Distributed training on several devices and hosts.

| strategy | devices | how processes find each other |
|---|---|---|
| `"one"` | one device | - |
| `"mirrored"` | TensorFlow: all devices of one host | - |
| `"multi_worker"` | TensorFlow: several hosts, a process each | `TF_CONFIG` |
| `"data_parallel"` | JAX: the devices of one or more hosts | see `connect` |

Each replica processes its share of every batch. Losses, gradients, statistics
of batch normalization and metrics are those of the whole batch. Training
therefore gives the same results as one device with the same batches, up to
float rounding.

All strategies train with `keras.Model.fit`, except for `"multi_worker"`, which
`fit` does not support in Keras 3
(https://github.com/keras-team/keras/issues/20585). There, `Replicas.fit` runs
its own loop around the model's `train_step`.
"""

from keras_deconv.distribution.backup import EpochBackup
from keras_deconv.distribution.connection import STRATEGIES, connect
from keras_deconv.distribution.replicas import Replicas

__all__ = ["STRATEGIES", "EpochBackup", "Replicas", "connect"]
