"""RQ on four-step diamonds, one worker process without forks: ``python -m ... URL DIAMONDS``.

Prints steps, and the seconds from the start of the worker to the last step.
"""

from __future__ import annotations

import sys
import time

import redis
import rq

# Named by its path: RQ takes no function of the main module.
WORK = "tests.benchmarks.peers.rq_peer.work"


def work() -> None:
    pass


def main() -> None:
    url, diamonds = sys.argv[1], int(sys.argv[2])
    connection = redis.Redis.from_url(url)
    queue = rq.Queue(connection=connection)
    for _ in range(diamonds):
        a = queue.enqueue(WORK)
        b, c = queue.enqueue(WORK, depends_on=a), queue.enqueue(WORK, depends_on=a)
        queue.enqueue(WORK, depends_on=[b, c])
    started = time.perf_counter()
    rq.SimpleWorker([queue], connection=connection).work(burst=True, logging_level="ERROR")
    print(4 * diamonds, time.perf_counter() - started)


if __name__ == "__main__":
    main()
