"""To which session a run belongs."""

from __future__ import annotations

from dataclasses import replace

from dspex_lab._options import RunOptions
from dspex_lab.sessions import Session, current_session
from dspex_lab.workbench._base import Base

#: How a run is carried out where nothing is said.
_PLAIN = RunOptions()


class InSessions(Base):
    """``session``, and the options of a run with its session in them."""

    @property
    def session(self) -> Session | None:
        """The session of the run in whose step this is asked, else the one that following runs belong to; None for none.

        Set it to a name, a session or None: to which one runs belong that name none.
        """
        found = self._around_here()
        if found is not None:
            return found
        return None if self.sessions.default is None else self.sessions.open(self.sessions.default)

    @session.setter
    def session(self, session: str | Session | None) -> None:
        self.sessions.use(session.name if isinstance(session, Session) else session)

    def _around_here(self) -> Session | None:
        """Return the session of the run in whose step this is asked, if it is one of this Lab."""
        found = current_session()
        return found if found is not None and found.around is self.sessions.around else None

    def _in_session(self, options: RunOptions | None) -> RunOptions:
        """Return the options of a run: its session is opened where it is not; where none is named it is the default one.

        A run that is started in a step of another belongs to that one's session.

        Raises:
            SessionError: the name is none, or there are too many sessions.
        """
        chosen = options or _PLAIN
        name = chosen.session if chosen.session is not None else self.sessions.default
        if name is None or (chosen.session is None and self._around_here() is not None):
            return chosen
        self.sessions.open(name)
        return chosen if name == chosen.session else replace(chosen, session=name)
