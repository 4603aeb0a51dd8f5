"""The option for the backend. It is parsed before Keras is imported."""

import argparse

option = argparse.ArgumentParser(add_help=False)
option.add_argument(
    "--backend",
    choices=("tensorflow", "torch"),
    default="tensorflow",
    help="backend of Keras that runs the kernels (default: tensorflow)",
)


def chosen() -> str:
    """Return the backend from the command line."""
    known, _ = option.parse_known_args()
    return known.backend
