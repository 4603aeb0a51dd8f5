"""Files that are complete or as they were, whoever else writes there."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading

import pytest

from keras_deconv import _files
from tests.paths import ROOT


@pytest.fixture(autouse=True)
def _each_test_is_a_process(monkeypatch):
    monkeypatch.setattr(_files, "_cleaned", {})


def write(path, text="new"):
    with _files.replaced(path) as part:
        part.write_text(text)


def write_folder(path, text="new"):
    with _files.replaced(path) as part:
        part.mkdir()
        (part / "file").write_text(text)


@contextlib.contextmanager
def script(source, *arguments):
    """A process that runs some lines, and whose output can be read."""
    source = IMPORT + textwrap.dedent(source)
    with subprocess.Popen(
        [sys.executable, "-c", source, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


# The package without its __init__, which takes seconds.
IMPORT = """
import importlib.util, os, signal, sys
file = "keras_deconv/_files.py"
spec = importlib.util.spec_from_file_location("_files", file)
_files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(_files)
path = sys.argv[1]
"""


def run(source, *arguments):
    with script(source, *arguments) as process:
        output, _ = process.communicate(timeout=60)
    return process.returncode, output


def test_a_file_is_complete_or_as_it_was(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("before")

    def fail():
        with _files.replaced(path) as part:
            part.write_text("half")
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        fail()
    assert path.read_text() == "before"
    with _files.replaced(path) as part:
        assert part.name == path.name
        part.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_and_long_names_stay(tmp_path):
    path = tmp_path / ("x" * 255)
    path.write_text("private")
    path.chmod(0o640)
    write(path)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_pipe_or_device_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link = tmp_path / "link"
    link.symlink_to("/dev/null")
    for path in (pipe, link, "/dev/null", "/dev/stdout", "/dev/fd/1"):
        with pytest.raises(ValueError, match="`path` must be a regular file"):
            write(path)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert link.is_symlink()
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (loop, pipe / "below", tmp_path / "nul\0"):
        with pytest.raises(ValueError, match="`path` must be a path that can"):
            write(path)


def test_what_a_link_points_to_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    target = tmp_path / "folder" / "target"
    link = tmp_path / "link"
    link.symlink_to("folder/target")
    for text in ("new", "newer"):
        write(link, text)
        assert link.is_symlink()
        assert target.read_text() == text


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("kept")
    with pytest.raises(ValueError, match="which is a folder"):
        write(tmp_path / "kept")
    assert (tmp_path / "kept" / "file").read_text() == "kept"


def test_names_that_are_prepared_do_no_harm(tmp_path):
    """Fixed names of temporary files could be links, or files of the user."""
    victim = tmp_path / "victim"
    victim.write_text("safe")
    mine = [
        tmp_path / f"{prefix}file{suffix}"
        for prefix in ("", ".", ".part.")
        for suffix in (".part", ".tmp", "~")
    ]
    for path in mine[::2]:
        path.symlink_to(victim)
    for path in mine[1::2]:
        path.write_text("mine")
    write(tmp_path / "file")
    assert victim.read_text() == "safe"
    assert all(path.is_symlink() for path in mine[::2])
    assert all(path.read_text() == "mine" for path in mine[1::2])


def test_writers_at_once_each_write_a_whole_file(tmp_path):
    path = tmp_path / "file"

    def write_often(letter):
        for _ in range(50):
            with _files.replaced(path) as part, part.open("w") as file:
                for _ in range(100):
                    file.write(letter * 100)

    threads = [
        threading.Thread(target=write_often, args=(letter,))
        for letter in "abcd"
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            text = path.read_text()
            assert text == text[:1] * 10_000
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_is_there_while_it_is_replaced(tmp_path):
    path = tmp_path / "saved"
    write_folder(path, "0")
    done = threading.Event()

    def write_often():
        try:
            for number in range(300):
                write_folder(path, str(number))
        finally:
            done.set()

    thread = threading.Thread(target=write_often)
    thread.start()
    missing = looked = 0
    while not done.is_set():
        missing += not os.path.isdir(path)
        looked += 1
    thread.join()
    assert looked > 300
    assert missing == 0
    assert (path / "file").read_text() == "299"
    assert os.listdir(tmp_path) == ["saved"]


def test_without_an_exchange_the_next_process_brings_the_old_one_back(
    tmp_path, monkeypatch
):
    path = tmp_path / "saved"
    write_folder(path, "old")
    # Killed between two renames.
    code, _ = run(
        """
        import pathlib
        _files._exchange = lambda a, b: False
        replace = _files.os.replace
        def replace_once(a, b):
            replace(a, b)
            os.kill(os.getpid(), signal.SIGKILL)
        _files.os.replace = replace_once
        with _files.replaced(path) as part:
            part.mkdir()
        """,
        path,
    )
    assert code == -signal.SIGKILL
    assert not path.exists()
    _files._cleaned.clear()
    write(tmp_path / "another")
    assert (path / "file").read_text() == "old"
    monkeypatch.setattr(_files, "_exchange", lambda a, b: False)
    write_folder(path)
    assert (path / "file").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["another", "saved"]


def test_leftovers_of_the_killed_are_deleted_and_no_others(tmp_path):
    path = tmp_path / "m.tflite"
    killed = """
        with _files.replaced(path) as part:
            part.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert run(killed, path) == (-signal.SIGKILL, "")
    [left] = tmp_path.iterdir()
    # A folder of the same form that nobody of this package has made.
    mine = tmp_path / ".keras_deconv.mine____"
    mine.mkdir()
    (mine / "file").write_text("mine")
    live = """
        with _files.replaced(path) as part:
            part.write_text("alive")
            print(part, flush=True)
            input()
    """
    with script(live, tmp_path / "alive") as process:
        # It has cleaned up before; what is left now is of the next one.
        part = process.stdout.readline().strip()
        assert not left.exists()
        run(killed, path)
        write(path)
        assert os.path.exists(part)
    _files._cleaned.clear()
    write(path)
    assert sorted(os.listdir(tmp_path)) == [mine.name, "m.tflite"]
    assert (mine / "file").read_text() == "mine"


def test_streams_are_written_as_they_are(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    _files.write_text(pipe, "text")
    reader.join()
    assert found == ["text"]
    _files.write_text("/dev/null", "text")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    # Standard output may be a file; what is there stays.
    output = tmp_path / "output"
    with output.open("w") as file:
        subprocess.run(
            [
                sys.executable,
                "-c",
                f"{IMPORT}\nprint('first', flush=True)\n"
                "_files.write_text(path, 'second')",
                "/dev/stdout",
            ],
            stdout=file,
            cwd=ROOT,
            check=True,
        )
    assert output.read_text() == "first\nsecond"
    _files.write_text(output, "whole")
    assert output.read_text() == "whole"


def test_one_process_holds_a_lock(tmp_path):
    path = tmp_path / ".lock"
    hold = """
        with _files.locked(path, wait=True) as is_locked:
            print(is_locked, flush=True)
            if len(sys.argv) > 2:
                input()
    """
    with script(hold, path, "hold") as holder:
        assert holder.stdout.readline() == "True\n"
        with pytest.raises(BlockingIOError), _files.locked(path, wait=False):
            pass
        with script(hold, path) as waiting:
            # The kernel releases what a killed process held.
            holder.kill()
            output, _ = waiting.communicate(timeout=60)
    assert output == "True\n"
    assert not path.exists()
    with _files.locked(path, wait=False) as is_locked:
        assert is_locked
        assert path.exists()
    assert not path.exists()
    with contextlib.suppress(KeyError), _files.locked(path, wait=False):
        raise KeyError
    assert not path.exists()


def test_threads_hold_a_lock_in_turn(tmp_path):
    path = tmp_path / ".lock"
    holders = []

    def hold():
        for _ in range(50):
            with _files.locked(path, wait=True):
                holders.append(1)
                assert len(holders) == 1
                holders.pop()

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert holders == []
    assert not path.exists()


def make_link(path):
    path.symlink_to(path.with_name("victim"))


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_text("mine"),
        lambda path: path.mkdir(),
        os.mkfifo,
        make_link,
    ],
)
def test_what_is_not_a_lock_is_refused_and_stays(make, tmp_path):
    path = tmp_path / ".lock"
    make(path)
    before = path.lstat()
    for wait in (True, False):
        with (
            pytest.raises(ValueError, match="must be an empty file"),
            _files.locked(path, wait=wait),
        ):
            pass
    assert os.path.samestat(path.lstat(), before)
    assert os.listdir(tmp_path) == [".lock"]


def test_a_file_that_somebody_has_put_in_place_of_a_lock_stays(tmp_path):
    path = tmp_path / ".lock"
    with _files.locked(path, wait=False):
        path.unlink()
        path.write_text("mine")
    assert path.read_text() == "mine"
    path.unlink()
    with _files.locked(path, wait=False):
        path.write_text("mine")
    assert path.read_text() == "mine"


def clean_before(monkeypatch, name, parent):
    """Lets another process clean up just before the first call of a function.

    It finds the folder as it is then.
    """
    function = getattr(_files, name)

    def overtaken(*arguments):
        monkeypatch.setattr(_files, name, function)
        for folder in parent.glob(".keras_deconv.*"):
            # As it does after an hour without a lock.
            os.utime(folder, (0, 0))
        _files.clean(parent)
        assert os.listdir(parent) == []
        return function(*arguments)

    monkeypatch.setattr(_files, name, overtaken)


@pytest.mark.parametrize("name", ["_open_locked", "_lock"])
def test_a_folder_that_is_deleted_before_it_is_locked_is_made_again(
    name, tmp_path, monkeypatch
):
    clean_before(monkeypatch, name, tmp_path)
    write(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "new"
    assert os.listdir(tmp_path) == ["file"]


def test_without_locks_age_tells_what_was_left(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "_lock", lambda *_: False)
    folder = tmp_path / ".keras_deconv.abcdefgh"
    with _files.replaced(tmp_path / "file") as part:
        part.write_text("new")
        os.rename(part.parent.parent, folder)
        _files.clean(tmp_path)
        assert folder.exists()
        os.utime(folder, (0, 0))
        _files.clean(tmp_path)
        assert not folder.exists()
        part.parent.mkdir(parents=True)
        part.write_text("new")


@pytest.mark.parametrize("name", ["lock", "new", "before", ".lock", ".before"])
def test_every_name_can_be_written(name, tmp_path, monkeypatch):
    write(tmp_path / name)
    assert (tmp_path / name).read_text() == "new"
    path = tmp_path / "folders" / name
    path.parent.mkdir()
    for text in ("old", "new"):
        write_folder(path, text)
        assert (path / "file").read_text() == text
        monkeypatch.setattr(_files, "_exchange", lambda a, b: False)
    assert os.listdir(path.parent) == [name]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_an_open_file_is_a_stream_whatever_its_path(tmp_path):
    """To replace the file would leave its writers with one without a name."""
    (tmp_path / "fds").symlink_to("/proc/thread-self/fd")
    (tmp_path / "link").symlink_to("fds/0")
    with (tmp_path / "file").open("w+") as file:
        number = file.fileno()
        paths = [
            f"/proc/thread-self/fd/{number}",
            f"/proc/{os.getpid()}/task/{threading.get_native_id()}/fd/{number}",
            f"/dev/fd/{number}",
            tmp_path / "fds" / str(number),
        ]
        for path in paths:
            assert _files.is_stream(path)
            with pytest.raises(ValueError, match="must be a regular file"):
                _files.check_replaceable(path)
            _files.write_text(path, "x")
        assert file.read() == "x" * len(paths)
    assert not _files.is_stream(tmp_path / "file")
    assert _files.is_stream(tmp_path / "link")
