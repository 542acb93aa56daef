"""Attacks on a federation of one's own: a Flower mod that makes any ClientApp attack.

A mod sees what its own client receives and answers, so it is for attacks that know no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flwr.app
import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp.typing import ClientAppCallable, Mod

from flwr_krum.attacks.attack import MEANINGS, Attack, Need
from flwr_krum.attacks.written import parse_attack
from flwr_krum.boundary.bfloat16 import narrowed, widened
from flwr_krum.boundary.npy import decode
from flwr_krum.boundary.records import from_record, to_record
from flwr_krum.kernel.arrays import Array, Float64

SEEN: frozenset[Need] = frozenset({"own", "model", "memory"})
"""What an attack may need that a mod can give it."""

COUNT, MEMORY = "flwr-krum.attack", "flwr-krum.attack.memory"
"""Names in the context's state, before an attack's text: messages counted, what it remembers."""


def attack_mod(attack: str, seed: int = 0) -> Mod:
    """Return a Flower mod by which the clients of any ClientApp attack, each for itself.

    It changes the float arrays of every training reply: what they are more than those received is
    the honest update, and the attack's row is sent in its place, in the reply's dtypes and shapes;
    what a dtype cannot hold becomes infinite. Integers stay as they are. The round is what the
    message's config has as "server-round" or "server_round", or else the number of training
    messages the client received. The attack's memory is kept in the context's state. Numbers are
    drawn anew for each node and training message, and are the same in each run.

    Parameters
    ----------
    attack : str
        As `parse_attack` reads it.
    seed : int (default: 0)
        Of what the attack draws.

    Raises
    ------
    ValueError
        If the text is no attack, or the attack would need to see more than one client, or to
        change its data; in a reply, if its float arrays are not those that were received.

    Examples
    --------
    >>> from flwr.clientapp import ClientApp
    >>> app = ClientApp(mods=[attack_mod("sign-flip(scale=10)")])
    """
    chosen = parse_attack(attack)
    missing = lacking(chosen)
    if missing:
        raise ValueError(
            f"attack is {attack!r}, which needs {' and '.join(missing)}; "
            "a mod sees what its own client receives and answers"
        )

    # Of several mods in one app, each counts and remembers for itself.
    counted, noted = f"{COUNT}.{attack}", f"{MEMORY}.{attack}"

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        if not message.metadata.message_type.startswith(MessageType.TRAIN):
            return call_next(message, context)
        # An app may take the arrays out of the message: here they are held.
        received = {name: dict(r) for name, r in message.content.array_records.items()}
        count = _counted(context.state, counted)
        server_round = _round_in(message.content, count)
        reply = call_next(message, context)
        if not reply.has_content() or not chosen.is_at_work(server_round):
            return reply
        name, sent = _model_in(reply.content)
        model = {key: decode(a.data) for key, a in _counterpart(received, name).items()}
        w, x = _flat(model, sent), _flat(sent, sent)
        with np.errstate(over="ignore", invalid="ignore"):
            own = (x - w)[None]
        memory = dict(from_record(context.state.array_records.get(noted, ArrayRecord())))
        rng = np.random.default_rng([seed, context.node_id, count])
        (row,) = chosen(own, 1, rng, own=own, model=w, memory=memory, server_round=server_round)
        if "memory" in chosen.needs:
            context.state[noted] = to_record(memory)
        with np.errstate(over="ignore", invalid="ignore"):
            reply.content[name] = to_record(_with(sent, w + row))
        reply.content = chosen.spoiled(reply.content)
        return reply

    return mod


def lacking(attack: Attack) -> list[str]:
    """Return what an attack would need that a mod does not see, in words."""
    whose = {"none": [], "own": [], "colluding": ["the updates of all attackers"]}
    found = whose.get(attack.knowledge, ["the honest updates of all clients"])
    found = found + [MEANINGS[need] for need in sorted(attack.needs - SEEN)]
    return [*found, "a client that trains on other data"] if attack.changes_data else found


def _counted(state: RecordDict, name: str) -> int:
    """Count a training message, and return how many there were, with this one."""
    before = state.config_records.get(name, ConfigRecord()).get("messages", 0)
    count = before + 1 if isinstance(before, int) else 1
    state[name] = ConfigRecord({"messages": count})
    return count


def _round_in(content: RecordDict, otherwise: int) -> int:
    for record in content.config_records.values():
        for key in ("server-round", "server_round"):
            found = record.get(key)
            if isinstance(found, int) and found >= 1:
                return int(found)
    return otherwise


def _model_in(content: RecordDict) -> tuple[str, dict[str, Array]]:
    """Return the name and the arrays of a reply's model: of "arrays", or of its first record."""
    records = content.array_records
    if not records:
        raise ValueError("the reply has no ArrayRecord, expected one that holds the model")
    name = "arrays" if "arrays" in records else next(iter(records))
    return name, from_record(records[name])


def _counterpart(
    received: Mapping[str, Mapping[str, flwr.app.Array]], name: str
) -> Mapping[str, flwr.app.Array]:
    """Return the record of a message that holds the model: of the reply's name, or the only one."""
    if name in received:
        return received[name]
    if len(received) != 1:
        raise ValueError(
            f"the message has {len(received)} ArrayRecords ({', '.join(received) or 'none'}), "
            f"expected one, or one that is named {name!r} as the reply's"
        )
    return next(iter(received.values()))


def _is_float(array: Array) -> bool:
    return array.dtype.kind in "fV"  # V is bfloat16


def _flat(arrays: Mapping[str, Array], sent: Mapping[str, Array]) -> Float64:
    """Return as one vector what are the float arrays of a reply."""
    parts = [np.zeros(0)]
    for key, array in sent.items():
        if _is_float(array):
            found = arrays[key].shape if key in arrays else None
            if found != array.shape:
                raise ValueError(
                    f"the reply's array {key!r} is of shape {array.shape}, "
                    f"the model's is {'missing' if found is None else found}"
                )
            parts.append(widened(arrays[key]).ravel().astype(np.float64))
    return np.concatenate(parts)


def _with(sent: Mapping[str, Array], values: Float64) -> dict[str, Array]:
    """Return a reply's arrays with other values in those of floats."""
    changed, start = dict(sent), 0
    for key, array in sent.items():
        if _is_float(array):
            part = values[start : start + array.size]
            changed[key] = _cast(part, array.dtype).reshape(array.shape)
            start += array.size
    return changed


def _cast(values: Float64, dtype: np.dtype[Any]) -> Array:
    """Return numbers in a dtype; what it cannot hold is infinite."""
    if dtype.kind != "V":
        return values.astype(dtype)
    single = values.astype(np.float32)
    finite = np.isfinite(single)
    bits = narrowed(np.where(finite, single, np.float32(0))).view(np.uint16)
    upper = (single.view(np.uint32) >> 16).astype(np.uint16)
    return np.where(finite, bits, upper).view(dtype)
