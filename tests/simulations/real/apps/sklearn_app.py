"""An app as Flower's scikit-learn template makes one, on data that are drawn: a regression."""

import warnings

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from hostile import hostile
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from flwr_krum.serverapp.strategy import MultiKrum  # in the template: FedAvg


def get_model() -> LogisticRegression:
    """Return a model of zeros for two classes of four features."""
    model = LogisticRegression(max_iter=5, warm_start=True)
    model.classes_ = np.arange(2)
    set_model_params(model, [np.zeros((1, 4)), np.zeros(1)])
    return model


def get_model_params(model: LogisticRegression) -> list[np.ndarray]:
    """Return coefficients and intercept."""
    return [model.coef_, model.intercept_]


def set_model_params(model: LogisticRegression, params: list[np.ndarray]) -> None:
    """Set coefficients and intercept."""
    model.coef_, model.intercept_ = params


def load_data(partition_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw examples of which the sum decides the class."""
    x = np.random.default_rng(partition_id).normal(size=(100, 4))
    return x, (x.sum(1) > 0).astype(int)


client_app = ClientApp(mods=[hostile])


@client_app.train()
def train(msg: Message, context: Context) -> Message:
    """Train the model on local data."""
    model = get_model()
    set_model_params(model, msg.content["arrays"].to_numpy_ndarrays())
    x, y = load_data(context.node_config["partition-id"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x, y)
    loss = log_loss(y, model.predict_proba(x), labels=[0, 1])
    metrics = MetricRecord({"num-examples": len(x), "train_logloss": loss})
    content = RecordDict({"arrays": ArrayRecord(get_model_params(model)), "metrics": metrics})
    return Message(content=content, reply_to=msg)


@client_app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    """Evaluate the model on local data."""
    model = get_model()
    set_model_params(model, msg.content["arrays"].to_numpy_ndarrays())
    x, y = load_data(context.node_config["partition-id"])
    metrics = MetricRecord({"num-examples": len(x), "test_accuracy": model.score(x, y)})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)


server_app = ServerApp()


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Main entry point for the ServerApp."""
    strategy = MultiKrum(
        num_malicious_nodes=context.run_config["byzantine"],
        journal=context.run_config["journal"],
    )
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(get_model_params(get_model())),
        num_rounds=context.run_config["num-server-rounds"],
        timeout=context.run_config["round-timeout"],
    )
