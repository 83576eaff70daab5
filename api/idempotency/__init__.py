"""Idempotency keys: a request that is repeated is answered again, not carried out again."""
