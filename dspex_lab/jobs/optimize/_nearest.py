"""KNNFewShot: demonstrations chosen for each question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from dspex_lab.jobs.optimize._driver import Base, Estimate, Resume, Task, refuse
from dspex_lab.jobs.optimize._judge import Judge
from dspex_lab.jobs.optimize._writing import bootstrap_settings

if TYPE_CHECKING:
    from dspex_lab.jobs.optimize._course import Course


class KNN(Base):
    """KNNFewShot. It embeds the rows; its program looks for the nearest ones at each call and bootstraps from them."""

    name = "knn"
    other = ("knn_few_shot", "knnfewshot")
    path = "dspy.teleprompt:KNNFewShot"
    resume: ClassVar[Resume] = "again"
    evaluates = False

    def accepts(self) -> Sequence[str]:
        """What BootstrapFewShot does."""
        return bootstrap_settings()

    def defaults(self, task: Task) -> Mapping[str, Any]:
        """Three neighbours, by spelling."""
        return {} if not isinstance(task.given, type) else {n: v for n, v in (("k", 3),) if n not in task.init}

    def check(self, task: Task) -> Sequence[str]:
        """Neighbours there must be."""
        said = []
        if isinstance(task.given, type):
            if not 1 <= (k := task.get("k", 3)) <= task.train:
                raise refuse(self.name, f"k={k!r} neighbours of {task.train} rows.", "k", f"1 to {task.train}", k)
            if "vectorizer" not in task.init:
                said.append("The nearest rows are told by spelling; give vectorizer=dspy.Embedder(…) for meaning.")
        calls = min(int(task.get("k", 3) or 3), int(task.get("max_bootstrapped_demos", 4) or 0)) + 1
        said.append(f"Its program makes up to {calls} calls for each question, to bootstrap from the neighbours.")
        return (*said, "It is saved whole: program.save(folder, save_program=True); a state alone has no neighbours.")

    def estimate(self, task: Task) -> Estimate:
        """It calls no model until its program is used."""
        return Estimate(0)

    def arguments(self, course: Course, task: Task) -> dict[str, Any]:
        """Its metric goes along with its program, and counts for itself there."""
        import dspy

        from dspex_lab.lms import embed_text

        usual = {"vectorizer": dspy.Embedder(embed_text, caching=False), "metric": Judge(course.work.metric)}
        return {**usual, "trainset": course.train, **task.init}

    def compile(self, course: Course, task: Task, optimizer: Any) -> Any:
        """Return a program that can be pickled, copied and changed: DSPy's own is a function that holds the old student."""
        from dspex_lab.jobs.optimize._programs import NearestFewShot

        arguments = dict(optimizer.few_shot_bootstrap_args)
        return NearestFewShot(course.student.reset_copy(), optimizer.KNN, arguments, task.compile.get("teacher"))
