"""A server that answers with what it was asked: the least that an engine needs, with the standard library alone."""

import argparse
import json
import pathlib
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

parser = argparse.ArgumentParser()
parser.add_argument("--model", type=pathlib.Path, required=True)
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--cache", type=pathlib.Path)
parser.add_argument("--verbose", action="store_true")
args = parser.parse_args()

lock = threading.Lock()
total = running = 0


class Echo(BaseHTTPRequestHandler):
    def do_GET(self):
        pages = {
            "/healthz": "ok",
            "/about": json.dumps({"server": {"name": "echo", "version": "1.2.3"}, "model": str(args.model)}),
            "/metrics": f"echo_requests_total {total}\necho_requests_running {running}\n",
        }
        self.answer(200 if self.path in pages else 404, pages.get(self.path, ""))

    def do_POST(self):
        global total, running
        with lock:
            total, running = total + 1, running + 1
        try:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.answer(200, json.dumps({"choices": [{"text": request["prompt"]}]}))
        finally:
            with lock:
                running -= 1

    def answer(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format, *values):
        if args.verbose:
            super().log_message(format, *values)


if not args.model.exists():
    sys.exit(f"no model {args.model}")
if args.cache:
    args.cache.mkdir(parents=True)
server = ThreadingHTTPServer((args.host, args.port), Echo)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print("serving", args.model)
server.serve_forever()
