"""Messages of errors in tf.data and graphs, without TensorFlow's text."""

import numpy as np
import pytest
import tensorflow as tf

from keras_deconv.data._errors import plain_text

IN_GRAPH = """Graph execution error:

Detected at node model_1/concat defined at (most recent call last):
  File "/home/me/predict.py", line 43, in <module>

  File "/home/me/nets.py", line 8, in f

ConcatOp : Dimension 1 in both shapes must be equal
\t [[{{node model_1/concat}}]] [Op:__inference_step_7]"""


def test_frames_of_graphs_are_left_out():
    assert plain_text(ValueError(IN_GRAPH)) == (
        "ConcatOp : Dimension 1 in both shapes must be equal"
    )


def test_errors_of_generators_are_as_they_were_raised():
    def fail():
        yield np.zeros((1,), "uint8")
        raise ValueError("a.png: It has 4 channels")

    dataset = tf.data.Dataset.from_generator(
        fail, output_signature=tf.TensorSpec((1,), "uint8")
    )
    with pytest.raises(tf.errors.OpError) as caught:
        list(dataset)
    assert plain_text(caught.value) == "a.png: It has 4 channels"
