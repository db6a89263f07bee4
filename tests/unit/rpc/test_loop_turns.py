import asyncio

from hoverboard.rpc.loop_turns import Turns


async def test_what_many_begin_in_one_turn_is_bounded_and_each_gets_its_share() -> None:
    turns, begun = Turns(4), [0] * 5

    async def flood(index: int) -> None:
        while True:
            await turns.take()
            begun[index] += 1

    tasks = [asyncio.create_task(flood(index)) for index in range(5)]
    before, most = 0, 0
    for _ in range(200):
        await asyncio.sleep(0)
        most, before = max(most, sum(begun) - before), sum(begun)
    for task in tasks:
        task.cancel()
    assert most <= 8  # a turn of ours may see the end of one of theirs and the next
    assert sum(begun) > 500
    assert max(begun) - min(begun) < 10


async def test_what_is_larger_than_a_turn_goes_alone_and_what_gave_up_takes_no_room() -> None:
    turns = Turns(2)
    first = asyncio.create_task(turns.take(100))
    gone = asyncio.create_task(turns.take(100))
    kept = asyncio.create_task(turns.take())
    await asyncio.sleep(0)
    gone.cancel()
    async with asyncio.timeout(1):
        await kept
        await turns.take(2)
    assert first.done()
    assert gone.cancelled()
