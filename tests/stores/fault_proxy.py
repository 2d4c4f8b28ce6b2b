"""A proxy before an S3 server that misbehaves as networks do: it loses replies after the request took effect, and says 503."""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class FaultProxy:
    """`faults` is a list of what to do with the next PUTs: "drop-reply", "503", "409"; when it is empty, requests just pass."""

    def __init__(self, endpoint):
        self.faults = []
        self.puts = 0
        target = urlsplit(endpoint).netloc
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = proxy._next() if self.command == "PUT" else None
                if fault in ("503", "409"):
                    return self._answer(int(fault), {}, b"<Error><Code>Slow</Code></Error>")
                connection = http.client.HTTPConnection(target, timeout=30)
                connection.request(self.command, self.path, body, dict(self.headers))
                reply = connection.getresponse()
                data = reply.read()
                connection.close()
                if fault == "drop-reply":
                    self.close_connection = True
                    return self.connection.close()
                self._answer(reply.status, dict(reply.getheaders()), data)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _pass  # noqa: N815

            def _answer(self, status, headers, data):
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("transfer-encoding", "connection", "server", "date"):
                        self.send_header(name, value)
                if "content-length" not in {name.lower() for name in headers}:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def log_message(self, *args):
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                """A connection that we closed on purpose."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _next(self):
        self.puts += 1
        return self.faults.pop(0) if self.faults else None

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
