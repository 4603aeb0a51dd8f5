"""`python -m keras_deconv_command` is the command `keras-deconv`."""

import sys

from keras_deconv_command import main

sys.exit(main())
