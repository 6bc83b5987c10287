"""Durable workflow graphs on Redis or Valkey."""

from rwf.aio import AsyncClient
from rwf.client import Client
from rwf.errors import (
    CommandRejected,
    NamespaceMismatch,
    NotFound,
    RecordUnreadable,
    RwfError,
    StoreMisconfigured,
    StoreUnavailable,
    WebhookFailed,
    WorkflowInvalid,
)
from rwf.model.ref import result
from rwf.model.retry import Backoff
from rwf.model.workflow import Workflow
from rwf.reconciler import Reconciler
from rwf.store.ops.complete import Completion
from rwf.webhook import Webhook, verify_signature
from rwf.worker import Await, Cancel, Discard, Fail, Retry, StepContext, Worker

__all__ = [
    "AsyncClient",
    "Await",
    "Backoff",
    "Cancel",
    "Client",
    "CommandRejected",
    "Completion",
    "Discard",
    "Fail",
    "NamespaceMismatch",
    "NotFound",
    "Reconciler",
    "RecordUnreadable",
    "Retry",
    "RwfError",
    "StepContext",
    "StoreMisconfigured",
    "StoreUnavailable",
    "Webhook",
    "WebhookFailed",
    "Worker",
    "Workflow",
    "WorkflowInvalid",
    "result",
    "verify_signature",
]
