"""All visitors: who is known, who has to leave."""

import asyncio
import logging
import secrets
import time
from collections import OrderedDict

from fwdkern.app.limits import Limits
from fwdkern.app.session import Session

_LOG = logging.getLogger(__name__)
_WATCH = 0.2  # seconds between two looks at the workers


class Sessions:
    """Sessions by their identities, the longest unused first."""

    def __init__(self, limits: Limits, threads: int) -> None:
        self.limits, self.threads = limits, threads
        self._known: OrderedDict[str, Session] = OrderedDict()
        self._watching: asyncio.Task[None] | None = None

    def find(self, identity: str | None) -> Session | None:
        """The session of this identity, which counts as used now."""
        session = self._known.get(identity or "")
        if session is not None:
            self._known.move_to_end(session.identity)
            session.last_used = time.monotonic()
        return session

    def begin(self) -> Session:
        """A new session; the longest unused one leaves if there are too many."""
        while len(self._known) >= self.limits.sessions:
            idle = next((s for s in self._known.values() if not s.busy), next(iter(self._known.values())))
            self._close(idle)
        session = Session(secrets.token_urlsafe(32), self.limits, self.threads)
        self._known[session.identity] = session
        return session

    async def start(self) -> None:
        """Begin to watch the workers."""
        self._watching = asyncio.create_task(self._watch())

    def close(self) -> None:
        """End all sessions: running computations get an answer that says why."""
        if self._watching is not None:
            self._watching.cancel()
        for session in list(self._known.values()):
            self._close(session, "the server is closing")

    def _close(self, session: Session, *reason: str) -> None:
        self._known.pop(session.identity, None)
        session.close(*reason)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH)
            now = time.monotonic()
            for session in list(self._known.values()):
                try:
                    session.watch()
                    if not session.busy and now - session.last_used > self.limits.idle:
                        self._close(session)
                except Exception:  # one visitor's trouble must not end the watch over the others
                    _LOG.exception("A session could not be watched.")
