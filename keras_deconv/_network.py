"""Finding out quickly that there is no network."""

from __future__ import annotations

import json
import pathlib
import socket
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable

# tfds tries ten times, and waits longer each time: minutes in all.
_SECONDS = 8.0
_PORTS = {"http": 80, "https": 443, "ftp": 21}


def unreachable_hosts(urls: Iterable[str]) -> list[str]:
    """Return the hosts of `urls` that cannot be connected to in 8 seconds.

    Where a proxy is set in the environment, it is the proxy that must answer.
    """
    addresses = {address for url in urls if (address := _address(url))}
    reached: set[tuple[str, int]] = set()

    def connect(address: tuple[str, int]) -> None:
        try:
            with socket.create_connection(address, timeout=_SECONDS):
                reached.add(address)
        except OSError:
            pass

    # Threads that nobody waits for: looking up a name has no time limit.
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
    """Return host and port to connect to for a URL, None for local files."""
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
            # Not written by tfds: the file says nothing.
            continue
    return urls
