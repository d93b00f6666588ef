"""Entries whose outcome is known, for the script's own test."""

import os
import time

from tests.gpu.worker import Failure, Skip


def passing(toy, number):
    print(f"heard of {number}", flush=True)
    return {"number": number}


def failing(toy, number):
    raise Failure("too far", {"errors": {"a": 2.0}})


def raising(toy, number):
    raise ValueError("first line\nsecond line")


def skipping(toy, number):
    raise Skip("there is no such library")


def dying(toy, number):
    os._exit(7)


def hanging(toy, number):
    time.sleep(1000)


def process(toy):
    return {"id": os.getpid(), "flags": os.environ["XLA_FLAGS"]}
