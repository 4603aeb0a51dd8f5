"""Training on many replicas, with the engines that are there.

| strategy | what it is | how processes know of each other |
|---|---|---|
| `"one"` | one device | - |
| `"mirrored"` | TensorFlow, all devices of one host | - |
| `"multi_worker"` | TensorFlow, many hosts, a process on each | `TF_CONFIG` |
| `"data_parallel"` | JAX, the devices of one host or of many | see `connect` |

Each replica takes its share of every batch. Losses, gradients, statistics of
batch normalization and metrics are those of the whole batch, so training goes
as on one device with the same batches, to float tolerance.

`keras.Model.fit` does the training, but for `"multi_worker"`, where Keras 3
cannot (https://github.com/keras-team/keras/issues/20585); there a loop of a
page does, around the same `train_step`.
"""

from keras_deconv.distribution.backup import EpochBackup
from keras_deconv.distribution.connection import STRATEGIES, connect
from keras_deconv.distribution.replicas import Replicas

__all__ = ["STRATEGIES", "EpochBackup", "Replicas", "connect"]
