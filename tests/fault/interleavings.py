"""Every interleaving of the server calls of a few actors on one small graph.

An operation is a generator that yields calls, so a schedule is a sequence of "who makes the next
call". The explorer goes through all of them depth first, on a real server: after each call it dumps
the partition's keys, and it restores them to try another. Two schedules that lead to the same state
are followed once from there on; equal states have equal records, queue and outbox, leaving out
times and ids, and equal actors, of whom two workers may have changed places.

The actors are workers, which claim one step at a time and report it as completed or as failed, both
of which are tried; executors, which do that with a ticket that is delivered twice; a canceller; an
appender from outside; and a reconciler. An idle worker asks only when a step is available, as an
empty answer changes nothing.

Steps may append others, of which whoever appends reads all that it needs at one moment: the server
refuses what has been read before another append.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

from rwf import Client, CommandRejected, Completion
from rwf.model.states import TERMINAL_STEPS, StepState
from rwf.model.views import ClaimedStep
from rwf.ops.appending import append
from rwf.ops.cancel import request_cancel
from rwf.ops.claims import Claimer, claim_in
from rwf.ops.complete import complete_step
from rwf.ops.tickets import start_ticket
from rwf.protocol.functions.claims import DispatchSteps
from rwf.protocol.keys import PARTITION_SLOTS
from rwf.protocol.records import Record, Row
from rwf.protocol.requests import Call, Op, Read
from rwf.repair.reconcile import reconcile
from tests.model.graphs import CANCEL, CONTINUE, ON_FAILURE, graph
from tests.model.growing import WithAppends
from tests.model.plain import Definition, Fragment, Refused, differences
from tests.model.system import ClientSystem, build, built
from tests.support import invariants
from tests.support.flows import one_call, raw

OUTCOMES: Final = ("completed", "failed")
SKIPPING: Final = (*OUTCOMES, "skipped", "skipped branch")
"""The reports of a worker where steps skip themselves, or their branches."""
GROWING: Final = (*OUTCOMES, "grows")
"""The reports of a worker where a step of the graph may complete and append one: what waits for it
then waits for both."""
_OUTSIDE: Final = "outside"
_TOKEN: Final = "token"
"""The start of the tokens of what is appended, which are the same however often an operation is
begun anew."""
_LEASE: Final = 3600.0
_NEVER: Final = 2**42  # a time in ms


def graphs(size: int) -> list[Definition]:
    """Every graph of so many steps, up to isomorphism; an edge cancels or goes on."""
    pairs = list(itertools.combinations(range(size), 2))
    found: dict[tuple[tuple[int, int, str], ...], Definition] = {}
    for policies in itertools.product((None, CANCEL, CONTINUE), repeat=len(pairs)):
        edges = [(*pair, policy) for pair, policy in zip(pairs, policies, strict=True) if policy]
        canonical = min(
            tuple(sorted((order[parent], order[child], policy) for parent, child, policy in edges))
            for order in itertools.permutations(range(size))
        )
        going_on = [(parent, child) for parent, child, policy in edges if policy == CONTINUE]
        chosen = [(parent, child) for parent, child, _ in edges]
        found.setdefault(canonical, graph(size, chosen, going_on=going_on, max_attempts=1))
    return list(found.values())


def branching_graphs(size: int, *, always: bool = False) -> list[Definition]:
    """Every graph of so many steps with an on_failure edge, up to isomorphism of what is below; or
    those whose last step always runs."""
    pairs = list(itertools.combinations(range(size), 2))
    found = []
    policies = (None, CANCEL) if always else (None, CANCEL, ON_FAILURE)
    for chosen in itertools.product(policies, repeat=len(pairs)):
        edges = [(pair, policy) for pair, policy in zip(pairs, chosen, strict=True) if policy]
        if not always and all(policy == CANCEL for _, policy in edges):
            continue
        made = graph(size, [pair for pair, _ in edges], max_attempts=1)
        for edge, (_, policy) in zip(made["edges"], edges, strict=True):
            edge["policy"] = policy
        if always:
            made["steps"][-1]["always"] = True
        found.append(made)
    return found


@dataclass(frozen=True)
class Choice:
    """The choice of a worker that is about to report a step: it may report any of these."""

    step: str
    lease: str


End = tuple[tuple[str, str], ...]
"""The names and states of all steps."""
Program = Callable[[Client, str], Op[Any]]


def worker(client: Client, _workflow_id: str) -> Any:
    """Claims steps and reports them, for ever."""
    claimer = Claimer.checked(["default"], "w", _LEASE)
    while True:
        _, claims = yield from claim_in(client._ctx, 0, claimer, 1)
        for claim in claims:
            item = _reported(claim, (yield Choice(claim.step, claim.lease)))
            yield from complete_step(client._ctx, item)


def _reported(claim: ClaimedStep, choice: str) -> Completion:
    """The report of a claimed step that stands for a choice."""
    status, _, branch = choice.partition(" ")
    grows = status == "grows"
    return Completion(
        workflow_id=claim.workflow_id,
        step=claim.step,
        status="completed" if grows else status,
        lease=claim.lease,
        branch=bool(branch),
        append=built(_fragment(claim.step)) if grows else None,
    )


def _fragment(step: str) -> Fragment:
    """The steps that a step appends."""
    return [(f"{step}x", [])]


def executor(client: Client, _workflow_id: str) -> Any:
    """Dispatches steps one after the other, each to two runs at once, and reports them, for
    ever."""
    claimer = replace(Claimer.checked(["default"], "d", _LEASE), function=DispatchSteps)
    while True:
        _, tickets = yield from claim_in(client._ctx, 0, claimer, 1)
        for ticket in tickets:
            text = f"{ticket.workflow_id}/{ticket.step}/{ticket.lease.rstrip('.')}"
            held = []
            for run in ("first", "second"):
                with suppress(CommandRejected):
                    held += [(yield from start_ticket(client._ctx, text, run, "w", _LEASE))]
            for claim in held:
                item = _reported(claim, (yield Choice(claim.step, claim.lease)))
                yield from complete_step(client._ctx, item)


def canceller(client: Client, workflow_id: str) -> Op[Any]:
    """Asks the workflow to end, which may be too late."""
    with suppress(CommandRejected):
        yield from request_cancel(client._ctx, workflow_id, None, None)


def appender(client: Client, workflow_id: str) -> Op[Any]:
    """Appends a step behind the first one, which may be too late."""
    with suppress(CommandRejected):
        yield from append(client._ctx, workflow_id, built(_FROM_OUTSIDE), None, None)


_FROM_OUTSIDE: Final[Fragment] = [(_OUTSIDE, [("s0", CANCEL)])]


def reconciler(client: Client, workflow_id: str) -> Op[Any]:
    """Looks at the workflow once."""
    return reconcile(client._ctx, workflow_id)


@dataclass(frozen=True)
class Actor:
    """An actor between two of its calls: the answers that it got so far, and its next call.

    ``next`` is None when it has ended. ``held`` is the step that it reports, with its choice made.
    """

    program: Program
    replies: tuple[Any, ...]
    next: Call | Read | Choice | None
    held: Choice | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Everything on which its further calls depend. None of these operations keeps more of its
        replies than its next call."""
        if isinstance(self.next, Choice):
            return "report", self.next.step
        if self.next is None:
            return "", self.program.__name__
        if isinstance(self.next, Read):
            return "read", self.program.__name__
        if self.next.function == "discard_fragment":
            return self.next.function, f"{self.next.args[0]!r} {len(self.replies)}"
        if growth := [arg for arg in self.next.args if str(arg).startswith(f"{_TOKEN}")]:
            about = self.next.args if self.next.function == "stage_fragment" else growth
            return self.next.function, str(about)
        started = self._started()
        arguments = {
            "reserve_steps": (), "cancel": (), "start_steps": started, "dispatch_steps": started,
            "start_ticket": self.next.args[:3:2],
        }  # fmt: skip
        about = arguments.get(self.next.function, self.next.args)
        return self.next.function, str(about)

    def _started(self) -> list[str]:
        """The steps that the next call starts."""
        assert isinstance(self.next, Call)
        entries = (str(argument).split(",") for argument in self.next.args)
        return [entry[1] for entry in entries if len(entry) == 3]


@dataclass(frozen=True)
class Node:
    """A state of the server and of all actors, and the model after the same commands."""

    dumps: tuple[bytes | None, ...]
    key: tuple[Any, ...]
    states: dict[str, StepState]
    ready: bool
    reserved: tuple[bytes, ...]
    unwalked: bool
    cancelled: bool
    actors: tuple[Actor, ...]
    model: WithAppends

    @property
    def whole_key(self) -> tuple[Any, ...]:
        """Two nodes with equal keys have the same future."""
        return self.key, tuple(sorted(one.key for one in self.actors))


@dataclass
class Explorer:
    """Explores one graph; AssertionError, with the schedule, at the first breach.

    ``exact`` holds the model to every state: for a server that walks whole releases in one call.
    Otherwise only ends are compared, with the states that the model can end in.
    """

    client: Client
    definition: Definition
    programs: tuple[Program, ...]
    exact: bool = True
    outcomes: tuple[str, ...] = OUTCOMES
    states: int = 0
    calls: int = 0
    _schedules: dict[tuple[Any, ...], int] = field(default_factory=dict, init=False)
    _checked: set[tuple[Any, ...]] = field(default_factory=set, init=False)
    _path: list[str] = field(default_factory=list, init=False)
    _at: Node | None = field(default=None, init=False)

    def run(self) -> int:
        """Explores all. Returns how many schedules there are."""
        model = WithAppends()
        ours = model.insert(self.definition)
        assert not isinstance(ours, Refused)
        self._ours = ours.workflow_id
        self.client.list()  # connected: from now on operations yield their own calls only
        view = self.client.insert(build(self.definition))
        self._id = view.id
        self._keys = [
            *self.client._session.keys.partition(0),
            *self.client._session.keys.workflow(view.id),
        ]
        self._ends = _ends(self.definition, self.outcomes) if not self.exact else frozenset()
        self._names = [step["name"] for step in self.definition["steps"]]
        self._names += [new for name in self._names for new, _ in _fragment(name)]
        self._names.append(_OUTSIDE)
        self._always = {
            step["name"] for step in self.definition["steps"] if step.get("always", False)
        }
        tokens = SimpleNamespace(token_hex=lambda _size: self._token)
        with patch("rwf.ops.fragments.secrets", tokens):
            actors = tuple(self._actor(program) for program in self.programs)
            return self._explore(self._node(actors, model))

    # --- the search

    def _explore(self, node: Node) -> int:
        key = node.whole_key
        if key in self._schedules:
            assert self._schedules[key], f"a circle: {self._path}"
            return self._schedules[key]
        self._schedules[key] = 0
        self.states += 1
        if node.key not in self._checked:
            self._checked.add(node.key)
            try:
                self._check(node)
            except AssertionError as error:
                raise AssertionError(f"after {' '.join(self._path)}: {error}") from None
        moves = [
            (number, choice)
            for number, actor in enumerate(node.actors)
            for choice in self._choices(node, actor)
        ]
        total = 0
        for number, choice in moves:
            self._path.append(f"{number}:{_name(node.actors[number].next)}{choice or ''}")
            total += self._explore(self._moved(node, number, choice))
            self._path.pop()
        self._schedules[key] = total or 1
        return total or 1

    def _choices(self, node: Node, actor: Actor) -> tuple[str | None, ...]:
        if isinstance(actor.next, Choice):
            grows = any(actor.next.step == step["name"] for step in self.definition["steps"])
            return tuple(one for one in self.outcomes if grows or one != "grows")
        if isinstance(actor.next, Read):
            return (None,)
        idle = actor.next is None or (actor.next.function == "reserve_steps" and not node.ready)
        return () if idle else (None,)

    def _moved(self, node: Node, number: int, choice: str | None) -> Node:
        """The nodes after an actor's next call."""
        if self._at is not node:
            self._restore(node)
        self._at = None
        self.calls += 1
        actor = node.actors[number]
        replies = actor.replies if choice is None else (*actor.replies, choice)
        held = actor.next if isinstance(actor.next, Choice) else actor.held
        request = actor.next if choice is None else self._request(actor.program, replies, held)
        assert isinstance(request, (Call, Read))
        reply = self.client._run(one_call(request))
        moved = self._actor(actor.program, (*replies, reply), held)
        while isinstance(moved.next, Read):
            reply = self.client._run(one_call(moved.next))
            moved = self._actor(actor.program, (*moved.replies, reply), held)
        model = self._followed(node, request, actor, choice, moved)
        actors = (*node.actors[:number], moved, *node.actors[number + 1 :])
        if isinstance(request, Read) or request.reads_only:
            return replace(node, actors=actors)
        after = self._node(actors, model)
        for step, state in after.states.items():
            late = node.cancelled and state is StepState.AVAILABLE is not node.states[step]
            assert not late or step in self._always, (
                f"{step} became available after the request: {self._path}"
            )
        return after

    def _request(
        self, program: Program, replies: tuple[Any, ...], held: Choice | None
    ) -> Call | Read | Choice | None:
        """The request or choice that a program comes to after these replies."""
        self._token = f"{_TOKEN}{held.step if held else _OUTSIDE}"
        op: Any = program(self.client, self._id)
        try:
            request = next(op)
            for reply in replies:
                request = op.send(reply)
        except StopIteration:
            return None
        assert isinstance(request, (Call, Read, Choice))
        return request

    def _actor(
        self, program: Program, replies: tuple[Any, ...] = (), held: Choice | None = None
    ) -> Actor:
        request = self._request(program, replies, held)
        if isinstance(request, Call) and request.function == "reserve_steps":
            replies, held = (), None  # a worker remembers nothing of its last step
        return Actor(program, replies, request, held)

    # --- the server's state

    def _node(self, actors: tuple[Actor, ...], model: WithAppends) -> Node:
        """The state in which the server is now."""
        pipeline = raw(self.client).pipeline(transaction=False)
        for key in self._keys:
            pipeline.dump(key)
        shared = len(PARTITION_SLOTS)
        at = {name.rpartition(":")[2]: name for name in self._keys[:shared]}
        own, payload = self._keys[shared], self._keys[shared + 1]
        pipeline.hgetall(own)
        pipeline.hgetall(payload)
        for name in ("ready", "reserved", "timers", "outbox", "index"):
            pipeline.zrange(at[name], 0, -1)
        found = pipeline.execute()
        dumps, rest = found[: len(self._keys)], found[len(self._keys) :]
        records = {
            name: Record.named(name, rest[0][name.encode()])
            for name in self._names
            if name.encode() in rest[0]
        }
        header = _masked(rest[0][b":c"])
        walks = sorted((name, text) for name, text in rest[0].items() if name[:1] == b">")
        rows = [
            (
                name,
                (row := Row.parse(text)).status,
                row.open,
                row.released_names,
                row.cancelled_names,
            )
            for name, text in sorted(rest[1].items())
            if name[:2] == b"r:"
        ]
        queue = [[_step_of(member) for member in members] for members in rest[2:4]]
        state = (
            *(_facts(record) for record in records.values()),
            header,
            tuple(walks),
            tuple(rows),
            tuple(queue[0]),
            tuple(sorted(queue[1])),
            tuple(rest[4]),
            tuple(rest[5]),
            tuple(rest[6]),
        )
        node = self._at = Node(
            tuple(dumps),
            state,
            {name: record.state for name, record in records.items()},
            bool(rest[2]),
            tuple(rest[3]),
            bool(walks),
            header[3],
            actors,
            model,
        )
        return node

    def _restore(self, node: Node, *, reserved_until: int = _NEVER) -> None:
        pipeline = raw(self.client).pipeline(transaction=False)
        pipeline.delete(*self._keys)
        for key, dump in zip(self._keys, node.dumps, strict=True):
            if dump is not None:
                pipeline.restore(key, 0, dump)
        if node.reserved:
            (reserved,) = (key for key in self._keys if key.endswith(":reserved"))
            pipeline.zadd(reserved, dict.fromkeys(node.reserved, reserved_until))
        pipeline.execute()

    # --- checks

    def _followed(
        self, node: Node, request: Call | Read, actor: Actor, choice: str | None, moved: Actor
    ) -> WithAppends:
        """The model after the same command, whose outcome must be equal."""
        if isinstance(request, Read):
            return node.model
        if request.function == "start_steps" and isinstance(moved.next, Choice):
            self._may_run(node, moved.next.step)
            if self.exact:
                model = deepcopy(node.model)
                model.claim(self._ours, moved.next.step, moved.next.lease)
                return model
        if not self.exact:
            return node.model
        if request.function == "dispatch_steps" and isinstance(moved.next, Call):
            step, ticket = map(str, moved.next.args[:2])
            if moved.next.function == "start_ticket":
                self._may_run(node, step)
                model = deepcopy(node.model)
                model.dispatch(self._ours, step, ticket)
                return model
        if request.function == "start_ticket":
            step, ticket, run = map(str, request.args[:3])
            model = deepcopy(node.model)
            lease = f"{self.client.step(self._id, step).attempt}-{ticket}.{run}"
            model.start(self._ours, step, ticket, run, lease)
            return model
        if request.function in ("append", "complete") and choice is None:
            return self._grown(node, actor, moved)
        if choice is not None:
            assert isinstance(actor.next, Choice)
            model = deepcopy(node.model)
            status, _, branch = choice.partition(" ")
            done = model.complete(
                self._ours, actor.next.step, status, lease=actor.next.lease, branch=bool(branch)
            )
            assert not isinstance(done, Refused), done
            return model
        if request.function == "cancel":
            model = deepcopy(node.model)
            model.request_cancel(self._ours)
            return model
        return node.model

    def _grown(self, node: Node, actor: Actor, moved: Actor) -> WithAppends:
        """The model after a command that appends steps; it has changed nothing where another append
        came first, and is prepared again."""
        there = {step.name for step in self.client.steps(self._id)}
        model = deepcopy(node.model)
        if actor.held is None:
            log = self.client.evidence(self._id)
            refused = any(one.action == "append" and one.status == "rejected" for one in log)
            if refused or _OUTSIDE in there:
                model.append(self._ours, _FROM_OUTSIDE)
            return model
        fragment = _fragment(actor.held.step)
        if fragment[0][0] in there:
            step, lease = actor.held.step, actor.held.lease
            model.complete_and_append(self._ours, step, fragment, True, payload=None, lease=lease)
        return model

    def _may_run(self, node: Node, step: str) -> None:
        """A step is handed out once at a time, and not before its parents have ended."""
        held = [one.next.step for one in node.actors if isinstance(one.next, Choice)]
        held += [one.held.step for one in node.actors if one.held is not None]
        assert step not in held, f"{step} is handed out twice: {self._path}"
        # Those that the model has added, too, where it follows.
        for parent, policy in node.model.workflows[self._ours].steps[step].parents:
            state = node.states[parent]
            over = state is StepState.COMPLETED or (
                state in TERMINAL_STEPS and (policy != CANCEL or step in self._always)
            )
            assert over, f"{step} runs before {parent}: {self._path}"

    def _check(self, node: Node) -> None:
        """Checks one state: the keys agree; the model agrees; and if all actors died here, a
        reconciliation and a worker would still bring everything to its end."""
        assert not (problems := invariants.check(self.client)), problems
        if self.exact:
            # A request leaves what it has cancelled to be walked, where steps may always run.
            assert not node.unwalked or node.cancelled
            self.client.reconcile(self._id)
            theirs = ClientSystem(self.client).snapshot(self._id)
            problems = differences(node.model.snapshot(self._ours), theirs)
            assert not problems, problems
        self._restore(node, reserved_until=1)
        self._at = None
        self._finish()
        if not self.exact:
            end = tuple(sorted((one.name, one.state.value) for one in self.client.steps(self._id)))
            assert end in self._ends, f"no order of the commands ends in {end}"

    def _finish(self) -> None:
        self.client.reconcile(self._id)
        for _ in range(2 * len(self.client.steps(self._id)) + 1):
            claims = self.client.claim(["default"], worker_id="late", limit=10)
            for claim in claims:
                self.client.complete(claim)
            if claims:
                continue
            steps = self.client.steps(self._id)
            left = [one.name for one in steps if one.state is StepState.EXECUTING]
            if not left:
                break
            self.client.complete_step(self._id, left[0], force=True)
        view = self.client.get(self._id)
        assert view.finished_at is not None, f"stuck: {self.client.steps(self._id)}"


def _name(request: Call | Read | Choice | None) -> str:
    return request.step + "=" if isinstance(request, Choice) else getattr(request, "function", "")


def _step_of(member: bytes) -> bytes:
    return member.rpartition(b"|")[2]


def _facts(record: Record) -> tuple[Any, ...]:
    """A record without times and ids."""
    claim = record.running is not None, record.dispatched
    shown = replace(
        record,
        since=0,
        order="",
        started=None if record.started is None else 0,
        finished=None if record.finished is None else 0,
        claim="",
    )
    return (str(shown), claim)


def _masked(counts: bytes) -> tuple[Any, ...]:
    """The changing half of the header without times."""
    numbers, _, moving = counts.decode().partition(";")
    _, started, rest = moving.split(",", 2)
    finished, cancel, others = (rest or ",,").split(",", 2)
    return numbers, bool(started), bool(finished), bool(cancel), others


def _ends(definition: Definition, outcomes: Sequence[str]) -> frozenset[End]:
    """The states of the steps in every end that the model can come to, whoever cancels when and
    whatever steps report.

    Causes are left out: a cancel request cancels steps that a cascade has not reached yet, and the
    model knows no cascade that is half done.
    """
    first = WithAppends()
    inserted = first.insert(definition)
    assert not isinstance(inserted, Refused)
    flow = inserted.workflow_id
    found: set[End] = set()
    seen: set[tuple[object, bool]] = set()

    def go(model: WithAppends) -> None:
        workflow = model.workflows[flow]
        steps = workflow.steps.values()
        here = tuple((step.name, step.state, step.cause, step.branch) for step in steps)
        if (here, workflow.cancel_requested) in seen:
            return
        seen.add((here, workflow.cancel_requested))
        if model.finished(flow):
            found.add(tuple(sorted((step.name, step.state.value) for step in steps)))
            return
        for after in _followers(definition, model, flow, outcomes):
            go(after)

    go(first)
    return frozenset(found)


def _followers(
    definition: Definition, model: WithAppends, flow: str, outcomes: Sequence[str]
) -> Iterator[WithAppends]:
    """The model after each command that a client may give."""
    if not model.workflows[flow].cancel_requested:
        after = deepcopy(model)
        after.request_cancel(flow)
        yield after
    for step in model.workflows[flow].steps.values():
        grows = any(step.name == own["name"] for own in definition["steps"])
        if step.state is StepState.AVAILABLE:
            after = deepcopy(model)
            after.claim(flow, step.name, step.name)
            yield after
        if step.state is StepState.EXECUTING:
            for outcome in outcomes if grows else OUTCOMES:
                after = deepcopy(model)
                status, _, branch = outcome.partition(" ")
                if outcome == "grows":
                    fragment, lease = _fragment(step.name), step.name
                    after.complete_and_append(
                        flow, step.name, fragment, True, payload=None, lease=lease
                    )
                else:
                    after.complete(flow, step.name, status, lease=step.name, branch=bool(branch))
                yield after
