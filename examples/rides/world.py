"""Passengers and drivers with their apps; at the end the books are checked. Usage: world.py RECORDS PASSENGERS RIDES-EACH DRIVERS

Drivers accept, decline, or look away until the offer is over; meanwhile they drive about. Every ride must be requested, have one driver and
end, once and in this order; no driver may have two rides at a time; every passenger must arrive from ride 1, 2, 3 …
"""

import heapq
import itertools
import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
from stage import Broker

MAP_CELLS = 4
PATIENCE_SECONDS = 60

chance = random.Random(11)
broker = Broker(sys.argv[1])
passengers = [f"passenger{number}" for number in range(int(sys.argv[2]))]
rides_each = int(sys.argv[3])
drivers = [f"driver{number}" for number in range(int(sys.argv[4]))]

# What is to be done when; the number keeps the order of what is due at the same time.
agenda = []
number = itertools.count()


def later(seconds, action):
    heapq.heappush(agenda, (time.monotonic() + seconds, next(number), action))


def somewhere():
    return {"column": chance.randrange(MAP_CELLS), "row": chance.randrange(MAP_CELLS)}


def ask(passenger):
    broker.publish("passengers", {"passenger": passenger, "from": somewhere(), "to": somewhere()})


def say(driver, says, **more):
    broker.publish("drivers", {"driver": driver, "says": says, **more})


def drive_about(driver):
    say(driver, "at", place=somewhere())
    later(chance.uniform(0.3, 0.9), lambda: drive_about(driver))


class Books:
    """What has been published, and what is wrong with it."""

    def __init__(self):
        self.mistakes = 0
        self.rides = {}
        self.driver_of = {}
        self.riding = {}
        self.taken = {}
        self.arrived = dict.fromkeys(passengers, 0)
        self.offers = 0

    def check(self, holds, what):
        if not holds:
            self.mistakes += 1
            print(f"WRONG: {what}", flush=True)

    def on_passenger(self, passenger, kind, rides):
        self.arrived[passenger] += 1
        self.check(rides == self.arrived[passenger], f"{passenger} arrived from {rides}, not {self.arrived[passenger]}")
        if self.arrived[passenger] < rides_each:
            later(chance.uniform(0.0, 0.1), lambda: ask(passenger))

    def on_ride(self, ride, kind, detail):
        steps = self.rides.setdefault(ride, [])
        expected = ["requested", "driver", "ended", None][len(steps) if len(steps) < 3 else 3]
        self.check(kind == expected, f"{ride} is {kind} after {steps}")
        steps.append(kind)
        if kind == "driver":
            self.driver_of[ride] = detail

    def on_driver(self, driver, kind, detail):
        if kind == "offered":
            self.offers += 1
            self.decide(driver, detail["ride"], detail["to"])
        elif kind == "took":
            self.check(driver not in self.riding, f"{driver} took {detail} and has {self.riding.get(driver)}")
            self.check(detail not in self.taken, f"{detail} is taken by {self.taken.get(detail)} and {driver}")
            self.riding[driver] = detail
            self.taken[detail] = driver
        else:
            self.check(self.riding.get(driver) == detail, f"{driver} finished {detail}, had {self.riding.get(driver)}")
            self.riding.pop(driver, None)

    def decide(self, driver, ride, to):
        mood = chance.random()
        if mood < 0.7:
            later(chance.uniform(0.0, 0.05), lambda: say(driver, "accept", ride=ride))
            later(chance.uniform(0.1, 0.2), lambda: self.drop_off(driver, ride, to))
        elif mood < 0.85:
            later(chance.uniform(0.0, 0.05), lambda: say(driver, "decline", ride=ride))

    def drop_off(self, driver, ride, to):
        """If the ride was had: it may have been accepted too late, or it is not yet known, for the node is down."""
        if self.riding.get(driver) == ride:
            say(driver, "drop-off", ride=ride, place=to)
        elif ride not in self.taken:
            later(0.1, lambda: self.drop_off(driver, ride, to))

    def close(self):
        for passenger in passengers:
            for count in range(1, rides_each + 1):
                ride = f"{passenger}-{count}"
                steps = self.rides.pop(ride, [])
                self.check(steps == ["requested", "driver", "ended"], f"{ride} was {steps}")
                self.check(self.taken.get(ride) == self.driver_of.get(ride), f"{ride} had another driver")
            self.check(self.arrived[passenger] == rides_each, f"{passenger} arrived {self.arrived[passenger]} times")
        self.check(not self.rides, f"nobody asked for {self.rides}")
        self.check(not self.riding, f"some never finish: {self.riding}")


def live(books):
    rides = len(passengers) * rides_each
    for driver in drivers:
        drive_about(driver)
    for passenger in passengers:
        ask(passenger)
    last = time.monotonic()
    ended = 0
    while True:
        for topic, news in broker.received():
            last = time.monotonic()
            _, whose, name = topic.split("/")
            kind, detail = (news, None) if isinstance(news, str) else next(iter(news.items()))
            {"passenger": books.on_passenger, "ride": books.on_ride, "driver": books.on_driver}[whose](name, kind, detail)
            if kind == "ended":
                ended += 1
                print(f"{ended} rides over", flush=True)
        now = time.monotonic()
        # What comes once too often comes late.
        if rides <= ended and sum(books.arrived.values()) == rides and not books.riding and last + 1.0 < now:
            return
        if last + PATIENCE_SECONDS < now:
            books.check(False, f"waited {PATIENCE_SECONDS} s in vain")
            return
        while agenda and agenda[0][0] <= now:
            heapq.heappop(agenda)[2]()
        time.sleep(0.002)


books = Books()
live(books)
books.close()
broker.close()
if books.mistakes:
    sys.exit(1)
print(f"{len(books.taken)} rides of {len(passengers)} passengers with {len(drivers)} drivers, after {books.offers} offers:")
print("each had one driver and ended once, and no driver had two at a time.")
