"""Settings that must be there before TensorFlow is imported."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# No test may wait for a network: a proxy that nothing listens on says no.
os.environ.setdefault("NO_GCE_CHECK", "true")

import keras
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
