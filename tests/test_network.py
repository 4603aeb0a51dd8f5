"""Without a network, a download fails within seconds."""

import json
import socket
import threading
from unittest import mock

import pytest
import tensorflow_datasets as tfds

from keras_deconv import _network
from keras_deconv.data import splits


@pytest.fixture
def server():
    """A port of this machine that answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def free_port():
    """A port of this machine that refuses."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_hosts_that_answer(server):
    urls = [f"http://127.0.0.1:{server}/{name}.zip" for name in "ab"]
    assert _network.unreachable_hosts(urls) == []
    assert _network.unreachable_hosts([]) == []
    assert _network.unreachable_hosts(["/a/file", "gs://bucket/file"]) == []


def test_hosts_that_refuse(server):
    urls = [
        f"http://127.0.0.1:{server}/a.zip",
        f"http://localhost:{free_port()}/a.zip",
        "https://nowhere.invalid/a.zip",
    ]
    found = _network.unreachable_hosts(urls)
    assert found == ["localhost", "nowhere.invalid"]


def test_a_proxy_has_to_answer(server, monkeypatch):
    urls = ["http://nowhere.invalid/a.zip"]
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server}")
    assert _network.unreachable_hosts(urls) == []
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{free_port()}")
    assert _network.unreachable_hosts(urls) == ["127.0.0.1"]
    monkeypatch.setenv("no_proxy", "nowhere.invalid")
    assert _network.unreachable_hosts(urls) == ["nowhere.invalid"]


def test_looking_up_a_name_does_not_hang(monkeypatch):
    is_over = threading.Event()
    all_at_once = threading.Barrier(10)
    timeouts = []

    def hang(address, timeout):
        timeouts.append(timeout)
        all_at_once.wait()
        is_over.wait()
        raise OSError("too late")

    monkeypatch.setattr(socket, "create_connection", hang)
    monkeypatch.setattr(_network, "_SECONDS", 0.5)
    names = [f"slow{number}" for number in range(9)]
    hosts = _network.unreachable_hosts(f"http://{name}/a" for name in names)
    # Though no thread has come back.
    assert not is_over.is_set()
    assert hosts == names
    # All nine have begun, not one after another.
    all_at_once.wait(60)
    assert timeouts == [0.5] * 9
    is_over.set()


def test_a_host_has_eight_seconds():
    """The promise is that a download fails within ten."""
    assert _network._SECONDS == 8


@pytest.fixture
def offline(monkeypatch):
    """No host can be connected to, and a download would be noticed."""

    def refuse(*_, **__):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)
    with mock.patch.object(
        tfds.download.DownloadManager, "download_and_extract"
    ) as download:
        download.side_effect = OSError("it would try for minutes")
        yield download


def test_a_download_fails_at_once(tmp_path, offline):
    with pytest.raises(
        OSError,
        match=r"'oxford_iiit_pet' cannot be downloaded: there is no connection "
        r"to thor.robots.ox.ac.uk\. Without a network, put annotations\.tar\.gz"
        r", images\.tar\.gz into a folder and pass it as manual_dir\.$",
    ):
        splits("oxford_iiit_pet", data_dir=tmp_path)
    with pytest.raises(OSError, match=r"'cam_vid' cannot.*github\.com"):
        splits("cam_vid", data_dir=tmp_path)
    offline.assert_not_called()


def test_what_is_there_needs_no_network(tmp_path, offline):
    """Archives in a folder, or kept by tfds; then tfds is asked."""
    known = tfds.builder_cls("oxford_iiit_pet").url_infos
    manual, downloads = tmp_path / "manual", tmp_path / "data" / "downloads"
    manual.mkdir()
    downloads.mkdir(parents=True)
    for number, (url, info) in enumerate(known.items()):
        (manual / info.filename).touch()
        text = json.dumps({"urls": [url], "dataset_names": ["oxford_iiit_pet"]})
        (downloads / f"{number}.INFO").write_text(text)
    (downloads / "odd.INFO").write_text("no JSON")
    with pytest.raises(OSError, match="it would try for minutes"):
        splits("oxford_iiit_pet", data_dir=tmp_path / "new", manual_dir=manual)
    with pytest.raises(OSError, match="it would try for minutes"):
        splits("oxford_iiit_pet", data_dir=tmp_path / "data")
    assert offline.call_count == 2
