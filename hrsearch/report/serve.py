"""The report of a running study as a local page: read from the study again whenever it has changed, never written."""

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from hrsearch.errors import InputError
from hrsearch.report.page import page
from hrsearch.study import read_study

Rendering = Callable[[], bytes]
EVERY_S = 30  # after so many seconds the browser asks again


def server_of(folder: Path, host: str, port: int) -> ThreadingHTTPServer:
    """A server of the report of the study in `folder`, not yet serving; port 0 takes any that is free."""

    def table() -> bytes:
        return read_study(folder).table().to_csv(index=False).encode()

    made = {"/": (_rendering(folder), "text/html"), "/trials.csv": (table, "text/csv")}
    return ThreadingHTTPServer((host, port), _handler(made))


def _rendering(folder: Path) -> Rendering:
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


def _handler(made: Mapping[str, tuple[Rendering, str]]) -> type[BaseHTTPRequestHandler]:
    """`made` maps paths to what makes their bytes, and what kind they are of."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path not in made:
                self.send_error(404)
                return
            render, kind = made[self.path]
            try:
                body = render()
            except InputError as error:  # its database is lost
                self.send_error(503, explain=str(error))
                return
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            if kind == "text/html":
                self.send_header("Refresh", str(EVERY_S))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the terminal is the person's."""

    return Handler
