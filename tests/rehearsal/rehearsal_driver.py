"""Runs a bot of a few lines in so many worlds and prints the hash of each trace."""

from __future__ import annotations

import asyncio
import sys
from decimal import Decimal

from tbot_core.errors import BrokerError, Unavailable
from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.model.types import Leg, Order, OrderType, SignalId
from tbot_core.rehearsal.world import World

SENT = 30


async def trade(world: World, name: str) -> None:
    """Buy and sell now and then, cancel some of it, and read all that there is."""
    broker, chance = world.client(name), world.chances.stream(f"bot/{name}")
    number = 0
    while world.loop.time() < world.end:
        try:
            if number % 5 == 0:
                await broker.connect()
            for event in await broker.receive():
                world.add_trace_line(f"{event.kind} {event.client_order_id}")
            if number < SENT and world.loop.time() > world.quiet_from / 4:
                number += 1
                symbol = chance.one(world.market.symbols)
                order = Order(
                    client_order_id=f"{name}-{number}",
                    signal=SignalId(session=world.session.date, strategy="s", symbol=symbol, minute=number, rule="r"),
                    leg=Leg.ENTRY,
                    buy=chance.happens(0.6),
                    quantity=Decimal(chance.whole(1, 60)),
                    type=OrderType.MARKET,
                )
                await broker.submit(order, SendPermit(order, never_refuse))
                await broker.cancel(order.client_order_id)
            await broker.snapshot(world.start)
        except Unavailable as error:
            world.add_trace_line(f"{name} {error.message}")
            await broker_again(world, name)
        except BrokerError as error:
            world.add_trace_line(f"{name} {error.message}")
        await asyncio.sleep(20)


async def broker_again(world: World, name: str) -> None:
    """Connect anew, if that can be done."""
    try:
        await world.client(name).connect()
    except BrokerError as error:
        world.add_trace_line(f"{name} {error.message}")


async def bars(world: World) -> None:
    """Follow the feed."""
    async for minute in world.feed().minutes():
        world.add_trace_line(f"minute {minute.index} {minute.close.tolist()}")


async def main(world: World) -> None:
    """Everything at once."""
    async with asyncio.TaskGroup() as group:
        for name in world.names:
            group.create_task(trade(world, name))
        group.create_task(bars(world))


def traced(seed: int) -> str:
    """The hash of one world's trace."""
    world = World(seed)
    world.run(lambda: main(world))
    return world.trace_hash


if __name__ == "__main__":
    sys.stdout.write("\n".join(traced(seed) for seed in range(int(sys.argv[1]))))
