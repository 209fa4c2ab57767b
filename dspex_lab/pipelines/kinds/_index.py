"""An index over the user's own rows: texts as vectors, and the nearest of them by cosine similarity."""

from __future__ import annotations

import copy
import json
import threading
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex_lab.errors import PipelineError, did_you_mean
from dspex_lab.events import new_id

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]

#: Texts given to the embedder at once.
CHUNK = 512
#: What an index file says it is.
FORMAT = "dspex-index-1"
#: A row embedded again after loading must be at least this near to what was saved; less is another embedder.
SAME = 0.99


class Hit(NamedTuple):
    """A row that was found.

    Args:
        text: its text.
        score: the cosine similarity to the query, -1 to 1.
        row: the whole row; of a plain list of texts a dict with the text alone.
    """

    text: str
    score: float
    row: dict[str, Any]


class _Held(NamedTuple):
    """What an index holds; replaced as a whole, so that whoever searches sees one state. ``told`` are rows with a text,
    ``mark`` is another one after each change, also where two copies of an index are changed."""

    rows: list[dict[str, Any]]
    vectors: Vectors | None
    mark: str
    told: npt.NDArray[Any] | None = None

    @classmethod
    def of(cls, rows: list[dict[str, Any]], vectors: Vectors | None) -> _Held:
        import numpy as np

        return cls(rows, vectors, new_id(), None if vectors is None else np.flatnonzero(vectors.any(axis=1)))


class Index:
    """Rows that can be searched by the likeness of a text. Thread-safe: a search sees all of a change or nothing.

    The search compares the query with every row, which is exact; its time grows with the rows (10,000: about 10 ms).

    Args:
        rows: texts, dicts, a DataFrame, or the path of a ``.csv``, ``.parquet`` or ``.jsonl`` file.
        text: the column that holds the text. Rows without one (None, missing or blank) are kept and never found.
        embedder: gives an array with one vector per text: :func:`dspex_lab.lms.embed_text` by default, which needs no model
            and knows spelling only; ``lms.sentence_embedder(...)``, a ``dspy.Embedder``, or a function of your own.
        name: what the index is called in views.

    Raises:
        PipelineError: the rows cannot be read, a text is no text, or the embedder does not give a vector per text.
    """

    def __init__(
        self, rows: Any, text: str = "text", *, embedder: Callable[[list[str]], Any] | None = None, name: str | None = None
    ) -> None:
        self.text, self.name = text, name
        self.embedder: Callable[[list[str]], Any] = _default() if embedder is None else embedder
        if not callable(self.embedder):
            raise PipelineError(
                f"embedder={embedder!r} cannot be called.", hint="Give a function from a list of texts to an array."
            )
        self._lock = threading.Lock()
        self._held = _Held.of([], None)
        self.add(rows)

    def __deepcopy__(self, memo: dict[int, Any]) -> Index:
        return copy.copy(self)  # what is held is replaced and never changed

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    def __len__(self) -> int:
        return len(self._held.rows)

    def __repr__(self) -> str:
        return f"<Index {self.name or self.text!r}: {len(self):,} rows>"

    def cache_token(self) -> str:
        """Return what changes whenever an answer may; a copy has the same one until either is changed."""
        return self._held.mark

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return the rows, in order."""
        return list(self._held.rows)

    # --- changing ---------------------------------------------------------------------------------------------

    def add(self, rows: Any) -> int:
        """Add rows at the end, and return how many.

        Raises:
            PipelineError: as for the constructor; nothing is added then.
        """
        made = list(self._read(rows))
        vectors = self._embed([self._text_of(row, index) for index, row in enumerate(made)])
        with self._lock:
            held = self._held
            self._held = _Held.of([*held.rows, *made], self._joined(held, vectors, len(made)))
        return len(made)

    def remove(self, where: Callable[[dict[str, Any]], bool]) -> int:
        """Remove the rows for which ``where(row)`` is true, and return how many."""
        with self._lock:
            held = self._held
            kept = [i for i, row in enumerate(held.rows) if not where(row)]
            vectors = None if held.vectors is None else held.vectors[kept]
            self._held = _Held.of([held.rows[i] for i in kept], vectors if kept else None)
        return len(held.rows) - len(kept)

    def _read(self, rows: Any) -> Iterable[dict[str, Any]]:
        from dspex_lab.pipelines.maps._sources import open_source

        if isinstance(rows, Index):
            rows = rows.rows
        for chunk in open_source(rows).chunks():
            for row in chunk:
                if isinstance(row, str):
                    yield {self.text: row}
                elif isinstance(row, Mapping):
                    yield dict(row)
                else:
                    raise PipelineError(
                        f"An index is made of texts or of rows, not of {type(row).__name__}.", hint="Give texts or dicts."
                    )

    def _text_of(self, row: dict[str, Any], index: int) -> str:
        found = row.get(self.text)
        if found is None and self.text not in row:
            raise PipelineError(
                f"Row {index} has no column {self.text!r}; it has {', '.join(map(repr, row)) or 'none'}."
                f"{did_you_mean(self.text, list(row))}",
                hint='Name the column with the text: dx.index(rows, text="body").',
            )
        if found is not None and not isinstance(found, str):
            raise PipelineError(
                f"Row {index}: {self.text!r} is {type(found).__name__}, not a text.", hint="Name a column that holds texts."
            )
        return found or ""

    def _embed(self, texts: Sequence[str]) -> Vectors | None:
        """Return one unit vector per text, zeros for a blank one."""
        import numpy as np

        told = [i for i, text in enumerate(texts) if text.strip()]
        out: Vectors | None = None
        for start in range(0, len(told), CHUNK):
            piece = told[start : start + CHUNK]
            found = self._checked(self.embedder([texts[i] for i in piece]), len(piece))
            if out is None:
                out = np.zeros((len(texts), found.shape[1]), np.float32)
            elif out.shape[1] != found.shape[1]:
                raise self._width(out.shape[1], found.shape[1])
            norms = np.linalg.norm(found, axis=1, keepdims=True)
            out[piece] = found / np.where(norms > 0, norms, 1)
        return out

    def _checked(self, found: Any, count: int) -> Vectors:
        import numpy as np

        try:
            vectors = np.asarray(found, np.float32)
        except (TypeError, ValueError) as error:
            raise PipelineError(f"The embedder {self._embedder()} gave no numbers: {error}.") from error
        if vectors.ndim != 2 or len(vectors) != count or vectors.shape[1] == 0:
            raise PipelineError(
                f"The embedder {self._embedder()} was given {count} texts and gave an array of shape {vectors.shape}.",
                hint="It must give one vector per text.",
            )
        if not np.isfinite(vectors).all():
            raise PipelineError(f"The embedder {self._embedder()} gave a vector that is not finite.")
        return vectors

    def _joined(self, held: _Held, new: Vectors | None, count: int) -> Vectors | None:
        """Return the vectors of all rows, ``count`` of them new."""
        import numpy as np

        known = held.vectors if held.vectors is not None else new
        if known is None:
            return None
        width = known.shape[1]
        before = held.vectors if held.vectors is not None else np.zeros((len(held.rows), width), np.float32)
        after = new if new is not None else np.zeros((count, width), np.float32)
        if after.shape[1] != width:
            raise self._width(width, after.shape[1])
        return np.concatenate([before, after])

    def _embedder(self) -> str:
        return getattr(self.embedder, "__name__", None) or type(self.embedder).__name__

    def _width(self, width: int, found: int) -> PipelineError:
        return PipelineError(
            f"The embedder {self._embedder()} gave vectors of {found} numbers; those of the index have {width}.",
            hint="Search with the embedder the index was made with.",
        )

    # --- searching --------------------------------------------------------------------------------------------

    def search(self, query: str, k: int = 3) -> list[Hit]:
        """Return the ``k`` rows most like ``query``, best first, equal ones in order; fewer where there are fewer.

        A blank query is like nothing.

        Raises:
            PipelineError: ``query`` is no text, or ``k`` is not 1 or more.
        """

        if not isinstance(query, str):
            raise PipelineError(f"A query is a text, not {type(query).__name__}.", hint="Give the field that holds the text.")
        check_count(k)
        held = self._held
        if held.vectors is None or held.told is None or not query.strip():
            return []
        wanted = self._embed([query])
        assert wanted is not None  # noqa: S101 - the query is not blank
        if wanted.shape[1] != held.vectors.shape[1]:
            raise self._width(held.vectors.shape[1], wanted.shape[1])
        scores = held.vectors @ wanted[0]
        best = held.told[nearest(scores[held.told], k)]
        return [
            Hit(held.rows[i][self.text], round(max(-1.0, min(1.0, float(scores[i]))), 6), dict(held.rows[i]))
            for i in best.tolist()
        ]

    # --- keeping ----------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write the index to one ``.npz`` file: the vectors and, as JSON, the rows. The embedder is not in it.

        Raises:
            PipelineError: a row holds a value that JSON does not know.
        """
        import numpy as np

        held, path = self._held, Path(path)
        path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
        about = {
            "format": FORMAT,
            "text": self.text,
            "name": self.name,
            "embedder": self._embedder(),
            "rows": held.rows,
        }
        try:
            told = json.dumps(about, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise PipelineError(
                f"The rows of {self!r} cannot be saved: {error}.", hint="Turn dates and objects into text before indexing them."
            ) from error
        vectors = held.vectors if held.vectors is not None else np.zeros((len(held.rows), 0), np.float32)
        beside = path.with_name(path.name + ".part")
        with beside.open("wb") as file:
            np.savez(file, vectors=vectors, about=np.frombuffer(told, np.uint8))
        beside.replace(path)
        return path

    @classmethod
    def load(cls, path: str | Path, *, embedder: Callable[[list[str]], Any] | None = None) -> Index:
        """Read an index written by :meth:`save`. Nothing in the file is run.

        Args:
            embedder: the one the index was made with; may be left out where that was the default.

        Raises:
            PipelineError: the file is no index, or was made with another embedder.
        """
        about, vectors = _read_file(Path(path))
        made = cls([], about["text"], embedder=embedder, name=about["name"])
        made._held = _Held.of(about["rows"], vectors if vectors.shape[1] else None)
        told = next((i for i in range(len(vectors)) if vectors[i].any()), None)
        if told is not None:
            again = made._embed([about["rows"][told][made.text]])
            if again is None or again.shape[1] != vectors.shape[1] or float(again[0] @ vectors[told]) < SAME:
                raise PipelineError(
                    f"{path} was made with the embedder {about['embedder']!r}; {made._embedder()!r} gives other vectors.",
                    hint="Give the same one: Index.load(path, embedder=...).",
                )
        return made


def index(
    rows: Any, text: str = "text", *, embedder: Callable[[list[str]], Any] | None = None, name: str | None = None
) -> Index:
    """Return an index over ``rows``, for ``dx.retrieve``; see :class:`Index`."""
    return Index(rows, text, embedder=embedder, name=name)


def check_count(k: Any) -> None:
    """Refuse a number of passages that is not 1 or more.

    Raises:
        PipelineError: it is not.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise PipelineError(f"k={k!r} is not 1 or more.", hint="Give how many passages are wanted.")


def nearest(scores: npt.NDArray[Any], k: int) -> npt.NDArray[Any]:
    """Return the places of the ``k`` highest scores, highest first, equal ones in order."""
    import numpy as np

    count = len(scores)
    if k < count:
        least = scores[np.argpartition(scores, count - k)[count - k]]
        above = np.flatnonzero(scores > least)
        chosen = np.sort(np.concatenate([above, np.flatnonzero(scores == least)[: k - len(above)]]))
    else:
        chosen = np.arange(count)
    return chosen[np.argsort(-scores[chosen], kind="stable")]


def _default() -> Callable[[list[str]], Any]:
    from dspex_lab.lms import embed_text

    return embed_text


def _read_file(path: Path) -> tuple[dict[str, Any], Vectors]:
    import numpy as np

    def refuse(why: str, error: Exception | None = None) -> PipelineError:
        made = PipelineError(f"{path} is no index: {why}.", hint="Write one with Index.save(path).")
        made.__cause__ = error
        return made

    if not path.is_file():
        raise refuse("there is no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            # Compressed, a small file could fill the memory.
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise refuse("it is compressed")
        with np.load(path, allow_pickle=False) as file:
            vectors, told = file["vectors"], bytes(file["about"])
        about = json.loads(told)
    except (OSError, ValueError, KeyError, EOFError, RecursionError, zipfile.BadZipFile) as error:
        raise refuse(f"{type(error).__name__}: {error}", error) from error
    rows = about.get("rows") if isinstance(about, dict) else None
    if not isinstance(rows, list) or about.get("format") != FORMAT or not isinstance(about.get("text"), str):
        raise refuse("its rows are missing or of another version")
    name, text = about.get("name"), about["text"]
    if not (name is None or isinstance(name, str)) or not all(
        isinstance(row, dict) and isinstance(row.get(text), str | None) for row in rows
    ):
        raise refuse("its rows are not as they should be")
    if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != len(rows) or not np.isfinite(vectors).all():
        raise refuse("its vectors are not as they should be")
    if any(vectors[i].any() and not rows[i].get(text) for i in range(len(rows))):
        raise refuse("a row without a text has a vector")
    return {**about, "embedder": str(about.get("embedder"))}, vectors
