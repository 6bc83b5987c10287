"""A worker of rwf's own, for users without an executor (contract §8)."""

from rwf.worker.context import StepContext, current_step
from rwf.worker.handlers import Handlers
from rwf.worker.outcomes import Append, Await, Cancel, Discard, Fail, Retry, RunWorkflow, Skip
from rwf.worker.reporting import StepRun
from rwf.worker.tickets import run_step
from rwf.worker.worker import Health, Worker

__all__ = [
    "Append",
    "Await",
    "Cancel",
    "Discard",
    "Fail",
    "Handlers",
    "Health",
    "Retry",
    "RunWorkflow",
    "Skip",
    "StepContext",
    "StepRun",
    "Worker",
    "current_step",
    "run_step",
]
