"""Writes vectors.txt: requests as protobuf writes them, and what StateFun's Python SDK answers to these very bytes.

    python3 -m venv venv && venv/bin/pip install apache-flink-statefun==3.3.0 'protobuf<4'
    PYTHONHASHSEED=0 venv/bin/python make.py > vectors.txt
"""

from datetime import timedelta

from statefun import *
from statefun.request_reply_pb2 import ToFunction, TypedValue

functions = StatefulFunctions()
NOTE = simple_type(typename="example/note", serialize_fn=str.encode, deserialize_fn=bytes.decode)


@functions.bind(
    typename="example/greeter",
    specs=[
        ValueSpec("seen", LongType),
        ValueSpec("name", StringType, expire_after_write=timedelta(seconds=90)),
        ValueSpec("zero", IntType, expire_after_call=timedelta(milliseconds=1500)),
        ValueSpec("kept", NOTE),
    ],
)
def greet(context, message):
    if message.is_string() and message.as_string() == "quiet":
        return
    storage = context.storage
    storage.seen = (storage.seen or 0) + 1
    storage.zero = 0
    del storage.name
    context.send(message_builder("example/greeter", "first", int_value=-1))
    context.send_after(timedelta(seconds=5), message_builder("example/other", "w", str_value="later"), "token-1")
    context.cancel_delayed_message("token-0")
    context.send_after(timedelta(0), message_builder("example/other", "x", bool_value=False))
    context.send(message_builder("example/other", "second", value="note", value_type=NOTE))
    context.send_egress(kafka_egress_message("example/out", topic="greetings", key="Bob", value="hi"))
    context.send_egress(EgressMessage("example/out", TypedValue(typename="a/b", has_value=True)))


def tell(name, data):
    print(name, data.hex() or "-")


def request(target_id):
    to_function = ToFunction()
    batch = to_function.invocation
    batch.target.namespace, batch.target.type, batch.target.id = "example", "greeter", target_id
    return to_function, batch


def value(typename, data, has_value=True, unknown=b""):
    typed = TypedValue(typename=typename, has_value=has_value, value=data)
    return TypedValue.FromString(typed.SerializeToString() + unknown)


def state(batch, name, typed=None):
    persisted = batch.state.add()
    persisted.state_name = name
    if typed is not None:
        persisted.state_value.CopyFrom(typed)


STRING = "io.statefun.types/string"
handler = RequestReplyHandler(functions)

first, batch = request("Bob")
batch.invocations.add().argument.CopyFrom(value(STRING, b"\x0a\x02hi"))
tell("request.first", first.SerializeToString())
tell("reply.missing", handler.handle_sync(first.SerializeToString()))

quiet, batch = request("Eve")
for name in ["kept", "name", "seen", "zero"]:
    state(batch, name)
batch.invocations.add().argument.CopyFrom(value(STRING, b"\x0a\x05quiet"))
tell("request.quiet", quiet.SerializeToString())
tell("reply.nothing", handler.handle_sync(quiet.SerializeToString()))

full, batch = request("Bob")
# Field 4 is none of StateFun's: a fork's.
state(batch, "kept", value("example/note", b"as it was", unknown=b"\x22\x03abc"))
state(batch, "name")
state(batch, "seen", value("io.statefun.types/long", bytes([9, 7, 0, 0, 0, 0, 0, 0, 0])))
state(batch, "zero", value("io.statefun.types/int", b""))
loud = batch.invocations.add()
loud.argument.CopyFrom(value(STRING, b"\x0a\x04loud", unknown=b"\x22\x03abc"))
again = batch.invocations.add()
again.caller.namespace, again.caller.type, again.caller.id = "example", "other", "y"
again.argument.CopyFrom(value(STRING, b"\x0a\x05quiet"))
absent = batch.invocations.add()
absent.caller.namespace, absent.caller.type = "example", "other"
absent.argument.CopyFrom(value("example/note", b"", has_value=False))
tell("request.full", full.SerializeToString())
del batch.invocations[2]
tell("reply.effects", handler.handle_sync(full.SerializeToString()))
