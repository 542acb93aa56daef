"""The ClientApp: the clients of this package behind both of Flower's APIs.

Strategies with `aggregate_train` send an ArrayRecord and a ConfigRecord (Message API); strategies
with `aggregate_fit` send what a NumPyClient takes. One app answers both, with the same numbers.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.client import Client
from flwr.clientapp import ClientApp
from flwr.common import NDArrays, Scalar

from clients.honest import ROUND_KEY, HonestClient, round_of
from clients.learning.models import layers_of, places_of
from clients.memory import ContextMemory
from clients.roles import build_client, partition_of, role_of, settings_of
from clients.settings import Settings
from flwr_krum.boundary.records import from_record, to_record

# One thread per process: sums are then always formed in the same order, so results repeat to the
# byte, and clients that share a machine do not fight for its cores.
torch.set_num_threads(1)


def build_client_app(config: Mapping[str, Any] | None = None) -> ClientApp:
    """Build a ClientApp that serves `aggregate_train` and `aggregate_fit` strategies.

    Parameters
    ----------
    config : Mapping[str, Any], optional
        Defaults beneath the context's run config (kebab-case keys of `Settings`), for engines that
        carry no run config.

    Returns
    -------
    ClientApp
        Answers train, evaluate and query messages. A query is answered with the node's
        {"partition-id": int} in a MetricRecord "node", by which a server can name nodes stably.
    """
    defaults = dict(config or {})

    def settings_in(context: Context) -> Settings:
        settings = Settings.from_config({**defaults, **context.run_config})
        return settings_of(settings, context.node_config)

    def client_of(context: Context) -> HonestClient:
        settings = settings_in(context)
        partition_id = partition_of(settings, context.node_config)
        role = role_of(settings, partition_id, context.node_config)
        return build_client(settings, partition_id, role, ContextMemory(context.state))

    def client_fn(context: Context) -> Client:
        return client_of(context).to_client()

    numpy_client_app = ClientApp(client_fn=client_fn)
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        client = client_of(context)
        if "fitins.parameters" in message.content:
            reply = numpy_client_app(message, context)
        else:
            reply = Message(_fit_reply(client, message.content), reply_to=message)
        reply.content = client.spoiled(reply.content, _round_in(message.content))
        return reply

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        if "evaluateins.parameters" in message.content:
            return numpy_client_app(message, context)
        client = client_of(context)
        parameters, _ = parameters_in(message.content, client.settings)
        loss, num_examples, metrics = client.evaluate(parameters, config_in(message.content))
        answer = _metric_record(num_examples, {"loss": loss, **metrics})
        return Message(RecordDict({"metrics": answer}), reply_to=message)

    @app.query()
    def query(message: Message, context: Context) -> Message:
        partition_id = partition_of(settings_in(context), context.node_config)
        answer = MetricRecord({"partition-id": partition_id})
        return Message(RecordDict({"node": answer}), reply_to=message)

    return app


def _round_in(content: RecordDict) -> int:
    """Return the round that a training message of either API names."""
    named = [record for record in content.config_records.values() if ROUND_KEY in record]
    return round_of({ROUND_KEY: named[0][ROUND_KEY]} if named else {})  # type: ignore[dict-item]


def _fit_reply(client: HonestClient, content: RecordDict) -> RecordDict:
    parameters, places = parameters_in(content, client.settings)
    proposal, num_examples, metrics = client.fit(parameters, config_in(content))
    in_their_order = [proposal[place] for place in places]
    return fit_content(arrays_in(content), in_their_order, num_examples, metrics)


def parameters_in(content: RecordDict, settings: Settings) -> tuple[NDArrays, list[int]]:
    """Return the model that a message holds, in state-dict order whatever its own.

    Returns
    -------
    parameters : list of arrays
    places : list of int
        Where in it each of the message's arrays is.

    Raises
    ------
    ValueError
        If the arrays' keys are not those of the settings' model.
    """
    received = from_record(arrays_in(content))
    places = places_of(received, layers_of(settings.task, settings.model))
    ordered = dict(sorted(zip(places, received.values(), strict=True)))
    return list(ordered.values()), places


def fit_content(
    keys: Iterable[str], proposal: NDArrays, num_examples: int, metrics: dict[str, Scalar]
) -> RecordDict:
    """Return the content of a reply to a training message: what `fit` returns, under its names."""
    arrays = to_record(dict(zip(keys, proposal, strict=True)))
    return RecordDict({"arrays": arrays, "metrics": _metric_record(num_examples, metrics)})


def arrays_in(content: RecordDict) -> ArrayRecord:
    """Return the record "arrays", or the only ArrayRecord whatever its name."""
    records = content.array_records
    if "arrays" in records:
        return records["arrays"]
    if len(records) != 1:
        raise ValueError(
            f"the message has {len(records)} ArrayRecords ({', '.join(records) or 'none'}), "
            "expected one, or one that is named 'arrays'"
        )
    return next(iter(records.values()))


def config_in(content: RecordDict) -> dict[str, Any]:
    """Return the record "config", or the only ConfigRecord whatever its name."""
    records = content.config_records
    if "config" in records:
        return dict(records["config"])
    if len(records) > 1:
        raise ValueError(
            f"the message has {len(records)} ConfigRecords ({', '.join(records)}), "
            "expected one, or one that is named 'config'"
        )
    return {key: value for record in records.values() for key, value in record.items()}


def _metric_record(num_examples: int, metrics: dict[str, Scalar]) -> MetricRecord:
    # A NumPyClient may report text, a MetricRecord holds numbers only.
    numbers = {key: value for key, value in metrics.items() if isinstance(value, int | float)}
    return MetricRecord({"num-examples": num_examples, **numbers})


app = build_client_app()
