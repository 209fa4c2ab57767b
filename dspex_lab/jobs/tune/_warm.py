"""What a study begins with: the present values, the best of history, what earlier studies have found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dspex_lab.jobs.tune._objectives import best_of
from dspex_lab.jobs.tune._study import RULES, TRIED, Study, read_study
from dspex_lab.jobs.tune._tried import Tried
from dspex_lab.variables import Space

if TYPE_CHECKING:
    from dspex_lab.jobs.tune._work import Tune

#: Commits of each variable that are looked at.
LOOKED = 200


def warm(work: Tune, space: Space, study: Study) -> None:
    """Have a new study try first what may be good; at most as much as there are trials.

    Scores of history were measured by somebody else, on other rows: they say what to try, and it is measured again. What an
    earlier study measured with the same metric on the same rows informs the sampler; its best is measured again too, as the
    variables that were not moved may be others now.
    """
    left, seen = work.trials, list[dict[str, Any]]()
    for values, origin in _firsts(work, space, study):
        params = study.search.params(values)
        if left and params and params not in seen:
            study.give(params, origin)
            seen.append(params)
            left -= 1


def _firsts(work: Tune, space: Space, study: Study) -> Iterator[tuple[Mapping[str, Any], str]]:
    yield study.search.present, "present"
    for each in work.studies:
        for values in _earlier(work, study, each):
            yield values, "earlier study"
    for values in _scored(work, space):
        yield values, "history"


def _scored(work: Tune, space: Space) -> list[Mapping[str, Any]]:
    """Return the values of the commits with the best scores, the best first."""
    versions: dict[int, float] = {}
    for name in work.search.names:
        for record in space.history(name, LOOKED):
            if record.score is not None:
                versions[record.version] = record.score
    best = sorted(versions, key=lambda version: (-work.objectives[0].told(versions[version]), -version))
    found: list[Mapping[str, Any]] = []
    for version in best:
        values = {n: v for n, v in space.at(version).values.items() if n in work.search.names}
        if values not in found and len(found) < work.history:
            found.append(values)
    return found


def _earlier(work: Tune, study: Study, path: str) -> Sequence[Mapping[str, Any]]:
    """Return the best values of an earlier study, and tell the sampler what it measured, if that was the same."""
    found = read_study(path)
    done = [
        (each, Tried.from_json(each.user_attrs[TRIED], study.search))
        for each in found.get_trials(deepcopy=False)
        if TRIED in each.user_attrs and each.values is not None
    ]
    names = [o.name for o in work.objectives]
    alike = [(each, tried) for each, tried in done if list(tried.scores) == names]
    best = best_of([tried for _, tried in alike], work.objectives, work.prefer)
    if work.rules and found.user_attrs.get(RULES) == work.rules:
        for each, tried in alike:
            params = study.search.params(tried.values)
            if params.keys() == tried.values.keys():
                study.add(params, each.values)
    return [] if best is None else [best.values]
