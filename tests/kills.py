"""Runs commands that are killed at random moments, for the slow tests.

One process imports everything, and forks for each run: imports would take most
of the time, and of the kills. A program, since the tests' own process has
threads of TensorFlow, which do not live on after a fork.
"""

import json
import os
import random
import signal
import sys
import time

MAX_SECONDS = 15


def start(arguments):
    """Forks a process that runs the command, silently."""
    child = os.fork()
    if child:
        return child
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    from keras_deconv_cli import main

    try:
        os._exit(main(arguments))
    finally:
        os._exit(99)


def wait(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_and_kill(reference, arguments, finished, num_kills, seed):
    """Runs a command once, and then kills it again and again.

    Args:
        reference: Arguments of the run that shows how long it takes.
        arguments: Arguments of the runs that are killed.
        finished: Pair of paths, or None. If a run ends before it is killed,
            the first one is renamed to the second one and a number, so that
            the next run starts from the beginning.
        num_kills: How often.
        seed: Draws the moments, from the first to the last of a run.

    Returns:
        The number of runs that ended before they were killed.
    """
    begin = time.monotonic()
    assert wait(start(reference)) == 0
    # On a machine that is busy for a moment it may take minutes.
    seconds = min(time.monotonic() - begin, MAX_SECONDS)
    draw = random.Random(seed)
    num_killed = num_finished = 0
    while num_killed < num_kills:
        child = start(arguments)
        time.sleep(draw.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        code = wait(child)
        if code == -signal.SIGKILL:
            num_killed += 1
            continue
        assert code == 0, code
        if finished:
            os.rename(finished[0], f"{finished[1]}{num_finished}")
        num_finished += 1
    return num_finished


if __name__ == "__main__":
    import keras_deconv.data
    import keras_deconv_cli.evaluation
    import keras_deconv_cli.exporting
    import keras_deconv_cli.inspection
    import keras_deconv_cli.prediction
    import keras_deconv_cli.training  # noqa: F401
    from tests.cli.samples import tiny_model

    keras_deconv.models.SegNetBasic = tiny_model
    print(json.dumps(run_and_kill(**json.loads(sys.argv[1]))))
