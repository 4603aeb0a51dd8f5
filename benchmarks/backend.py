"""The option that chooses Keras' backend, which is read before Keras."""

import argparse

option = argparse.ArgumentParser(add_help=False)
option.add_argument(
    "--backend",
    choices=("tensorflow", "torch"),
    default="tensorflow",
    help="backend of Keras that runs our kernels (default: tensorflow)",
)


def chosen() -> str:
    """What the command line says."""
    known, _ = option.parse_known_args()
    return known.backend
