"""Datasets that several processes prepare, or one that was killed."""

import concurrent.futures
import os
import threading
import time

import pytest
import tensorflow_datasets as tfds

from keras_deconv.data import load, splits, to_tfds
from tests import tiny_datasets


@pytest.fixture
def camvid(tmp_path):
    """Arguments with which a tiny CamVid is found or prepared."""
    tiny_datasets.write_camvid(tmp_path / "manual", {"train": 2})
    return dict(data_dir=tmp_path / "data", manual_dir=tmp_path / "manual")


def test_a_set_that_another_process_has_prepared_meanwhile_is_used(
    camvid, monkeypatch
):
    """tfds says that it cannot rename what it has written."""
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
        # The other one comes while this one works.
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


def test_what_a_killed_process_left_is_deleted(camvid):
    folder = camvid["data_dir"] / "cam_vid"
    older = folder / "incomplete.AAAAAA_1.0.0"
    left = folder / "incomplete.BBBBBB_1.0.0"
    other = folder / "incomplete.CCCCCC_2.0.0"
    for path in (older, left, other):
        path.mkdir(parents=True)
        (path / "cam_vid-train.tfrecord-00000-of-00001").write_bytes(b"half")
    # The kernel has released the lock; the file says when the process began.
    lock = folder / ".1.0.0.lock"
    lock.touch()
    begun = lock.stat().st_mtime
    os.utime(older, (begun - 60, begun - 60))
    os.utime(left, (begun, begun))
    for _ in range(2):
        assert splits("cam_vid", **camvid) == {"train": 2}
        assert sorted(os.listdir(folder)) == ["1.0.0", older.name, other.name]
        # The next one was killed when all was prepared.
        lock.touch()


def test_a_set_that_is_written_is_locked_too(tmp_path, monkeypatch):
    tiny_datasets.write_camvid(tmp_path, {"train": 2})
    store = tfds.dataset_builders.store_as_tfds_dataset
    locks = []

    def watched(**options):
        locks.extend((tmp_path / "data" / "mine").iterdir())
        return store(**options)

    monkeypatch.setattr(tfds.dataset_builders, "store_as_tfds_dataset", watched)
    to_tfds(
        "mine",
        {"train": (tmp_path / "train", tmp_path / "trainannot")},
        classes=[f"class_{i}" for i in range(11)],
        void_labels=(11,),
        data_dir=tmp_path / "data",
    )
    assert [path.name for path in locks] == [".1.0.0.lock"]
    assert os.listdir(tmp_path / "data" / "mine") == ["1.0.0"]
