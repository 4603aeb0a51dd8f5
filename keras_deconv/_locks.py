"""One thread at a time where layers are changed for a while and changed back.

Seeds of dropout and statistics of batch normalization are variables, which all
threads share.
"""

import contextlib
import itertools
import threading
import weakref
from collections.abc import Iterable, Iterator

import keras

_guard = threading.Lock()
_numbers = itertools.count()
_locks: weakref.WeakKeyDictionary[
    keras.layers.Layer, tuple[int, threading.RLock]
] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def held(layers: Iterable[keras.layers.Layer]) -> Iterator[None]:
    """Wait until no other thread holds one of the layers, then hold them all.

    Models that share a layer wait for each other.
    """
    with _guard:
        locks = {
            _locks.setdefault(layer, (next(_numbers), threading.RLock()))
            for layer in layers
        }
    with contextlib.ExitStack() as stack:
        # In one order for all threads, or two could wait for each other.
        for _, lock in sorted(locks, key=lambda numbered: numbered[0]):
            stack.enter_context(lock)
        yield
