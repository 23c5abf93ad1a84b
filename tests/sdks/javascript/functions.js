// The functions of tests/sdks.rs, written with StateFun's JavaScript SDK 3.3.0 as it is published. Usage: node functions.js PORT
"use strict";

const http = require("http");
const { StateFun, kafkaEgressMessage, egressMessageBuilder, messageBuilder } = require("apache-flink-statefun");

const statefun = new StateFun();
const DAY = 24 * 3600 * 1000;

// Any type of one's own: here a number in decimal digits.
const DIGITS = StateFun.customType("sdk/digits", (number) => Buffer.from(String(number)), (data) => Number(data.toString()));

statefun.bind({
    typename: "sdk/counter",
    specs: [
        { name: "count", type: StateFun.intType(), expireAfterWrite: DAY },
        { name: "last", type: StateFun.stringType(), expireAfterCall: DAY },
    ],
    fn(context, message) {
        const count = (context.storage.count || 0) + 1;
        const text = message.asString();
        context.storage.count = count;
        context.storage.last = text;
        const id = context.self.id;
        context.send(kafkaEgressMessage({ typename: "sdk/out", topic: `out/${id}`, value: `${count} ${text}` }));
        const mirror = () => messageBuilder({ typename: "sdk/mirror", id: `m${id}`, value: count, valueType: StateFun.intType() });
        context.send(mirror());
        if (count % 3 === 0) {
            context.sendAfter(20, mirror());
        }
        // What is never to come: it is cancelled by the next message.
        if (count > 1) {
            context.cancelDelayedMessage(`${id}-${count - 1}`);
        }
        context.sendAfter(30 * DAY, mirror(), `${id}-${count}`);
        if (count % 5 === 0) {
            context.send(egressMessageBuilder({ typename: "sdk/generic", value: count, valueType: DIGITS }));
        }
    },
});

statefun.bind({
    typename: "sdk/mirror",
    specs: [{ name: "count", type: StateFun.intType() }],
    fn(context, message) {
        if (!message.isInt()) {
            throw new Error("no int");
        }
        const count = (context.storage.count || 0) + 1;
        context.storage.count = count;
        context.send(kafkaEgressMessage({ typename: "sdk/out", topic: `out/${context.self.id}`, value: `${count} ${count}` }));
    },
});

http.createServer(statefun.handler()).listen(Number(process.argv[2]), "127.0.0.1");
