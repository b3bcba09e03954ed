"""The peers of `attention bench` that run in Python: `attention.py` or `models.py` follows, whose classes are PEERS.

Reads a request per line, a JSON object, and answers with a JSON object per line:

    {"hello": {"threads": 2}}                                {"torch": "2.15.0", "onnxruntime": "1.32.0"}
    {"prepare": {"peer": "torch", WHAT}}                     {"how": "what runs"}
    {"run": {"peer": "torch", "seconds": 0.5}}               {"seconds": [0.011, 0.012]}
    {"product": {"dtype": "f32", "side": 1024}}              {"seconds": [0.020, 0.021]}

What cannot be done answers {"refused": "why"}. Whoever does not run sleeps: their threads must not spin while it is
another's turn.
"""

import json
import os
import sys
import time

# Read when the libraries start. Threads that wait by spinning take the cores from the others, and on cores that
# they share with us they are slower as well. Who wants to compare sets the variables.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KMP_BLOCKTIME", "0")


class Refused(Exception):
    """What a peer does not do."""


def timed(run, seconds):
    """The times of back-to-back runs until `seconds` are over."""
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def hello(peers, threads):
    answer = {}
    for name, peer in PEERS.items():
        try:
            peers[name] = peer(threads)
            answer[name] = peers[name].version
        except Exception as error:  # One that is there and does not start is missing all the same.
            answer[name] = None
            print(f"{name}: {error}", file=sys.stderr)
    return answer


def answer(peers, request):
    (what, given), = request.items()
    if what == "hello":
        return hello(peers, given["threads"])
    if what == "prepare":
        return peers[given["peer"]].prepare(given)
    if what == "run":
        return {"seconds": timed(peers[given["peer"]].run, given["seconds"])}
    if what == "product":
        return {"seconds": peers["torch"].product(given["dtype"], given["side"])}
    raise Refused(f"no request is called {what}")


def main():
    # Libraries that print must not print between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peers = {}
    for line in sys.stdin:
        try:
            reply = answer(peers, json.loads(line))
        except Exception as error:  # Whatever a peer fails with is for the report.
            reply = {"refused": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=answers, flush=True)
