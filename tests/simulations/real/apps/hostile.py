"""What is wrong with a node, as its node config says: a mod of any ClientApp."""

import time

from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable
from flwr.supernode.runtime import run_clientapp

from flwr_krum.attacks import attack_mod, malforming_mod

FOR_EVER = 24 * 3600.0


def hostile(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Attack ("attack"), break replies ("fault"), or upload for ever from a round on."""
    config = context.node_config
    if "attack" in config:
        return attack_mod(config["attack"])(message, context, call_next)
    if "fault" in config:
        return malforming_mod(config["fault"])(message, context, call_next)
    if "drips-from" in config and is_from(config["drips-from"], message):
        run_clientapp.push_objects = drip
    return call_next(message, context)


def is_from(first: int, message: Message) -> bool:
    """Say whether a message is of a round, or of a later one."""
    return message.content["config"]["server-round"] >= first


def drip(objects, push, **_):
    """Take the place of Flower's upload: the reply is announced, and its arrays never come."""
    for name in list(objects):
        time.sleep(FOR_EVER)
        push(name, objects[name].deflate())
