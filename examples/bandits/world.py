"""Houses that know which flow temperature suits them, and tell the bandits; at the end the books are compared. Usage: world.py RECORDS ASKS

Every question must be answered once, for the segment of the features that the house had when it asked; what each bandit has counted must be
what was answered and told, arm by arm; and in the last third of a segment's answers its best arm must be most of them.
"""

import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
from stage import Broker

FLOW_CELSIUS = [35, 45, 55, 65]
SUITS = {"cold-home": 65, "cold-away": 45, "mild-home": 55, "mild-away": 35}
HOUSES = 16
# Of the last third of its answers, at least this part has a segment's best arm.
BEST_AT_LEAST = 0.6
PATIENCE_SECONDS = 60

chance = random.Random(4)
mistakes = []


def check(holds, what):
    if not holds:
        mistakes.append(what)
        print(f"WRONG: {what}", flush=True)


def is_right(segment, celsius):
    """Nine times in ten, if it suits; the further off, the less often."""
    steps = abs(FLOW_CELSIUS.index(celsius) - FLOW_CELSIUS.index(SUITS[segment]))
    return chance.random() < max(0.9 - 0.4 * steps, 0.05)


class House:
    def __init__(self, number):
        self.name = f"house-{number}"
        self.asks = 0
        self.waits_for = None
        self.change()

    def change(self):
        self.features = {"outside": round(chance.uniform(-10.0, 20.0), 1), "people": chance.choice([0, 0, 2, 4])}
        broker.publish("houses", {"house": self.name, **self.features})

    def ask(self):
        if chance.random() < 0.3:
            self.change()
        self.asks += 1
        self.waits_for = f"{self.name}-{self.asks}"
        broker.publish("houses", {"house": self.name, "ask": self.waits_for})

    def segment(self):
        weather = "cold" if self.features["outside"] < 5.0 else "mild"
        return f"{weather}-{'home' if 0 < self.features['people'] else 'away'}"


class Books:
    """What a segment was seen to answer and was told, arm by arm, and the answers in order."""

    def __init__(self):
        self.pulled = [0] * len(FLOW_CELSIUS)
        self.reward = [0] * len(FLOW_CELSIUS)
        self.answers = []

    def note(self, celsius, reward):
        self.pulled[FLOW_CELSIUS.index(celsius)] += 1
        self.reward[FLOW_CELSIUS.index(celsius)] += reward
        self.answers.append(celsius)


broker = Broker(sys.argv[1])
asks = int(sys.argv[2])
houses = {house.name: house for house in (House(number) for number in range(HOUSES))}
books = {segment: Books() for segment in SUITS}


def records(what):
    """Records as they come, until none has come for too long."""
    last = time.monotonic()
    while time.monotonic() < last + PATIENCE_SECONDS:
        for topic, document in broker.received():
            last = time.monotonic()
            yield topic, document
        time.sleep(0.002)
    check(False, f"waited {PATIENCE_SECONDS} s in vain: {what}")


def converse():
    asked = 0
    answered = 0
    for house in houses.values():
        house.ask()
        asked += 1
    for topic, prediction in records("a prediction"):
        house = houses[topic.removeprefix("prediction/")]
        check(prediction["ask"] == house.waits_for, f"{house.name} waits for {house.waits_for}: {prediction}")
        check(prediction["segment"] == house.segment(), f"{house.features} is {prediction['segment']}")
        house.waits_for = None
        answered += 1
        reward = int(is_right(prediction["segment"], prediction["celsius"]))
        books[prediction["segment"]].note(prediction["celsius"], reward)
        broker.publish("feedback", {"segment": prediction["segment"], "ask": prediction["ask"], "reward": reward})
        if answered % 50 == 0:
            print(f"{answered} predictions", flush=True)
        if asked < asks:
            house.ask()
            asked += 1
        if answered == asks:
            return


def compare():
    """The report comes behind all feedback: one client sends both."""
    for segment in SUITS:
        broker.publish("feedback", {"segment": segment, "report": True})
    missing = set(SUITS)
    for topic, report in records("a report"):
        segment = topic.removeprefix("report/")
        check(segment in missing, f"not asked for: {topic} {report}")
        if segment not in missing:
            continue
        missing.remove(segment)
        seen = books[segment]
        check(report["pulled"] == seen.pulled, f"{segment} pulled {report['pulled']}, answered {seen.pulled}")
        check(report["judged"] == seen.pulled, f"{segment} judged {report['judged']}, was told {seen.pulled}")
        check(report["reward"] == seen.reward, f"{segment} was rewarded {report['reward']}, told {seen.reward}")
        check(not report["open"], f"{segment} waits for {report['open']}")
        if not missing:
            return


def show():
    for segment, seen in books.items():
        last = seen.answers[-(len(seen.answers) // 3) :]
        part = last.count(SUITS[segment]) / max(len(last), 1)
        pulls = "  ".join(f"{celsius} °C {pulled:3}" for celsius, pulled in zip(FLOW_CELSIUS, seen.pulled))
        print(f"{segment}: {pulls}   best {SUITS[segment]} °C, {part:.0%} of the last third")
        check(BEST_AT_LEAST <= part, f"{segment} has not learnt")


converse()
compare()
broker.close()
show()
if mistakes:
    sys.exit(1)
print(f"{asks} questions were answered once each, and every count is right.")
