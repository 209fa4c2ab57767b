"""What the tests of written pipelines share: two functions, and writing and reading again."""

from __future__ import annotations

from typing import Any

import jsonschema
import yaml

from dspex_lab.pipelines import (
    Pipeline,
    load_pipeline,
    same,
)
from dspex_lab.pipelines.files import SCHEMA, handed_in

#: Made once: `jsonschema.validate` would check the schema itself each time, which takes most of a second.
FORM = jsonschema.Draft202012Validator(SCHEMA)


def tidy(x: Any) -> Any:
    return x


def other(x: Any, k: int = 3) -> Any:
    return x


def again(made: Pipeline) -> Pipeline:
    text = made.to_yaml()
    FORM.validate(yaml.safe_load(text))
    read = load_pipeline(text, functions=handed_in(made))
    assert read.to_yaml() == text
    return read


def equal(made: Pipeline) -> Pipeline:
    read = again(made)
    assert same(made, read) == []
    assert (list(read.inputs), list(read.outputs)) == (list(made.inputs), list(made.outputs))
    return read
