"""A classifier of scikit-learn on handwritten digits; two of ten clients swap their labels.

python examples/scikit_learn.py
"""

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from message_api import names_of, partition
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier

from flwr_krum.serverapp.strategy import MultiKrum

LABELS = np.arange(10)
LIARS = {0, 1}
X, Y = load_digits(return_X_y=True)
X = X / 16.0
TRAIN, TEST = np.arange(1400), np.arange(1400, len(X))


def classifier(record: ArrayRecord) -> SGDClassifier:
    """Return a classifier whose weights are those of a record."""
    model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.05, random_state=0)
    model.classes_ = LABELS
    model.coef_, model.intercept_ = (array.copy() for array in record.to_numpy_ndarrays())
    return model


def accuracy(record: ArrayRecord) -> float:
    """Return the share of the test digits that a model reads."""
    return float(classifier(record).score(X[TEST], Y[TEST]))


client_app = ClientApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Go once over the client's own digits."""
    place = context.node_config["partition-id"]
    own = TRAIN[place::10]
    labels = 9 - Y[own] if place in LIARS else Y[own]
    model = classifier(message.content["arrays"]).partial_fit(X[own], labels)
    arrays = ArrayRecord([model.coef_, model.intercept_])
    metrics = MetricRecord({"num-examples": len(own)})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


client_app.query()(partition)
server_app = ServerApp()


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Train for ten rounds."""
    names = names_of(grid, 10)
    strategy = MultiKrum(
        num_malicious_nodes=2,
        min_train_nodes=10,
        min_available_nodes=10,
        fraction_evaluate=0.0,
        client_id=names.__getitem__,
    )
    initial = ArrayRecord([np.zeros((10, 64)), np.zeros(10)])
    result = strategy.start(grid, initial, num_rounds=10)
    print(f"accuracy: {accuracy(result.arrays):.3f}")


if __name__ == "__main__":
    from flwr.simulation import run_simulation

    run_simulation(server_app, client_app, num_supernodes=10)
