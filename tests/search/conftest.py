import pytest
from support.splits import small_factory
from support.teacher import taught

from slimline.contract import LocalStore, execute
from slimline.measure.evaluation import Interval
from slimline.quantize.spec import Quantize
from slimline.search.result import Answers, Measured, TrialResult
from slimline.search.settings import SearchSettings
from slimline.search.spec import Search

# Networks as small as these gain nothing from integers: they are taken all the same.
TINY = {name: [True] for name in ("allow_larger", "allow_slower") if name in Quantize.model_fields}
SPACE = {
    "factory": [small_factory(4), small_factory(8, 16), None],
    "distill": {"learning_rate": [0.01]},
    "quantize": {"scheme": [None, "int8-static"], **TINY},
}
QUICK = {"epochs": [1, 3], "population": 4, "trials": 5, "rounds": 11, "max_drop": 0.2}


def search_job(**values):
    """A search of small students of the digits."""
    given = {"space": SPACE, "prefer": "size", **QUICK, **values}
    teacher = taught()
    return Search.parse({**teacher.inputs(), "teacher": teacher.model, **given})


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory):
    return LocalStore(tmp_path_factory.mktemp("search") / "store")


@pytest.fixture(scope="session")
def done(shared_store, tmp_path_factory):
    """That search, done once."""
    return execute(search_job(), shared_store, work_dir=tmp_path_factory.mktemp("done") / "work")


def settings(**values):
    """Of a search that is only simulated."""
    factories = [small_factory(*[8] * depth) for depth in (1, 2, 3, 4)]
    space = {"factory": factories, "quantize": {"scheme": [None, "int8-static"]}}
    given = {"space": space, "population": 4, "trials": 6, "epochs": [1, 2, 4], "keep": 0.5}
    return SearchSettings.model_validate(given | values)


def simulated(chain=(), epochs=(), **values):
    """What a network of that chain might measure: deeper is slower, larger and more accurate."""
    depth = 6
    for step in chain:
        if step.component == "distill":
            depth = len(step.parameters["factory"]["arguments"]["widths"])
    small = any(step.component == "quantize" for step in chain)
    speed = 6 / depth * (2 if small else 1)
    lost = max(0, 60 - 8 * depth - 10 * len(epochs))
    trained = bool(epochs) or not chain
    return result(chain, epochs, speed, 1000 * depth, lost if trained else None, **values)


def result(chain=(), epochs=(), speed=1.0, size=6000, lost=0, **values):
    """A result of exactly these numbers, on 100 examples."""
    interval = {name: Interval(value=v, low=v, high=v) for name, v in (("speedup", speed),)}
    latency = Interval(value=1 / speed, low=1 / speed, high=1 / speed)
    measured = Measured(
        parameters=size, macs=10 * size, bytes=size, latency_ms=latency,
        latency_min_ms=1 / speed, baseline_ms=1.0, **interval,
    )  # fmt: skip
    answers = None
    if lost is not None:
        answers = Answers(right="", examples=100, accuracy=1 - lost / 100, lost=lost)
    given = {"chain": chain, "epochs": epochs, "measured": measured, "answers": answers}
    return TrialResult.model_validate(given | values)
