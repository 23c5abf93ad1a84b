"""Greets guests, with StateFun's Python SDK. functions.js is the same in JavaScript, on the same state. Usage: functions.py PORT"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from statefun import (
    IntType,
    RequestReplyHandler,
    StatefulFunctions,
    ValueSpec,
    kafka_egress_message,
    message_builder,
)

functions = StatefulFunctions()


@functions.bind("greeter/guest", specs=[ValueSpec("visits", IntType)])
def guest(context, message):
    """Somebody is at the door: the id says who. Counts the visits and tells the host."""
    visits = (context.storage.visits or 0) + 1
    context.storage.visits = visits
    context.send(message_builder("greeter/host", "house", int_value=visits))


@functions.bind("greeter/host", specs=[ValueSpec("guests", IntType)])
def host(context, message):
    """Greets who is announced, and counts all guests of the house."""
    guests = (context.storage.guests or 0) + 1
    context.storage.guests = guests
    name = context.caller.id
    text = f"Hello {name}! Visit {message.as_int()} of yours, {guests} of all."
    context.send_egress(kafka_egress_message("greeter/greetings", f"greetings/{name}", text))


handler = RequestReplyHandler(functions)


class Endpoint(BaseHTTPRequestHandler):
    """Python's own HTTP server; with any other it is the same line: bytes in, bytes out."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        reply = handler.handle_sync(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-type", "application/octet-stream")
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Endpoint).serve_forever()
