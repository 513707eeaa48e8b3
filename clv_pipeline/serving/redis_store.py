"""The online store in Redis, for those with many servers.

A version is two keys, ``<prefix>:<version>:features`` and ``...:values`` (a hash by customer id),
beside ``...:meta``. ``<prefix>:current`` names the version that serves: moving it is one command,
so no reader sees two versions mixed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any

from clv_pipeline.serving.online import Layout, OnlineStoreError, Record, Version, unpack
from clv_pipeline.settings import Settings

if TYPE_CHECKING:
    from redis import Redis

# The version that is left stays this long: requests that began with it end with it.
GRACE_SECONDS = 600
# A version that is refused is never pointed to, and goes by itself.
UNUSED_SECONDS = 86_400


def connect(settings: Settings) -> Redis:
    """Return a client of ``[serving] redis_url``.

    Raises
    ------
    OnlineStoreError
        If the package ``redis`` is not installed.
    """
    return _connect(str(settings.serving.redis_url))


@cache
def _connect(url: str) -> Redis:
    try:
        import redis
    except ImportError:
        raise OnlineStoreError(
            "[serving] online_store = 'redis' needs the package redis: "
            "pip install 'clv-pipeline[redis]'."
        ) from None
    return redis.Redis.from_url(url, socket_timeout=10)


@contextmanager
def explained() -> Iterator[None]:
    """Turn errors of Redis into sentences.

    Raises
    ------
    OnlineStoreError
        When Redis does not answer, or says no.
    """
    import redis

    try:
        yield
    except redis.RedisError as error:
        raise OnlineStoreError(
            f"Redis can't be used ({error}): check [serving] redis_url and that it runs."
        ) from error


def write_redis(
    client: Any,
    prefix: str,
    version: Version,
    layout: Layout,
    batches: Iterator[list[tuple[str, str, str]]],
) -> int:
    """Write a version beside the one that serves, which stays the one that serves.

    Returns
    -------
    int
        Customers written.
    """
    keys = _keys(prefix, version.name)
    meta = {"version": asdict(version), "layout": asdict(layout)}
    count = 0
    with explained():
        client.delete(*keys.values())
        for rows in batches:
            pipe = client.pipeline(transaction=False)
            pipe.hset(keys["features"], mapping={row[0]: row[1] for row in rows})
            pipe.hset(keys["values"], mapping={row[0]: row[2] for row in rows})
            pipe.execute()
            count += len(rows)
        client.set(keys["meta"], json.dumps(meta))
        for key in keys.values():
            client.expire(key, UNUSED_SECONDS)
    return count


def point_to(client: Any, prefix: str, name: str) -> None:
    """Let a version serve, and the one before it end after a while."""
    with explained():
        for key in _keys(prefix, name).values():
            client.persist(key)
        before = client.getset(_pointer(prefix), name)
        if before is not None and before.decode() != name:
            for key in _keys(prefix, before.decode()).values():
                client.expire(key, GRACE_SECONDS)


def current_name(client: Any, prefix: str) -> str | None:
    """Return the name of the version that serves; None before the first."""
    with explained():
        found = client.get(_pointer(prefix))
    return None if found is None else str(found.decode())


class RedisStore:
    """A version in Redis.

    Parameters
    ----------
    client
        Of package ``redis``.
    prefix
        What every key begins with.
    name
        The version.

    Raises
    ------
    OnlineStoreError
        If the version is not there.
    """

    def __init__(self, client: Any, prefix: str, name: str) -> None:
        self._client = client
        self._keys = _keys(prefix, name)
        with explained():
            found = client.get(self._keys["meta"])
        if found is None:
            raise OnlineStoreError(
                f"Redis holds no version {name} under '{prefix}'. Publish again with `clv run`."
            )
        meta = json.loads(found)
        self.version = Version(**meta["version"])
        self.layout = Layout(**meta["layout"])

    def read(self, customer_ids: Sequence[str]) -> dict[str, Record]:
        """Return what is known of some customers; those who are unknown are left out."""
        if not customer_ids:
            return {}
        pipe = self._client.pipeline(transaction=False)
        pipe.hmget(self._keys["features"], list(customer_ids))
        pipe.hmget(self._keys["values"], list(customer_ids))
        with explained():
            features_and_values = pipe.execute()
        rows = zip(customer_ids, *features_and_values, strict=True)
        return {
            customer: unpack(self.layout, features, values)
            for customer, features, values in rows
            if features is not None
        }

    def close(self) -> None:
        """Nothing of its own is open."""


def _keys(prefix: str, name: str) -> dict[str, str]:
    return {part: f"{prefix}:{name}:{part}" for part in ("features", "values", "meta")}


def _pointer(prefix: str) -> str:
    return f"{prefix}:current"
