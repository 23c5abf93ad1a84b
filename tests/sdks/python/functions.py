"""The functions of tests/sdks.rs, written with StateFun's Python SDK 3.3.0 as it is published. Usage: functions.py PORT"""

import sys
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from statefun import (
    IntType,
    RequestReplyHandler,
    StatefulFunctions,
    StringType,
    ValueSpec,
    egress_message_builder,
    kafka_egress_message,
    message_builder,
    simple_type,
)

functions = StatefulFunctions()

# Any type of one's own: here a number in decimal digits.
DIGITS = simple_type("sdk/digits", lambda number: str(number).encode(), lambda data: int(data.decode()))


@functions.bind(
    "sdk/counter",
    specs=[
        ValueSpec("count", IntType, expire_after_write=timedelta(days=1)),
        ValueSpec("last", StringType, expire_after_call=timedelta(days=1)),
    ],
)
def counter(context, message):
    count = (context.storage.count or 0) + 1
    context.storage.count = count
    context.storage.last = message.as_string()
    own_id = context.address.id
    context.send_egress(
        kafka_egress_message("sdk/out", f"out/{own_id}", f"{count} {message.as_string()}")
    )
    mirror = message_builder("sdk/mirror", f"m{own_id}", int_value=count)
    context.send(mirror)
    if count % 3 == 0:
        context.send_after(timedelta(milliseconds=20), mirror)
    # What is never to come: it is cancelled by the next message.
    if count > 1:
        context.cancel_delayed_message(f"{own_id}-{count - 1}")
    context.send_after(timedelta(days=30), mirror, cancellation_token=f"{own_id}-{count}")
    if count % 5 == 0:
        context.send_egress(egress_message_builder("sdk/generic", count, DIGITS))


@functions.bind("sdk/mirror", specs=[ValueSpec("count", IntType)])
def mirror(context, message):
    assert message.is_int()
    count = (context.storage.count or 0) + 1
    context.storage.count = count
    context.send_egress(
        kafka_egress_message("sdk/out", f"out/{context.address.id}", f"{count} {count}")
    )


handler = RequestReplyHandler(functions)


class Endpoint(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            reply = handler.handle_sync(body)
        except Exception as error:
            text = repr(error).encode()
            self.send_response(500)
            self.send_header("content-type", "text/plain")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
            return
        self.send_response(200)
        self.send_header("content-type", "application/octet-stream")
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, *_):
        """A node that was killed does not read its answers."""


Server(("127.0.0.1", int(sys.argv[1])), Endpoint).serve_forever()
