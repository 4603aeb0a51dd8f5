"""Functions that detect quickly that hosts cannot be reached."""

from __future__ import annotations

import json
import pathlib
import socket
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable

# Without this check, tfds retries ten times with growing delays, for minutes.
_SECONDS = 8.0
_PORTS = {"http": 80, "https": 443, "ftp": 21}


def unreachable_hosts(urls: Iterable[str]) -> list[str]:
    """Return the hosts of `urls` that do not accept a connection in 8 seconds.

    If the environment sets a proxy, only the proxy must accept it.
    """
    addresses = {address for url in urls if (address := _address(url))}
    reached: set[tuple[str, int]] = set()

    def connect(address: tuple[str, int]) -> None:
        try:
            with socket.create_connection(address, timeout=_SECONDS):
                reached.add(address)
        except OSError:
            pass

    # Daemon threads can be abandoned; a name lookup does not have a timeout.
    threads = [
        threading.Thread(target=connect, args=(address,), daemon=True)
        for address in addresses
    ]
    deadline = time.monotonic() + _SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    return sorted(host for host, _ in addresses - reached)


def _address(url: str) -> tuple[str, int] | None:
    """Return the host and port for a URL, or None for local files."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        return None
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname):
        scheme = parts.scheme
        parts = urllib.parse.urlsplit(
            proxy if "://" in proxy else f"{scheme}://{proxy}"
        )
    host = parts.hostname
    return (host, parts.port or _PORTS.get(parts.scheme, 80)) if host else None


def downloaded_urls(folder: pathlib.Path) -> set[str]:
    """Return the URLs of the files that tfds keeps in its download folder."""
    urls: set[str] = set()
    for path in folder.rglob("*.INFO"):
        try:
            urls.update(json.loads(path.read_text()).get("urls", ()))
        except (OSError, ValueError, AttributeError):
            # tfds did not write this file.
            continue
    return urls
