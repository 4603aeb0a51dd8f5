"""Preparation by several processes, and after a process was killed."""

import concurrent.futures
import os
import threading
import time

import pytest
import tensorflow_datasets as tfds

from keras_deconv import _files
from keras_deconv.data import _preparation, load, sources, splits, to_tfds
from tests import tiny_datasets

LOCK = ".keras_deconv.1.0.0.lock"


@pytest.fixture
def camvid(tmp_path):
    """Return arguments that load or prepare a tiny CamVid."""
    tiny_datasets.write_camvid(tmp_path / "manual", {"train": 2})
    return dict(data_dir=tmp_path / "data", manual_dir=tmp_path / "manual")


def test_a_set_that_another_process_has_prepared_meanwhile_is_used(
    camvid, monkeypatch
):
    """tfds fails to rename its folder if another process was faster."""
    prepare = tfds.core.DatasetBuilder.download_and_prepare

    def overtaken(self, **options):
        prepare(tfds.builder("cam_vid", data_dir=camvid["data_dir"]), **options)
        assert not self.info.splits
        raise OSError("Cannot rename: the folder already exists")

    monkeypatch.setattr(
        tfds.core.DatasetBuilder, "download_and_prepare", overtaken
    )
    dataset = load("cam_vid", "train", image_size=8, batch_size=2, **camvid)
    assert len(dataset) == 1
    assert splits("cam_vid", **camvid) == {"train": 2}


def test_of_two_at_once_one_prepares_and_both_read(camvid, monkeypatch):
    prepare = tfds.core.DatasetBuilder.download_and_prepare
    prepared = []
    both_wait = threading.Barrier(2, timeout=60)

    def once(self, **options):
        prepared.append(self.name)
        # The second thread arrives during this preparation.
        time.sleep(0.3)
        prepare(self, **options)

    def prepare_and_count(_):
        both_wait.wait()
        return splits("cam_vid", **camvid)

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", once)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = list(pool.map(prepare_and_count, range(2)))
    assert found == [{"train": 2}] * 2
    assert prepared == ["cam_vid"]
    assert os.listdir(camvid["data_dir"] / "cam_vid") == ["1.0.0"]


def test_who_waited_needs_neither_archives_nor_a_network(camvid, monkeypatch):
    """A process that waited uses the dataset of the other process."""
    folder = camvid["data_dir"] / "cam_vid"
    folder.mkdir(parents=True)
    waiting, checked = threading.Event(), []
    monkeypatch.setattr(
        _preparation, "print", lambda *_: waiting.set(), raising=False
    )
    monkeypatch.setattr(
        sources, "_check_network", lambda *_: checked.append("network")
    )
    monkeypatch.setattr(
        sources, "_check_archives", lambda *_: checked.append("archives")
    )
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with _files.locked(folder / LOCK, wait=False):
            second = pool.submit(splits, "cam_vid", **camvid)
            assert waiting.wait(60)
            config = tfds.download.DownloadConfig(
                manual_dir=camvid["manual_dir"]
            )
            builder = tfds.builder("cam_vid", data_dir=camvid["data_dir"])
            builder.download_and_prepare(download_config=config)
        assert second.result() == {"train": 2}
    assert checked == []


def write_half(folder):
    folder.mkdir(parents=True)
    (folder / "cam_vid-train.tfrecord-00000-of-00001").write_bytes(b"half")


def test_what_a_killed_process_left_is_deleted(camvid):
    folder = camvid["data_dir"] / "cam_vid"
    left = folder / "incomplete.BBBBBB_1.0.0"
    # Folders of running processes without a lock, and of another version.
    foreign = folder / "incomplete.AAAAAA_1.0.0"
    other = folder / "incomplete.CCCCCC_2.0.0"
    for path in (left, foreign, other):
        write_half(path)
    notes = [folder / f".keras_deconv.{path.name}" for path in (left, other)]
    for note in notes:
        note.touch()
    # The lock file exists, but the kernel has released the lock.
    (folder / LOCK).touch()
    kept = sorted(["1.0.0", foreign.name, other.name, notes[1].name])
    for _ in range(2):
        assert splits("cam_vid", **camvid) == {"train": 2}
        assert sorted(os.listdir(folder)) == kept
        # The next process was killed after the preparation.
        (folder / LOCK).touch()
        notes[0].touch()


class Killed(BaseException):
    """Replaces the end of the process."""


@pytest.mark.parametrize("is_written", [False, True])
def test_a_process_notes_its_folder(is_written, camvid, monkeypatch):
    name = "mine" if is_written else "cam_vid"
    folder = camvid["data_dir"] / name
    seen = []

    def look(*_):
        [incomplete] = folder.glob("incomplete.*")
        seen.extend(os.listdir(folder))
        assert f".keras_deconv.{incomplete.name}" in seen
        raise Killed

    finalize = tfds.core.DatasetInfo.write_to_directory
    monkeypatch.setattr(tfds.core.DatasetInfo, "write_to_directory", look)
    prepare = write_mine if is_written else splits_of_camvid
    with pytest.raises(Killed):
        prepare(camvid)
    assert LOCK in seen
    assert not folder.exists() or os.listdir(folder) == []
    monkeypatch.setattr(tfds.core.DatasetInfo, "write_to_directory", finalize)
    assert prepare(camvid) == {"train": 2}
    assert os.listdir(folder) == ["1.0.0"]


def splits_of_camvid(camvid):
    return splits("cam_vid", **camvid)


def write_mine(camvid):
    manual = camvid["manual_dir"]
    return to_tfds(
        "mine",
        {"train": (manual / "train", manual / "trainannot")},
        classes=[f"class_{i}" for i in range(11)],
        void_labels=(11,),
        data_dir=camvid["data_dir"],
    )


def test_without_locks_nothing_is_deleted(camvid, monkeypatch):
    """Without locks, the writer of a folder may still be running."""
    monkeypatch.setattr(_files, "_lock", lambda *_: False)
    folder = camvid["data_dir"] / "cam_vid"
    live = folder / "incomplete.AAAAAA_1.0.0"
    write_half(live)
    (folder / f".keras_deconv.{live.name}").touch()
    assert splits("cam_vid", **camvid) == {"train": 2}
    assert live.exists()


def test_a_file_with_the_name_of_the_lock_stays(camvid):
    folder = camvid["data_dir"] / "cam_vid"
    folder.mkdir(parents=True)
    (folder / LOCK).write_text("mine")
    with pytest.raises(ValueError, match="must be an empty file"):
        splits("cam_vid", **camvid)
    assert (folder / LOCK).read_text() == "mine"
