"""Error messages of one line."""

from __future__ import annotations

from keras_deconv_cli import api

__all__ = ["explain"]


def explain(error: Exception) -> str | None:
    """Return an error that the user can fix as one line; None for a bug."""
    if isinstance(error, ValueError | OSError | ImportError):
        text = str(error)
    else:
        import tensorflow as tf

        from keras_deconv.data._errors import plain_text

        if not isinstance(error, tf.errors.OpError):
            return None
        text = plain_text(error)
    text = api.plain(" ".join(text.split()))
    return api.in_options(text) or type(error).__name__
