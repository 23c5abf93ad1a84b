"""The function of benches/remote.rs with StateFun's Python SDK, each connection a thread. Usage: functions.py PORT"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from statefun import LongType, RequestReplyHandler, StatefulFunctions, ValueSpec, kafka_egress_message

functions = StatefulFunctions()


@functions.bind("bench/count", specs=[ValueSpec("count", LongType)])
def count(context, message):
    context.storage.count = (context.storage.count or 0) + 1
    text = f"{context.storage.count} {message.as_string()}"
    context.send_egress(kafka_egress_message("bench/out", f"out/{context.address.id}", text))


handler = RequestReplyHandler(functions)


class Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self):
        reply = handler.handle_sync(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-type", "application/octet-stream")
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)
        self.wfile.flush()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 256


Server(("127.0.0.1", int(sys.argv[1])), Endpoint).serve_forever()
