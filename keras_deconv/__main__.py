"""`python -m keras_deconv` is the command `keras-deconv`."""

import sys

from keras_deconv.command import main

if __name__ == "__main__":
    sys.exit(main())
