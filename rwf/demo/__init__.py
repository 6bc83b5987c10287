"""``rwf demo``: customer syncs on an embedded server, by two processes, through two kills.

``source`` reads the input, ``work`` does what the steps are there for, ``ledger`` keeps what they
did, ``worker`` is the process that does it, ``expected`` says from the input alone how everything
must end, ``show`` runs it all and compares. It stands on the public client, as a user's code does.
"""
