"""Every moment is charged once."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from askesis.metering import Activity, Meter, charging, current_meter, metered


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def test_of_several_activities_the_first_is_charged() -> None:
    clock = Hand()
    meter = Meter(clock)
    clock.time += 1  # other
    with meter.charge(Activity.ENVIRONMENT):
        clock.time += 2  # environment
        with meter.charge(Activity.SAMPLING):
            clock.time += 4  # sampling, though a world is being waited for
            with meter.charge(Activity.ENVIRONMENT):
                clock.time += 8  # still
        clock.time += 16  # environment
    clock.time += 32  # other
    taken = {label: seconds for label, seconds in meter.take().items() if seconds}
    assert taken == {"other": 33, "environment": 18, "sampling": 12}
    assert set(meter.take().values()) == {0.0}


def test_what_is_taken_is_gone_and_the_rest_goes_on() -> None:
    clock = Hand()
    meter = Meter(clock)
    with meter.charge(Activity.EVALUATION), meter.charge(Activity.SAMPLING):
        clock.time += 3
    clock.time += 5
    assert meter.take([Activity.OTHER]) == {"other": 5}
    clock.time += 7
    assert meter.take([Activity.OTHER, Activity.EVALUATION]) == {"other": 7, "evaluation": 3}


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from(list(Activity)[:-1]), st.booleans(), st.integers(0, 9)), max_size=30))
def test_the_seconds_add_up_to_the_time_that_has_passed(moves: list[tuple[Activity, bool, int]]) -> None:
    clock = Hand()
    meter = Meter(clock)
    under_way = dict.fromkeys(Activity, 0)
    under_way[Activity.OTHER] = 1
    expected = dict.fromkeys(Activity, 0.0)
    for activity, begins, seconds in moves:
        if begins:
            meter.enter(activity)
            under_way[activity] += 1
        elif under_way[activity]:
            meter.leave(activity)
            under_way[activity] -= 1
        clock.time += seconds
        expected[min(a for a in Activity if under_way[a])] += seconds
    taken = meter.take()
    assert taken == {activity.label: seconds for activity, seconds in expected.items()}
    assert sum(taken.values()) == clock.time - 100


def test_without_a_meter_nothing_is_charged() -> None:
    assert current_meter() is None
    with charging(Activity.STORE) as nothing:
        assert nothing is None


def test_tasks_charge_the_meter_that_they_were_born_under() -> None:
    clock = Hand()

    async def world(started: asyncio.Event, ended: asyncio.Event) -> None:
        with charging(Activity.ENVIRONMENT):
            started.set()
            await ended.wait()

    async def main() -> dict[str, float]:
        started, ended = asyncio.Event(), asyncio.Event()
        with metered(Meter(clock)) as meter:
            assert current_meter() is meter
            tasks = [asyncio.create_task(world(started, ended)) for _ in range(2)]
            await started.wait()
            clock.time += 5
            ended.set()
            await asyncio.gather(*tasks)
            clock.time += 1
        assert current_meter() is None
        return meter.take()

    taken = asyncio.run(main())
    assert taken["environment"] == 5 and taken["other"] == 1
