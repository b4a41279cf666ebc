import pytest
from hypothesis import settings

# The first example of a kernel test may compile, and the machines are shared: no deadlines.
settings.register_profile("tfa-perf", deadline=None)
settings.load_profile("tfa-perf")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "nightly" in config.option.markexpr:
        return
    sides: dict[bool, list[pytest.Item]] = {True: [], False: []}
    for item in items:
        sides[item.get_closest_marker("nightly") is not None].append(item)
    config.hook.pytest_deselected(items=sides[True])
    items[:] = sides[False]
