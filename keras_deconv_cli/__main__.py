"""`python -m keras_deconv_cli` is the command `keras-deconv`."""

import sys

from keras_deconv_cli import main

sys.exit(main())
