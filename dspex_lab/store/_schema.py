"""The tables and how they came to be: numbered migrations that are only ever appended to, and the columns per record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex_lab.errors import StoreError
from dspex_lab.events import Decision, Event, LMCall, RunRecord, Span, TrialRecord, VariableRecord

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: Each migration takes a store from the version of its index to the next; one that was released is never edited.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE labs (lab_id VARCHAR, pid BIGINT, started TIMESTAMP, ended TIMESTAMP);
    CREATE TABLE runs (
        run_id VARCHAR, parent_id VARCHAR, lab_id VARCHAR, kind VARCHAR, name VARCHAR, status VARCHAR, started TIMESTAMP,
        seconds DOUBLE, inputs JSON, outputs JSON, error VARCHAR, error_step VARCHAR, lm VARCHAR, simulated BOOLEAN,
        prompt_tokens BIGINT, completion_tokens BIGINT, cost DOUBLE, row_index BIGINT, session VARCHAR, tags VARCHAR[]);
    CREATE TABLE spans (
        span_id VARCHAR, parent_id VARCHAR, run_id VARCHAR, kind VARCHAR, name VARCHAR, started TIMESTAMP, seconds DOUBLE,
        status VARCHAR, implementation VARCHAR, worker VARCHAR, error VARCHAR, data JSON);
    CREATE TABLE lm_calls (
        call_id VARCHAR, span_id VARCHAR, run_id VARCHAR, step VARCHAR, model VARCHAR, started TIMESTAMP, seconds DOUBLE,
        prompt_tokens BIGINT, completion_tokens BIGINT, cost DOUBLE, cache_hit BOOLEAN, simulated BOOLEAN, error VARCHAR,
        messages JSON, outputs JSON);
    CREATE TABLE events (
        name VARCHAR, time TIMESTAMP, run_id VARCHAR, span_id VARCHAR, step VARCHAR, data JSON, lab_id VARCHAR);
    CREATE TABLE decisions (
        decision_id VARCHAR, run_id VARCHAR, span_id VARCHAR, time TIMESTAMP, operation VARCHAR, chosen VARCHAR,
        candidates VARCHAR[], strategy VARCHAR, reason VARCHAR);
    """,
    """
    CREATE TABLE checkpoints (
        name VARCHAR, step VARCHAR, key VARCHAR, outputs VARCHAR, time TIMESTAMP, PRIMARY KEY (name, step));
    """,
    """
    ALTER TABLE lm_calls ADD COLUMN attempts BIGINT DEFAULT 1;
    ALTER TABLE lm_calls ADD COLUMN again BOOLEAN DEFAULT false;
    ALTER TABLE lm_calls ADD COLUMN instead_of VARCHAR;
    ALTER TABLE lm_calls ADD COLUMN first_token DOUBLE;
    """,
    """
    CREATE TABLE sessions (
        session_id VARCHAR, name VARCHAR, pool VARCHAR, affinity VARCHAR, ttl DOUBLE, state JSON, optimization JSON,
        unkept VARCHAR[], version BIGINT, calls BIGINT, moves BIGINT, worker VARCHAR, created TIMESTAMP, touched TIMESTAMP,
        closed TIMESTAMP, reason VARCHAR, lab_id VARCHAR);
    CREATE TABLE session_names (session_id VARCHAR, name VARCHAR, since TIMESTAMP, until TIMESTAMP);
    """,
    """
    ALTER TABLE runs ADD COLUMN variables JSON;
    CREATE TABLE variable_definitions (
        space VARCHAR, name VARCHAR, position BIGINT, revision BIGINT, time TIMESTAMP, domain JSON, initial JSON,
        derived VARCHAR, active VARCHAR, pinned BOOLEAN, note VARCHAR, dropped BOOLEAN);
    CREATE TABLE variable_history (
        space VARCHAR, name VARCHAR, version BIGINT, parent BIGINT, time TIMESTAMP, value JSON, who VARCHAR, author VARCHAR,
        why VARCHAR, score DOUBLE, fence BIGINT);
    CREATE VIEW variables AS
        SELECT d.space, d.name, h.value, h.version, h.who, h.author, h.why, h.score, h.time AS changed, d.domain, d.initial,
               d.derived, d.active, d.pinned, d.note, d.position
        FROM (
            SELECT * FROM variable_definitions
            QUALIFY row_number() OVER (PARTITION BY space, name ORDER BY revision DESC, time DESC) = 1
        ) d LEFT JOIN (
            SELECT * FROM variable_history
            QUALIFY row_number() OVER (PARTITION BY space, name ORDER BY version DESC, time DESC) = 1
        ) h ON h.space = d.space AND h.name = d.name
        WHERE NOT d.dropped AND d.domain->>'kind' IS DISTINCT FROM 'constraint';
    CREATE TABLE jobs (
        job_id VARCHAR, number BIGINT, kind VARCHAR, name VARCHAR, state VARCHAR, created TIMESTAMP, started TIMESTAMP,
        ended TIMESTAMP, pool VARCHAR, attempts BIGINT, repeated BIGINT, done DOUBLE, total DOUBLE, best DOUBLE, cost DOUBLE,
        calls BIGINT, tokens BIGINT, note VARCHAR, error VARCHAR, settings JSON, version BIGINT, lab_id VARCHAR);
    CREATE TABLE job_data (job_id VARCHAR, what VARCHAR, data BLOB, time TIMESTAMP, PRIMARY KEY (job_id, what));
    CREATE TABLE trials (
        job_id VARCHAR, number BIGINT, parent BIGINT, status VARCHAR, started TIMESTAMP, seconds DOUBLE, score DOUBLE,
        scores JSON, "values" JSON, candidate JSON, cost DOUBLE, calls BIGINT, "rows" BIGINT, error VARCHAR, note VARCHAR);
    CREATE TABLE programs (
        name VARCHAR, version BIGINT, parent BIGINT, fingerprint VARCHAR, state JSON, source VARCHAR, score DOUBLE, low DOUBLE,
        high DOUBLE, adopted TIMESTAMP, retired TIMESTAMP, reason VARCHAR, time TIMESTAMP, job_id VARCHAR, masked BOOLEAN);
    CREATE TABLE datasets (
        name VARCHAR, version BIGINT, split VARCHAR, fingerprint VARCHAR, count BIGINT, "rows" JSON, source JSON,
        time TIMESTAMP, masked BOOLEAN);
    CREATE TABLE feedback (
        feedback_id VARCHAR, run_id VARCHAR, step VARCHAR, verdict VARCHAR, correction JSON, note VARCHAR, time TIMESTAMP,
        who VARCHAR);
    """,
)


class DefinitionRecord(NamedTuple):
    """What a variable is from ``time`` on, or that it is no more.

    ``position`` counts variables in the order in which they were first defined, ``revision`` every change of a definition;
    the newest one holds. The view ``variables`` shows it, with the value.
    """

    space: str
    name: str
    position: int
    revision: int
    time: float
    domain: dict[str, Any] | None = None
    initial: Any = None
    derived: str | None = None
    active: str | None = None
    pinned: bool = False
    note: str | None = None
    dropped: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Where one kind of record is written.

    Args:
        name: the table.
        columns: a kind for each field of the record, in the record's order: ``id`` and ``text`` (strings; ids, and words of
            our own such as a status, are not redacted), ``json``, ``whole`` (JSON that is never cut, because it is read
            back), ``time`` (seconds since the epoch), ``float``, ``int``, ``bool``, ``texts`` (a list).
        of_lab: the table also has the column ``lab_id``, which the store fills.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    of_lab: bool = False


def _columns(record: type[Any], **kinds: str) -> tuple[tuple[str, str], ...]:
    given = {field: kind for kind, fields in kinds.items() for field in fields.split()}
    names: tuple[str, ...] = record._fields
    return tuple(
        (name, given.get(name, "id" if name.endswith("_id") or name in ("kind", "status") else "text")) for name in names
    )


TABLES: dict[type[Any], Table] = {
    RunRecord: Table(
        "runs",
        _columns(
            RunRecord,
            time="started",
            float="seconds cost",
            json="inputs outputs variables",
            bool="simulated",
            int="prompt_tokens completion_tokens row_index",
            texts="tags",
        ),
        of_lab=True,
    ),
    Span: Table("spans", _columns(Span, time="started", float="seconds", json="data")),
    LMCall: Table(
        "lm_calls",
        _columns(
            LMCall,
            time="started",
            float="seconds cost first_token",
            int="prompt_tokens completion_tokens attempts",
            bool="cache_hit simulated again",
            json="messages outputs",
        ),
    ),
    Event: Table("events", _columns(Event, time="time", json="data"), of_lab=True),
    Decision: Table("decisions", _columns(Decision, time="time", texts="candidates")),
    VariableRecord: Table(
        "variable_history",
        _columns(VariableRecord, id="space name who", int="version parent fence", time="time", whole="value", float="score"),
    ),
    DefinitionRecord: Table(
        "variable_definitions",
        _columns(
            DefinitionRecord,
            id="space name",
            int="position revision",
            time="time",
            whole="domain initial",
            bool="pinned dropped",
        ),
    ),
    TrialRecord: Table(
        "trials",
        _columns(
            TrialRecord,
            int="number parent calls rows",
            time="started",
            float="seconds score cost",
            json="scores",
            whole="values candidate",
        ),
    ),
}


def version_of(con: DuckDBPyConnection, path: str) -> int:
    """Return the version of the store, 0 for a blank file.

    Raises:
        StoreError: the file is a DuckDB database of something else.
    """
    tables = [row[0] for row in con.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal").fetchall()]
    if "meta" in tables:
        columns = {r[0] for r in con.execute("SELECT column_name FROM duckdb_columns() WHERE table_name = 'meta'").fetchall()}
        found = (
            con.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
            if {"key", "value"} <= columns
            else None
        )
        if found and str(found[0]).isdigit():
            return int(found[0])
    if not tables:
        return 0
    raise StoreError(
        f"{path} is a DuckDB database, but not a store of dspex_lab: it holds {', '.join(sorted(tables)[:5])}.",
        path=path,
        hint="Nothing in it was changed. Choose another path for the lab.",
    )


def migrate(con: DuckDBPyConnection, path: str, migrations: tuple[str, ...] = MIGRATIONS) -> int:
    """Bring a store up to the newest version and return the version it had; each step is whole or not at all.

    Raises:
        StoreError: a newer dspex_lab wrote the store, or the file belongs to something else.
    """
    before = version_of(con, path)
    if before > len(migrations):
        raise StoreError(
            f"{path} was written by a newer dspex_lab: its version is {before}, this one knows {len(migrations)}.",
            path=path,
            hint="Nothing in it was changed. Upgrade with: pip install -U dspex-lab, or choose another path.",
        )
    for number, script in enumerate(migrations[before:], start=before + 1):
        con.execute("BEGIN TRANSACTION")
        try:
            con.execute("CREATE TABLE IF NOT EXISTS meta (key VARCHAR PRIMARY KEY, value VARCHAR)")
            con.execute(script)
            con.execute("INSERT OR REPLACE INTO meta VALUES ('schema_version', ?)", [str(number)])
        except BaseException:
            con.execute("ROLLBACK")
            raise
        con.execute("COMMIT")
    return before
