"""What the store has of sessions."""

from __future__ import annotations

import json
from typing import Any


def rows(place: Any) -> list[dict[str, Any]]:
    return place.store.query("SELECT * FROM sessions ORDER BY created, session_id").to_dict("records")


def stored(place: Any, session: Any) -> dict[str, Any]:
    found = place.store.query("SELECT state::VARCHAR AS s FROM sessions WHERE session_id = ?", [session.id])
    return json.loads(found["s"].iloc[0])
