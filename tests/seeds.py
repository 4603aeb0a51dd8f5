"""The seed of all that is drawn at random; bounds must hold for any.

TEST_SEED=7 pytest -m numeric
"""

import os

SEED = int(os.environ.get("TEST_SEED", "0"))
