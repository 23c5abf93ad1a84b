// Greets guests, with StateFun's JavaScript SDK. functions.py is the same in Python, on the same state. Usage: node functions.js PORT
"use strict";

const http = require("http");
const { StateFun, kafkaEgressMessage, messageBuilder } = require("apache-flink-statefun");

const statefun = new StateFun();

// Somebody is at the door: the id says who. Counts the visits and tells the host.
statefun.bind({
    typename: "greeter/guest",
    specs: [{ name: "visits", type: StateFun.intType() }],
    fn(context, message) {
        const visits = (context.storage.visits || 0) + 1;
        context.storage.visits = visits;
        context.send(messageBuilder({ typename: "greeter/host", id: "house", value: visits, valueType: StateFun.intType() }));
    },
});

// Greets who is announced, and counts all guests of the house.
statefun.bind({
    typename: "greeter/host",
    specs: [{ name: "guests", type: StateFun.intType() }],
    fn(context, message) {
        const guests = (context.storage.guests || 0) + 1;
        context.storage.guests = guests;
        const name = context.caller.id;
        const text = `Hello ${name}! Visit ${message.asInt()} of yours, ${guests} of all.`;
        context.send(kafkaEgressMessage({ typename: "greeter/greetings", topic: `greetings/${name}`, value: text }));
    },
});

http.createServer(statefun.handler()).listen(Number(process.argv[2]), "127.0.0.1");
