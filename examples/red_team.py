"""Red-teaming one's own ClientApp: one mod, and two of its nodes attack.

python examples/red_team.py "sign-flip(scale=10)"
"""

import sys

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable, Mod
from message_api import honest_reply, partition, server_app

from flwr_krum.attacks import attack_mod


def on_nodes(hostile: set[int], mod: Mod) -> Mod:
    """Return a mod that is at work on some nodes alone."""

    def on_some(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        if context.node_config["partition-id"] in hostile:
            return mod(message, context, call_next)
        return call_next(message, context)

    return on_some


def attacked(attack: str) -> ClientApp:
    """Return the app with honest clients, two of which are made to attack."""
    app = ClientApp(mods=[on_nodes({3, 4}, attack_mod(attack))])
    app.train()(honest_reply)
    app.query()(partition)
    return app


if __name__ == "__main__":
    from flwr.simulation import run_simulation

    attack = sys.argv[1] if len(sys.argv) > 1 else "sign-flip(scale=10)"
    run_simulation(server_app, attacked(attack), num_supernodes=10)
