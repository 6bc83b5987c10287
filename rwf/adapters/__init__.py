"""Executors of the user's own: a dispatcher and the one task that runs steps, for each (contract
§15). Each is a module, and an extra of the same name: ``pip install rwf[celery]``."""
