"""Which flow temperature suits a house like this? A bandit for each segment of houses finds out. Usage: functions.py PORT

    readings ─→ bandits/house (id: house) ── feature vector's segment ──→ bandits/heating (id: segment) ─→ prediction
                 keeps its feature vector                                   keeps its arms  ↑
                                                                                            └── feedback: was it right?

An arm is a flow temperature. Which to pull is decided by its upper confidence bound, without dice: a call that is repeated after a crash
decides the same.
"""

import json
import math
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from statefun import (
    RequestReplyHandler,
    StatefulFunctions,
    ValueSpec,
    kafka_egress_message,
    message_builder,
    simple_type,
)

FLOW_CELSIUS = [35, 45, 55, 65]
# How curious a bandit is: larger tries arms that did badly for longer.
CURIOSITY = 0.5
# Predictions of one segment that may wait for their feedback; the oldest is forgotten beyond.
OPEN_MAX = 1000

JSON = simple_type("bandits/json", lambda value: json.dumps(value).encode(), json.loads)

functions = StatefulFunctions()


@functions.bind("bandits/house", specs=[ValueSpec("features", JSON)])
def house(context, message):
    """Readings, `{"house", "outside", …}`, go into the feature vector; a question, `{"house", "ask"}`, takes it to its segment."""
    event = message.as_type(JSON)
    features = context.storage.features or {"outside": 10.0, "people": 0}
    if "ask" not in event:
        context.storage.features = {name: event.get(name, value) for name, value in features.items()}
        return
    question = {"house": context.address.id, "ask": event["ask"]}
    context.send(message_builder("bandits/heating", segment(features), value=question, value_type=JSON))


def segment(features):
    weather = "cold" if features["outside"] < 5.0 else "mild"
    return f"{weather}-{'home' if 0 < features['people'] else 'away'}"


@functions.bind("bandits/heating", specs=[ValueSpec("arms", JSON)])
def heating(context, message):
    """Answers `{"house", "ask"}` with an arm, and learns from `{"segment", "ask", "reward"}`; `{"segment", "report"}` shows what it knows."""
    said = message.as_type(JSON)
    arms = context.storage.arms or {
        "pulled": [0] * len(FLOW_CELSIUS),
        "judged": [0] * len(FLOW_CELSIUS),
        "reward": [0] * len(FLOW_CELSIUS),
        "open": {},
    }
    own = context.address.id
    if "report" in said:
        context.send_egress(egress(f"report/{own}", {"segment": own, **arms}))
        return
    if "reward" in said:
        arm = arms["open"].pop(said["ask"], None)
        if arm is None:
            # Judged already, or forgotten.
            return
        arms["judged"][arm] += 1
        arms["reward"][arm] += said["reward"]
    else:
        arm = best(arms)
        arms["pulled"][arm] += 1
        arms["open"][said["ask"]] = arm
        if OPEN_MAX < len(arms["open"]):
            del arms["open"][next(iter(arms["open"]))]
        prediction = {"ask": said["ask"], "segment": own, "celsius": FLOW_CELSIUS[arm]}
        context.send_egress(egress(f"prediction/{said['house']}", prediction))
    context.storage.arms = arms


def best(arms):
    """The arm that may be the best: each once, then by mean reward and by how little is known (UCB1, Auer et al. 2002)."""
    untried = [arm for arm, pulled in enumerate(arms["pulled"]) if pulled == 0]
    if untried:
        return untried[0]
    pulls = sum(arms["pulled"])

    def bound(arm):
        mean = arms["reward"][arm] / max(arms["judged"][arm], 1)
        return mean + math.sqrt(CURIOSITY * math.log(pulls) / arms["pulled"][arm])

    return max(range(len(FLOW_CELSIUS)), key=bound)


def egress(topic, document):
    return kafka_egress_message("bandits/predictions", topic, json.dumps(document))


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
