"""Fixtures for tests of the command."""

import pytest

from keras_deconv import models
from keras_deconv_cli import api
from tests.cli.samples import tiny_model


@pytest.fixture
def tiny_models(monkeypatch):
    for name in api.CHOICES["model"].values():
        monkeypatch.setattr(models, name.removeprefix("models."), tiny_model)
