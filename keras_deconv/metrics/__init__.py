"""Metrics for semantic segmentation.

Accuracies and IoU are computed from one confusion matrix over the whole
dataset, `BoundaryF1` from the boundaries of each image.

Reference: `compute_test_results.m` and `computeBFmeasure.m` of the SegNet
authors, https://github.com/alexgkendall/SegNet-Tutorial, and section 4 of
https://arxiv.org/abs/1511.00561.
"""

from keras_deconv.metrics.boundary import BoundaryF1
from keras_deconv.metrics.confusion import (
    ClassAccuracy,
    GlobalAccuracy,
    MeanIoU,
)

__all__ = ["BoundaryF1", "ClassAccuracy", "GlobalAccuracy", "MeanIoU"]
