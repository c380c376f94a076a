"""The course's application: a small web server on port 8080 that shows where it runs and can be made ill.

    /hostname      Hostname : <pod name>
    /version       Version : <$APP_VERSION>
    /health        200 "<pod name> is Running", or 500 while it is ill
    /unhealthy-3   the next three /health answers are 500 (any number from 1 to 99)
    /status500     /health answers 500 from now on, until the container is restarted
    /env           the environment, one variable a line
    anything else  a page that names the application, its version and the pod

It needs nothing but Python's built-in modules, writes one line for each request to its log, and ends at once on
SIGTERM, after the answers under way. This file is also what runs inside the image.
"""

from __future__ import annotations

import os
import signal
import socket
import threading

NAME = os.environ.get("APP_NAME", "app")
VERSION = os.environ.get("APP_VERSION", "v1")
PORT = int(os.environ.get("APP_PORT", "8080"))
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 500: "Internal Server Error"}


class Health:
    """How many more health checks are to fail; -1 means all of them."""

    def __init__(self) -> None:
        self._failures = 0
        self._lock = threading.Lock()

    def fail(self, times: int) -> None:
        with self._lock:
            self._failures = times

    def check(self) -> bool:
        with self._lock:
            if self._failures == 0:
                return True
            if self._failures > 0:
                self._failures -= 1
            return False


def answer(path: str, health: Health) -> tuple[int, str]:
    """Status and text for a path."""
    host = socket.gethostname()
    if path == "/hostname":
        return 200, f"Hostname : {host}\n"
    if path == "/version":
        return 200, f"Version : {VERSION}\n"
    if path in ("/health", "/healthz", "/ready"):
        return (200, f"{host} is Running\n") if health.check() else (500, f"{host} : Status Error\n")
    if path == "/status500":
        health.fail(-1)
        return 200, f"{host} : every health check fails from now on\n"
    if path.startswith("/unhealthy-"):
        times = path.removeprefix("/unhealthy-")
        if not times.isdigit() or not 1 <= int(times) <= 99:
            return 400, "use /unhealthy-N with N from 1 to 99\n"
        health.fail(int(times))
        return 200, f"{host} : the next {int(times)} health checks fail\n"
    if path == "/env":
        return 200, "".join(f"{key}={value}\n" for key, value in sorted(os.environ.items()))
    if path == "/":
        return 200, f"{NAME} {VERSION} on {host}\n"
    return 404, f"{path} is not here; try /hostname /version /health /unhealthy-3\n"


def exchange(connection: socket.socket, peer: str, health: Health) -> None:
    """Read one request, answer it, close."""
    with connection:
        connection.settimeout(10)
        try:
            head = b""
            while b"\r\n\r\n" not in head and len(head) < 16384:
                chunk = connection.recv(4096)
                if not chunk:
                    return
                head += chunk
            line = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
            if len(line) != 3:
                status, text, method, path = 400, "not an HTTP request\n", "?", "?"
            else:
                method, path = line[0], line[1].split("?", 1)[0]
                status, text = answer(path, health)
            body = text.encode()
            reply = (
                f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: text/plain; charset=utf-8\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            ).encode()
            connection.sendall(reply if method == "HEAD" else reply + body)
            print(f"{peer} {method} {path} {status}", flush=True)
        except OSError as error:
            print(f"{peer}: {error}", flush=True)


def main() -> None:
    health = Health()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    with socket.socket(
        socket.AF_INET6 if os.path.exists("/proc/net/if_inet6") else socket.AF_INET
    ) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("", PORT))
        listener.listen(128)
        print(f"{NAME} {VERSION} listens on port {PORT} (pod {socket.gethostname()})", flush=True)
        while True:
            connection, address = listener.accept()
            peer = address[0].removeprefix("::ffff:")
            threading.Thread(target=exchange, args=(connection, peer, health), daemon=True).start()


if __name__ == "__main__":
    main()
