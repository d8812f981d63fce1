"""The report of a running study as a local page: read from the study again whenever it has changed, never written."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from hrsearch.errors import InputError
from hrsearch.report.page import page
from hrsearch.study import read_study

EVERY_S = 30  # after so many seconds the browser asks again


def server_of(folder: Path, host: str, port: int) -> ThreadingHTTPServer:
    """A server of the report of the study in `folder`, not yet serving; port 0 takes any that is free."""
    return ThreadingHTTPServer((host, port), _handler(_rendering(folder)))


def _rendering(folder: Path) -> Callable[[], bytes]:
    """The page as it would be written now; made again only after the study's file has changed."""
    lock, kept = threading.Lock(), dict[tuple[int, int], bytes]()

    def render() -> bytes:
        journal = folder / "study.journal"
        stamp = (journal.stat().st_mtime_ns, journal.stat().st_size) if journal.is_file() else (0, 0)
        with lock:
            if stamp not in kept or stamp == (0, 0):
                kept.clear()
                kept[stamp] = page(read_study(folder)).encode()
            return kept[stamp]

    return render


def _handler(render: Callable[[], bytes]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/":
                self.send_error(404)
                return
            try:
                body = render()
            except InputError as error:  # its database is lost
                self.send_error(503, explain=str(error))
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Refresh", str(EVERY_S))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the terminal is the person's."""

    return Handler
