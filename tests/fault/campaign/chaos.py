"""Which process is struck, how, and for how long: chosen by the seed before anything runs."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tests.fault.campaign.fleet import NAMES, Fleet
from tests.support.servers import Server

SERVER: Final = "server"
_STOPS_PER_KILL: Final = 0.25
_SERVER_SHARE: Final = 0.12


class Blow(StrEnum):
    KILL = "killed"
    STOP = "stopped"


@dataclass(frozen=True)
class Strike:
    """``gap`` seconds after the strike before, ``target`` is killed and started again, or stopped
    and continued, ``away`` seconds later."""

    target: str
    blow: Blow
    gap: float
    away: float

    @property
    def seconds(self) -> float:
        return self.gap + self.away


def strikes(seed: int, kills: int) -> list[Strike]:
    """This many kills, and a quarter as many stops between them."""
    dice = random.Random(f"{seed}/strikes")
    stops = round(kills * _STOPS_PER_KILL)
    blows = [Blow.KILL] * kills + [Blow.STOP] * stops
    dice.shuffle(blows)
    return [_strike(dice, blow) for blow in blows]


def _strike(dice: random.Random, blow: Blow) -> Strike:
    target = SERVER if dice.random() < _SERVER_SHARE else dice.choice(NAMES)
    longest = 0.6 if blow is Blow.KILL else 2.5
    return Strike(target, blow, gap=dice.uniform(0.05, 0.6), away=dice.uniform(0, longest))


class Chaos:
    """Carries strikes out, and counts those that hit."""

    def __init__(self, fleet: Fleet, server: Server) -> None:
        self._fleet = fleet
        self._server = server
        self.hits: Counter[tuple[Blow, str]] = Counter()
        """The strikes that hit, by kind and role."""

    def run(self, planned: list[Strike]) -> Iterator[None]:
        """Carries the strikes out; yields after each."""
        for strike in planned:
            time.sleep(strike.gap)
            strike_it = self._on_server if strike.target == SERVER else self._on_actor
            hit = strike_it(strike)
            self.hits[strike.blow, strike.target.partition("-")[0]] += hit
            yield

    def _on_server(self, strike: Strike) -> bool:
        if strike.blow is Blow.KILL:
            self._server.kill()
            time.sleep(strike.away)
            self._server.restart()
        else:
            os.kill(self._server.pid, signal.SIGSTOP)
            time.sleep(strike.away)
            os.kill(self._server.pid, signal.SIGCONT)
        return True

    def _on_actor(self, strike: Strike) -> bool:
        actor = self._fleet.actors[strike.target]
        if strike.blow is Blow.KILL:
            hit = actor.kill()
            time.sleep(strike.away)
            if hit:
                actor.start()
            return hit
        hit = actor.send(signal.SIGSTOP)
        time.sleep(strike.away)
        actor.send(signal.SIGCONT)
        return hit
