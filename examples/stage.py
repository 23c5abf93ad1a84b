"""MQTT for the simulated worlds of the examples, over Mosquitto's own clients, so that nothing need be installed for it.

What comes is read from a file that `listen` in stage.sh has written to; what goes is handed to one `mosquitto_pub` for each topic, exactly
once and in order. BROKER_PORT says where the broker is.
"""

import json
import os
import subprocess


class Broker:
    def __init__(self, records):
        self._records = open(records, encoding="utf-8")
        self._rest = ""
        self._publishers = {}

    def received(self):
        """What has come since the last call: topic and JSON document of each record."""
        *lines, self._rest = (self._rest + self._records.read()).split("\n")
        for line in lines:
            topic, _, payload = line.partition(" ")
            yield topic, json.loads(payload)

    def publish(self, topic, document):
        if topic not in self._publishers:
            command = ["mosquitto_pub", "-p", os.environ["BROKER_PORT"], "-q", "2", "-l", "-t", topic]
            self._publishers[topic] = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, bufsize=1)
        self._publishers[topic].stdin.write(json.dumps(document) + "\n")

    def close(self):
        """Waits until the broker has everything."""
        for publisher in self._publishers.values():
            publisher.stdin.close()
            publisher.wait()
